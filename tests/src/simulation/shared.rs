//! What everybody in a run shares: the clock, chance, what is known of who granted what.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xenvelope_grant::seam::{Instant, Segment};
use xenvelope_grant::{DomId, Gref, Peer};
use xenvelope_hypervisor_sim::machine::Machine;

use super::faults::{Fault, Faults};
use super::host::Known;
use super::oracles::Oracles;
use super::trace::{Note, Trace};
use crate::lab::Random;

/// Who has a domid, and in which life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// The guest's number.
    pub guest: u8,
    /// Never the same twice.
    pub birth: u64,
}

/// Something is broken on purpose, to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// A byte of a frame is another when it is delivered.
    FlippedByte,
    /// A frame is lost on the card, and nobody counts it.
    LostQuietly,
    /// A frame is delivered twice.
    DeliveredTwice,
    /// A frame is delivered before the one in front of it.
    Overtaken,
    /// What was granted is not taken back, and the frontend is told that it was.
    GrantKept,
    /// A guest's links stay down.
    Deaf,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 6] = [
        Sabotage::FlippedByte,
        Sabotage::LostQuietly,
        Sabotage::DeliveredTwice,
        Sabotage::Overtaken,
        Sabotage::GrantKept,
        Sabotage::Deaf,
    ];
}

/// What a run shares.
pub struct Shared {
    /// The hypervisor.
    pub machine: Arc<Machine>,
    /// What goes wrong.
    pub faults: Faults,
    /// What happens.
    pub trace: Trace,
    /// What must hold.
    pub oracles: Oracles,
    /// Whether the host has a copy engine.
    pub has_engine: bool,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    now: Cell<u64>,
    random: RefCell<Random>,
    granted: RefCell<Known>,
    exported: RefCell<Known>,
    lives: RefCell<BTreeMap<u16, Life>>,
    named: RefCell<BTreeMap<(u16, u64), u64>>,
    samples: Cell<u64>,
    /// Flows whose frames overtook each other on the card, by fault.
    pub overtaken: RefCell<BTreeSet<(u8, u8)>>,
    /// Frames that faults lost, or took out of a ring that ended.
    pub lost: Cell<u64>,
    /// Frames that faults made.
    pub made: Cell<u64>,
    /// Events that drivers took.
    pub events: Cell<u64>,
}

impl Shared {
    /// Of a run that begins.
    pub fn new(
        machine: Arc<Machine>,
        faults: Faults,
        trace: Trace,
        random: Random,
        has_engine: bool,
        sabotage: Option<Sabotage>,
    ) -> Shared {
        Shared {
            machine,
            faults,
            trace,
            oracles: Oracles::default(),
            has_engine,
            sabotage,
            now: Cell::new(1_000_000),
            random: RefCell::new(random),
            granted: RefCell::default(),
            exported: RefCell::default(),
            lives: RefCell::default(),
            named: RefCell::default(),
            samples: Cell::new(0),
            overtaken: RefCell::default(),
            lost: Cell::new(0),
            made: Cell::new(0),
            events: Cell::new(0),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant(self.now.get())
    }

    /// Time passes.
    pub fn pass(&self, ns: u64) {
        self.now.set(self.now.get() + ns);
    }

    /// What drivers draw.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().bits()
    }

    /// Something happened.
    pub fn note(&self, note: Note) {
        self.trace.note(self.now.get(), note);
    }

    /// Whether something goes wrong now. `detail` says more in the trace.
    pub fn hit(&self, fault: Fault, detail: u64) -> bool {
        let hit = self.faults.hit(fault);
        if hit {
            self.note(Note::Fault(fault, detail));
        }
        hit
    }

    /// A domain begins.
    pub fn begins(&self, domid: DomId, life: Life) {
        self.lives.borrow_mut().insert(domid.0, life);
        self.note(Note::Begins(life.guest, domid.0));
    }

    /// Who has that id, or had it last.
    pub fn life(&self, domid: DomId) -> Option<Life> {
        self.lives.borrow().get(&domid.0).copied()
    }

    /// Whether the manager's name for a peer is that of one life only.
    pub fn named(&self, peer: Peer, birth: u64) -> bool {
        let key = (peer.domid.0, peer.incarnation);
        *self.named.borrow_mut().entry(key).or_insert(birth) == birth
    }

    /// Whether this one of the expensive looks is taken: one in eight.
    pub fn samples(&self) -> bool {
        self.samples.set(self.samples.get() + 1);
        self.samples.get().is_multiple_of(8)
    }

    /// A frame was granted.
    pub fn grants_made(&self, by: DomId, segments: &[Segment], to: DomId) {
        let birth = self.life(to).map_or(0, |life| life.birth);
        let mut granted = self.granted.borrow_mut();
        for segment in segments {
            granted.insert((by.0, segment.gref.0), (to, birth));
        }
    }

    /// A frame is being taken back.
    pub fn grants_ended(&self, by: DomId, segments: &[Segment]) {
        let mut granted = self.granted.borrow_mut();
        for segment in segments {
            granted.remove(&(by.0, segment.gref.0));
        }
    }

    /// What was granted by that reference: to whom, in which life.
    pub fn grant(&self, by: DomId, gref: Gref) -> Option<(DomId, u64)> {
        self.granted.borrow().get(&(by.0, gref.0)).copied()
    }

    /// A ring was shared.
    pub fn exported(&self, by: DomId, refs: &[Gref], to: DomId) {
        let mut exported = self.exported.borrow_mut();
        for gref in refs {
            exported.insert((by.0, gref.0), (to, 0));
        }
    }

    /// Whether a grant is known, as a frame's or as a ring's.
    pub fn knows(&self, by: DomId, gref: Gref, to: DomId) -> bool {
        let key = (by.0, gref.0);
        self.granted.borrow().get(&key).is_some_and(|known| known.0 == to)
            || self.exported.borrow().get(&key).is_some_and(|known| known.0 == to)
    }

    /// A domain is gone, and what it granted.
    pub fn ended(&self, domid: DomId) {
        self.granted.borrow_mut().retain(|(by, _), _| *by != domid.0);
        self.exported.borrow_mut().retain(|(by, _), _| *by != domid.0);
    }

    /// Drivers took so many events.
    pub fn events_taken(&self, count: u64) {
        self.events.set(self.events.get() + count);
    }

    /// A flow's frames may overtake each other from now on.
    pub fn overtakes(&self, from: u8, to: u8) {
        self.overtaken.borrow_mut().insert((from, to));
    }
}
