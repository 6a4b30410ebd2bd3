//! Order between the card and guests' rings (rule 6).
//!
//! A guest that leaves its VF for netif or for its envelope channel does so when the card has
//! carried its frames: to us, if their destination is behind us. So guests' indices are read
//! first, then the uplink is emptied, and only then guests' rings up to those indices: what is in
//! a ring by the time its index is read was sent after the frames in the uplink's ring had come.
//! An uplink that is not emptied in one round holds up what guests have put in meanwhile, but not
//! for longer than it takes to take all that its ring can hold.

use xenvelope_grant::seam::{Hypervisor, NicPort};

use super::{FRAMES, rings_of};
use crate::driver_domain::Backend;
use crate::uplink::PfControl;

/// Frames that a card's receive ring holds at most, as far as order is kept.
const UPLINK_RING: usize = 1024;
/// Rounds in which as many are taken.
const ROUNDS: u32 = UPLINK_RING.div_ceil(FRAMES) as u32;

/// Slots of a ring that a guest has filled and that we have not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Offered {
    /// That were there when we looked,
    seen: u32,
    /// and that may be taken: what came by the uplink before them has been.
    due: u32,
}

impl Offered {
    /// How many may be taken.
    pub fn due(self) -> u32 {
        self.due
    }

    /// So many have been taken.
    pub fn take(&mut self, count: u32) {
        self.seen = self.seen.saturating_sub(count);
        self.due = self.due.saturating_sub(count);
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Looks at what guests have put into their rings, before the uplink is emptied. What was seen
    /// in a round whose uplink is not emptied yet has not changed.
    pub(super) fn look_at_guests(&mut self) {
        if self.round.behind > 0 {
            return;
        }
        for port in self.awake.ports() {
            let Some(rings) = rings_of(&mut self.vifs, *port) else { continue };
            let mut any = 0;
            // An impossible index is found when the ring is taken from.
            for queue in &mut rings.queues {
                queue.offered.seen = queue.tx.pending().unwrap_or(0);
                any |= queue.offered.seen;
            }
            if let Some(envelopes) = &rings.envelopes {
                rings.envelopes_offered.seen = envelopes.pending().unwrap_or(0);
                any |= rings.envelopes_offered.seen;
            }
            rings.quiet = if any == 0 { rings.quiet + 1 } else { 0 };
        }
    }

    /// The uplink has been taken from: what was seen before may be taken, if it is empty or all
    /// that it held then has been taken.
    pub(super) fn let_guests_follow(&mut self, emptied: bool) {
        self.round.behind += 1;
        if !emptied && self.round.behind < ROUNDS {
            return;
        }
        self.round.behind = 0;
        for port in self.awake.ports() {
            let Some(rings) = rings_of(&mut self.vifs, *port) else { continue };
            for queue in &mut rings.queues {
                queue.offered.due = queue.offered.seen;
            }
            rings.envelopes_offered.due = rings.envelopes_offered.seen;
        }
    }
}
