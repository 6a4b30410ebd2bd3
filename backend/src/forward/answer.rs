//! The end of a round: everything is copied, answered and published.

use std::collections::BTreeMap;

use xenvelope_grant::DomId;
use xenvelope_grant::netif::{RSP_ERROR, RSP_OKAY};
use xenvelope_grant::seam::{Hypervisor, Instant, NicPort};

use super::{LEAVING, Leaving, QueueId, Taken, Waiting, rings_of};
use crate::counters::DropReason;
use crate::driver_domain::Backend;
use crate::netback::respond;
use crate::uplink::PfControl;
use crate::vif::{Queue, Takes, Vif};

/// A queue, its guest and what that takes, if its interface is still connected.
pub(crate) fn queue_at<H: Hypervisor>(
    vifs: &mut BTreeMap<u32, Vif<H>>,
    at: QueueId,
) -> Option<(&mut Queue<H>, DomId, Takes)> {
    let vif = vifs.get_mut(&at.port)?;
    let rings = vif.rings.as_mut()?;
    Some((rings.queues.get_mut(at.queue)?, vif.guest, rings.takes))
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// The second call of the round, and the answers.
    pub(super) fn copy_all(&mut self, now: Instant) {
        let copied = self.round.ops.is_empty()
            || self.host.copy(&mut self.round.ops, &mut self.round.buffers).is_ok();
        let round = &mut self.round;
        for (to, delivery) in round.deliveries.drain(..) {
            let whole = copied
                && round.ops[delivery.ops.clone()].iter().all(|op| op.status.check().is_ok());
            if whole {
                self.counters.netif_out += 1;
            } else {
                self.counters.drop_frames(DropReason::CopyFailed, 1);
            }
            if let Some((queue, ..)) = queue_at(&mut self.vifs, to) {
                respond(&mut queue.rx, &delivery, whole);
            }
        }
        // Frames to the uplink, and those that wait, were given buffers in the order
        // in which they leave; all other buffers but the scratch buffer have been copied from, and
        // go back.
        let mut outbound = round.outbound.drain(..).peekable();
        for (index, buffer) in round.buffers.drain(1..).enumerate() {
            let Some(frame) = outbound.next_if(|frame| frame.buffer == index + 1) else { continue };
            let (length, offload) = (frame.length, frame.offload);
            let whole = copied && round.ops[frame.ops].iter().all(|op| op.status.check().is_ok());
            if let Some((to, source)) = frame.to {
                let frame = Waiting { buffer, length, offload, source, since: now };
                let queue = queue_at(&mut self.vifs, to);
                if !queue.is_some_and(|(queue, ..)| queue.wait(frame, whole)) {
                    self.counters.drop_frames(DropReason::CopyFailed, 1);
                }
            } else if !whole {
                self.counters.drop_frames(DropReason::CopyFailed, 1);
            } else if round.leaving.len() >= LEAVING {
                self.counters.drop_frames(DropReason::Uplink, 1);
            } else {
                round.leaving.push_back(Leaving { buffer, length, offload });
            }
        }
        drop(outbound);
        for Taken { from, frame, ticket, .. } in round.taken.drain(..) {
            let Some((queue, ..)) = queue_at(&mut self.vifs, from) else { continue };
            let status = if frame.refused { RSP_ERROR } else { RSP_OKAY };
            queue.answers.give(&mut queue.tx, ticket, frame.ids, frame.extras, status);
        }
        round.ops.clear();
        round.slots = 0;
        round.envelope_slots = 0;
        // Another guest is first in the next round.
        let next = self.awake.ports().iter().find(|port| **port > round.turn);
        round.turn = next.copied().unwrap_or(0);
    }

    /// Publishes to all guests, with one event to each that asked for one.
    pub(crate) fn publish(&mut self) {
        // First what guests receive, then the answers to what they sent: who has an answer may
        // take another route, and what went this way must be there before.
        for port in self.awake.ports() {
            let Some(rings) = rings_of(&mut self.vifs, *port) else { continue };
            for queue in &mut rings.queues {
                queue.kick_rx |= queue.rx.publish();
            }
        }
        self.publish_queues();
        let Self { awake, vifs, host, .. } = self;
        awake.retain(vifs, |rings| {
            let sent = rings.envelopes.as_mut().is_some_and(|envelopes| envelopes.publish());
            for (index, queue) in rings.queues.iter_mut().enumerate() {
                queue.kick_rx |= sent && index == 0;
                queue.kick_tx |= queue.tx.publish();
                queue.kick(host);
            }
            rings.stays_awake()
        });
        self.drain_leaving();
        if let Some(uplink) = &self.uplink {
            uplink.refill(&self.host, 0);
            uplink.kick();
        }
    }
}
