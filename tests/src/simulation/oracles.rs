//! What must hold, how often it was looked at, and what did not.

use std::cell::{Cell, RefCell};

macro_rules! oracles {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that must hold.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(usize)]
        pub enum Oracle { $($(#[$doc])* $name,)* }

        impl Oracle {
            /// All of them, in order.
            pub const ALL: &[Oracle] = &[$(Oracle::$name,)*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Oracle::$name => $text,)* }
            }
        }
    };
}

oracles! {
    /// Every byte delivered is the byte sent, by who it says sent it, to whom it was sent.
    Bytes = "bytes",
    /// Nothing is delivered twice (rule 6).
    Once = "once",
    /// Frames of a flow are delivered in the order in which they were sent (rule 6).
    Order = "order",
    /// What is granted for a frame is read-only and for a domain that the manager named, in the
    /// life that the manager named (rules 1, 4 and 5).
    Granted = "granted-to-the-right-one",
    /// Whoever a frame was granted to finds nothing in the page that was meant for others (rule
    /// 1): it reads all that the grant lets it.
    Residue = "no-residue-in-pages",
    /// A copy that succeeds reads what was granted to that life of the reader's id (rules 2, 5).
    CopyRight = "copied-with-right",
    /// No grant is there that nobody knows of (rule 3).
    KnownGrants = "grants-known",
    /// Never more delivered and dropped than was sent, and at rest exactly as much (rule 6).
    Conservation = "conservation",
    /// Queues, grants and pools are within their limits (rule 7).
    Bounded = "bounded",
    /// Nobody here breaks the protocol, so nobody is taken for one who does (rule 7).
    Honest = "nobody-accused",
    /// At rest nothing is queued, outstanding or pinned (rule 3).
    Quiet = "quiet-at-rest",
    /// At rest every grant that is left is a ring's or a posted buffer's (rule 3).
    Reclaimed = "grants-reclaimed",
    /// At rest every link is up.
    LinksUp = "links-up",
    /// At rest a fresh frame of every pair arrives.
    FreshFrames = "fresh-frames-arrive",
    /// When all guests have ended, the driver domain keeps nothing of them (rules 3, 7).
    TornDown = "torn-down",
    /// Nobody panics, and no run lasts for ever (rule 7).
    NoPanic = "no-panic",
}

/// Something that must hold did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What must hold.
    pub oracle: Oracle,
    /// What was seen.
    pub what: String,
    /// At which step.
    pub step: u64,
}

/// The oracles of one run.
pub struct Oracles {
    counts: Vec<Cell<u64>>,
    first: RefCell<Option<Violation>>,
    /// Steps so far.
    pub step: Cell<u64>,
}

impl Default for Oracles {
    fn default() -> Self {
        let counts = vec![Cell::new(0); Oracle::ALL.len()];
        Oracles { counts, first: RefCell::default(), step: Cell::new(0) }
    }
}

impl Oracles {
    /// One evaluation. The first that does not hold is kept.
    pub fn check(&self, oracle: Oracle, holds: bool, what: impl FnOnce() -> String) {
        let count = &self.counts[oracle as usize];
        count.set(count.get() + 1);
        if !holds {
            let mut first = self.first.borrow_mut();
            if first.is_none() {
                *first = Some(Violation { oracle, what: what(), step: self.step.get() });
            }
        }
    }

    /// The first violation.
    pub fn violation(&self) -> Option<Violation> {
        self.first.borrow().clone()
    }

    /// Whether there was none.
    pub fn all_hold(&self) -> bool {
        self.first.borrow().is_none()
    }

    /// Evaluations of each.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(Cell::get).collect()
    }
}
