//! What the guests' stacks send to each other, and when.

use super::faults::Fault;
use super::guests::Tenant;
use super::trace::Note;
use super::traffic::ALL;
use super::world::World;

/// A frame of traffic is for all, one time in so many.
const FLOODS: u64 = 64;
/// What a burst sends.
const BURST: u64 = 700;

impl World {
    /// A stack may send something.
    pub(super) fn talk(&mut self) {
        if self.traffic.below(self.plan.pace) != 0 {
            return;
        }
        let burst = self.shared.hit(Fault::Burst, 0);
        let from = self.traffic.below(self.guests.len() as u64) as u8;
        let count = if burst { BURST } else { 1 + self.traffic.below(4) };
        let to = self.somebody_but(from);
        for _ in 0..count {
            if !self.send(from, to) {
                return;
            }
        }
    }

    fn somebody_but(&mut self, from: u8) -> u8 {
        if self.traffic.below(FLOODS) == 0 {
            return ALL;
        }
        let others = self.guests.len() as u64 - 1;
        let to = self.traffic.below(others) as u8;
        if to >= from { to + 1 } else { to }
    }

    fn send(&mut self, from: u8, to: u8) -> bool {
        let Some((number, length)) = self.deliveries.next(from, to) else { return false };
        self.send_this(from, to, number, length)
    }

    /// Has a stack send a frame. Whether it could.
    pub(super) fn send_this(&mut self, from: u8, to: u8, number: u32, length: usize) -> bool {
        let sent = match &mut self.guests[usize::from(from)] {
            Tenant::Ours(ours) => ours.send(&mut self.deliveries, to, number, length),
            Tenant::Stock(stock) => stock.send(&mut self.deliveries, to, number, length),
            Tenant::Gone { .. } => false,
        };
        if sent {
            self.shared.note(Note::Sent(from, to, number, length as u32));
        }
        sent
    }
}
