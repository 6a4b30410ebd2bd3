//! What goes wrong, how often, and how often it did.
//!
//! Each kind of fault draws from a stream of its own, so that one can be switched off without
//! changing what the others do: that is how a failure is made small.

use std::cell::{Cell, RefCell};

use crate::lab::Random;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(usize)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// All of them, in order.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// Its name in reports and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// The card loses an envelope.
    EnvelopeLost = "envelope-lost",
    /// The card delivers an envelope twice.
    EnvelopeDuplicated = "envelope-duplicated",
    /// The card keeps an envelope for a while: others overtake it.
    EnvelopeLate = "envelope-late",
    /// The card loses a frame that is no envelope.
    FrameLost = "frame-lost",
    /// An event is not sent. A frontend looks at its rings every 20 ms without one, a backend at
    /// each beat of its heart (500 ms), and so it is recovered.
    EventLost = "event-lost",
    /// An event is sent twice.
    EventDuplicated = "event-duplicated",
    /// The event is there, but its domain is not woken until something else wakes it. As above.
    EventLate = "event-late",
    /// A domain is woken for nothing.
    EventSpurious = "event-spurious",
    /// One operation of a grant copy fails, with any of Xen's codes.
    CopyStatus = "copy-status",
    /// A whole grant copy call fails.
    CopyCall = "copy-call",
    /// The grant table is full.
    GrantRefused = "grant-refused",
    /// There is no buffer.
    BufferRefused = "buffer-refused",
    /// A peer is inside the page that is to be taken back.
    RevokePinned = "revoke-pinned",
    /// A store event is told late.
    StoreLate = "store-late",
    /// A guest ends between two steps. It comes back, with its address.
    GuestCrash = "guest-crash",
    /// A guest ends in the middle of what another does.
    CrashInside = "crash-inside",
    /// The one that comes back has the id of the one that ended. At the earliest once all have
    /// had the time to take back what was granted to that id, as on Xen, where ids come round.
    DomidReused = "domid-reused",
    /// A guest's agent is killed and another one begins.
    AgentRestart = "agent-restart",
    /// The driver domain's process is killed. Another one begins.
    BackendKill = "backend-kill",
    /// The driver domain's process ends as it would like to. Another one begins.
    BackendShutdown = "backend-shutdown",
    /// A VF is pulled, and plugged again later.
    VfUnplug = "vf-unplug",
    /// The manager is asked for another way of a pair.
    RouteChange = "route-change",
    /// Policy parts a guest from the others, or brings it back.
    PolicyChange = "policy-change",
    /// A guest's processor does something else.
    GuestAsleep = "guest-asleep",
    /// The driver domain's does.
    BackendAsleep = "backend-asleep",
    /// The card stands still.
    CardAsleep = "card-asleep",
    /// Nobody runs for a while.
    TimeJump = "time-jump",
    /// A stack sends more than any ring holds.
    Burst = "burst",
    /// A stack does not take what has come.
    SlowStack = "slow-stack",
}

/// Chances are in so many.
pub const OF: u64 = 1 << 20;

/// The faults of one run.
pub struct Faults {
    rates: Vec<Cell<u64>>,
    streams: Vec<RefCell<Random>>,
    counts: Vec<Cell<u64>>,
    /// Failed copies by Xen's code: 1, and 0 to -13.
    statuses: RefCell<[u64; 16]>,
    on: Cell<bool>,
}

impl Faults {
    /// With a chance for each kind, in [`OF`].
    pub fn new(seed: u64, rates: &[u64]) -> Faults {
        let kinds = Fault::ALL.len();
        Faults {
            rates: (0..kinds)
                .map(|kind| Cell::new(rates.get(kind).copied().unwrap_or(0)))
                .collect(),
            streams: (0..kinds as u64)
                .map(|kind| {
                    RefCell::new(Random(seed ^ (kind + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93)))
                })
                .collect(),
            counts: vec![Cell::new(0); kinds],
            statuses: RefCell::default(),
            on: Cell::new(true),
        }
    }

    /// Whether it happens now.
    pub fn hit(&self, kind: Fault) -> bool {
        let rate = self.rates[kind as usize].get();
        if rate == 0 || !self.on.get() {
            return false;
        }
        let hit = self.streams[kind as usize].borrow_mut().bits() % OF < rate;
        if hit {
            self.count(kind);
        }
        hit
    }

    /// Counts one that happens.
    pub fn count(&self, kind: Fault) {
        let count = &self.counts[kind as usize];
        count.set(count.get() + 1);
    }

    /// A number below `end` for a fault of that kind.
    pub fn below(&self, kind: Fault, end: u64) -> u64 {
        self.streams[kind as usize].borrow_mut().below(end.max(1))
    }

    /// Some nanoseconds from `from` to `to`, small ones as likely as large ones.
    pub fn span(&self, kind: Fault, from: u64, to: u64) -> u64 {
        let doublings = (to / from.max(1)).max(1).ilog2() as u64;
        let base = from << self.below(kind, doublings + 1);
        (base + self.below(kind, base)).min(to)
    }

    /// The code of a failed copy: each of Xen's, and that nothing was done.
    pub fn status(&self) -> i16 {
        let which = self.below(Fault::CopyStatus, 14);
        self.statuses.borrow_mut()[which as usize] += 1;
        if which == 0 { 1 } else { -(which as i16) }
    }

    /// Failed copies: by which code, how many.
    pub fn statuses(&self) -> [u64; 16] {
        *self.statuses.borrow()
    }

    /// Whether that kind can happen in this run at all.
    pub fn rate(&self, kind: Fault) -> u64 {
        self.rates[kind as usize].get()
    }

    /// Takes it out.
    pub fn disable(&self, kind: Fault) {
        self.rates[kind as usize].set(0);
    }

    /// From now on nothing goes wrong any more.
    pub fn stop(&self) {
        self.on.set(false);
    }

    /// Whether things may go wrong still.
    pub fn are_on(&self) -> bool {
        self.on.get()
    }

    /// How often each kind happened.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(Cell::get).collect()
    }

    /// How often that kind happened.
    pub fn happened(&self, kind: Fault) -> u64 {
        self.counts[kind as usize].get()
    }
}
