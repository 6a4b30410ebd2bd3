//! What was sent in each flow, and what has arrived of it.

use std::collections::BTreeMap;

use super::oracles::Oracle;
use super::shared::{Sabotage, Shared};
use super::trace::Note;
use super::traffic::{ALL, Frames, MOST};

/// Numbers of each flow that are kept for the end of the run.
const KEPT: u32 = 512;

/// What has arrived of one flow at one guest.
#[derive(Default)]
struct Arrived {
    /// One more than the highest number.
    end: u32,
    /// Frames with numbers below are those that may overtake each other.
    excused: u32,
    seen: Vec<u64>,
}

/// All flows of a run.
pub struct Deliveries {
    frames: Frames,
    strict_order: bool,
    /// The next number of each flow: from, to.
    next: BTreeMap<(u8, u8), u32>,
    /// By receiver, from, to.
    arrived: BTreeMap<(u8, u8, u8), Arrived>,
    held: Option<(u8, Vec<u8>)>,
    came: u64,
}

impl Deliveries {
    /// No flow yet.
    pub fn new(frames: Frames, strict_order: bool) -> Deliveries {
        Deliveries {
            frames,
            strict_order,
            next: BTreeMap::new(),
            arrived: BTreeMap::new(),
            held: None,
            came: 0,
        }
    }

    /// The number and length of the next frame of a flow, unless it has had all that it may.
    pub fn next(&self, from: u8, to: u8) -> Option<(u32, usize)> {
        let number = self.next.get(&(from, to)).copied().unwrap_or(0);
        (number < MOST - KEPT).then(|| (number, self.frames.length(from, to, number)))
    }

    /// The number of the next frame of a flow that every way carries.
    pub fn next_ordinary(&self, from: u8, to: u8) -> Option<(u32, usize)> {
        let first = self.next.get(&(from, to)).copied().unwrap_or(0);
        (first..MOST)
            .map(|number| (number, self.frames.length(from, to, number)))
            .find(|(_, length)| (60..=1514).contains(length))
    }

    /// Writes a frame.
    pub fn write(&self, from: u8, to: u8, number: u32, out: &mut [u8]) {
        self.frames.write(from, to, number, out);
    }

    /// It was sent.
    pub fn sent(&mut self, from: u8, to: u8, number: u32) {
        self.next.insert((from, to), number + 1);
    }

    /// Whether that frame has arrived at whom it was sent to.
    pub fn has(&self, from: u8, to: u8, number: u32) -> bool {
        self.arrived.get(&(to, from, to)).is_some_and(|flow| flow.has(number))
    }

    /// What is on its way to that guest now may be overtaken.
    pub fn excuse(&mut self, at: u8) {
        for ((from, to), next) in &self.next {
            if [at, ALL].contains(to) && *from != at {
                self.arrived.entry((at, *from, *to)).or_default().excused = *next;
            }
        }
    }

    /// That guest's interface begins anew: what it has sent so far may be overtaken, since nobody
    /// knows any more which way it went.
    pub fn excuse_sender(&mut self, from: u8, guests: u8) {
        for ((_, to), next) in self.next.range((from, 0)..=(from, u8::MAX)) {
            let receivers = if *to == ALL { 0..guests } else { *to..to + 1 };
            for at in receivers.filter(|at| *at != from) {
                self.arrived.entry((at, from, *to)).or_default().excused = *next;
            }
        }
    }

    /// A stack has got a frame.
    pub fn got(&mut self, shared: &Shared, at: u8, bytes: &[u8]) {
        self.came += 1;
        match shared.sabotage {
            Some(Sabotage::FlippedByte) if self.came.is_multiple_of(50) && bytes.len() > 20 => {
                let mut bytes = bytes.to_vec();
                bytes[18] ^= 1;
                self.judge(shared, at, &bytes);
            }
            Some(Sabotage::DeliveredTwice) if self.came.is_multiple_of(50) => {
                self.judge(shared, at, bytes);
                self.judge(shared, at, bytes);
            }
            Some(Sabotage::Overtaken) if self.came.is_multiple_of(8) && self.held.is_none() => {
                self.held = Some((at, bytes.to_vec()));
            }
            _ => {
                self.judge(shared, at, bytes);
                if let Some((_, held)) =
                    self.held.take_if(|(by, held)| *by == at && held[..12] == bytes[..12])
                {
                    self.judge(shared, at, &held);
                }
            }
        }
    }

    fn judge(&mut self, shared: &Shared, at: u8, bytes: &[u8]) {
        let came = self.frames.read(bytes);
        let right = came.as_ref().is_ok_and(|came| {
            let sent = self.next.get(&(came.from, came.to)).copied().unwrap_or(0);
            [at, ALL].contains(&came.to) && came.from != at && came.number < sent
        });
        shared.oracles.check(Oracle::Bytes, right, || format!("at guest {at}: {came:?}"));
        let Ok(came) = came else { return };
        shared.note(Note::Got(at, came.from, came.to, came.number, bytes.len() as u32));
        let flow = self.arrived.entry((at, came.from, came.to)).or_default();
        // Of a frame that is flooded on two paths the second copy is refused for 20 ms after the
        // receiver has changed the path (frontend/src/route.rs), as long as it remembers.
        let flooded_anew = came.to == ALL && came.number < flow.excused;
        let once = !flow.has(came.number) || flooded_anew;
        shared
            .oracles
            .check(Oracle::Once, once, || format!("at guest {at}, for the second time: {came:?}"));
        if self.strict_order && !shared.overtaken.borrow().contains(&(came.from, came.to)) {
            let in_order = came.number >= flow.end || came.number < flow.excused;
            shared.oracles.check(Oracle::Order, in_order, || {
                format!("at guest {at}: {came:?} after number {}", flow.end - 1)
            });
        }
        flow.end = flow.end.max(came.number + 1);
        flow.put(came.number);
    }
}

impl Arrived {
    fn has(&self, number: u32) -> bool {
        let word = self.seen.get(number as usize / 64).copied().unwrap_or(0);
        word >> (number % 64) & 1 == 1
    }

    fn put(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, 0);
        }
        self.seen[at] |= 1 << (number % 64);
    }
}
