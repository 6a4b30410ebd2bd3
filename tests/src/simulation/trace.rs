//! What happened, in order: a hash of all of it, and the last of it for people.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use xenvelope_grant::seam::Way;

use super::faults::Fault;

/// Who does something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Actor {
    /// The guest of that number.
    Guest(u8),
    /// The driver domain.
    Backend,
    /// The card.
    Card,
    /// The copy engine.
    Engine,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Note {
    /// Somebody was polled, and whether there was anything to do.
    Poll(Actor, bool),
    /// So many events were delivered.
    Events(Actor, u32),
    /// A stack sent a frame: from, to (255: all), its number in the flow, its length.
    Sent(u8, u8, u32, u32),
    /// A stack got a frame: at, from, to, its number in the flow, its length.
    Got(u8, u8, u8, u32, u32),
    /// A guest sends a frame on its way: from, to, its number in the flow, by which way, and
    /// whether in an envelope.
    Leaves(u8, u8, u32, Way, bool),
    /// The card brought a frame: to which domid, from, to, its number in the flow.
    Brought(u16, u8, u8, u32),
    /// Something went wrong, with a number that says more.
    Fault(Fault, u64),
    /// A frame was granted: by whom, to whom, its first reference.
    Granted(u16, u16, u32),
    /// A guest begins: number, domid.
    Begins(u8, u16),
    /// The manager was asked for something: for people.
    Asked(String),
    /// Faults have stopped, traffic has stopped.
    Settling,
}

/// The trace of a run.
#[derive(Default)]
pub struct Trace {
    hasher: RefCell<DefaultHasher>,
    notes: Cell<u64>,
    keep: usize,
    last: RefCell<VecDeque<(u64, Note)>>,
}

impl Trace {
    /// One that keeps so many of the last notes.
    pub fn keeping(keep: usize) -> Trace {
        Trace { keep, ..Trace::default() }
    }

    /// Something happened at `now_ns`.
    pub fn note(&self, now_ns: u64, note: Note) {
        let mut hasher = self.hasher.borrow_mut();
        now_ns.hash(&mut *hasher);
        note.hash(&mut *hasher);
        self.notes.set(self.notes.get() + 1);
        if self.keep > 0 {
            let mut last = self.last.borrow_mut();
            if last.len() == self.keep {
                last.pop_front();
            }
            last.push_back((now_ns, note));
        }
    }

    /// The hash of all that happened.
    pub fn hash(&self) -> u64 {
        self.hasher.borrow().finish()
    }

    /// How much happened.
    pub fn notes(&self) -> u64 {
        self.notes.get()
    }

    /// The last of it, one line each.
    pub fn lines(&self) -> Vec<String> {
        let line =
            |(at, note): &(u64, Note)| format!("{:>12}.{:03} us  {note:?}", at / 1000, at % 1000);
        self.last.borrow().iter().map(line).collect()
    }
}
