//! Frames from guests: requests taken, beginnings fetched, destinations found.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Buffer, CopyOp, End, Hypervisor, Instant, NicPort};
use xenvelope_switch::{EthernetHeader, PortId};

use super::{FRAMES, Frame, GUEST_BUDGET, HEADERS, QueueId, Round, Sources, Taken};
use crate::counters::DropReason;
use crate::driver_domain::Backend;
use crate::netback::{Assembled, NetbackError, Source, assemble};
use crate::passing::Origin;
use crate::uplink::PfControl;
use crate::vif::Queue;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Takes requests from all guests and fetches the beginnings of their frames with one call.
    pub(super) fn take_from_guests(&mut self) -> bool {
        let mut hostile = Vec::new();
        let mut ports = self.ports_in_turn();
        for port in ports.drain(..) {
            let Some(vif) = self.vifs.get_mut(&port) else { continue };
            let Some(rings) = &mut vif.rings else { continue };
            let budget = GUEST_BUDGET.div_ceil(rings.queues.len());
            for (index, queue) in rings.queues.iter_mut().enumerate() {
                let from = QueueId { port, queue: index };
                if let Err(error) = take_frames(queue, vif.guest, from, budget, &mut self.round) {
                    tracing::warn!(guest = %vif.guest, %error, "guest broke netif, closing");
                    hostile.push(port);
                    break;
                }
            }
        }
        self.round.ports = ports;
        for port in hostile {
            self.round.taken.retain(|taken| taken.from.port != port);
            self.counters.closed_hostile += 1;
            self.close_vif(port);
        }
        !self.round.taken.is_empty()
    }

    /// Sends what was taken through the switch.
    pub(super) fn switch_taken(&mut self, now: Instant) {
        if self.round.taken.is_empty() {
            return;
        }
        let mut headers = std::mem::take(&mut self.round.headers);
        let fetched =
            headers.is_empty() || self.host.copy(&mut headers, &mut self.round.buffers).is_ok();
        let mut taken = std::mem::take(&mut self.round.taken);
        for Taken { from, frame, headers: ops, slot, ticket } in &mut taken {
            let seen = fetched && headers[ops.clone()].iter().all(|op| op.status.check().is_ok());
            // Answered when the second call has copied, in the order of the requests.
            frame.refused |= !seen || ops.start == ops.end;
            if !frame.refused {
                self.switch_frame(*from, frame, *slot, now);
                *ticket = self.round.ticket.take();
            }
        }
        headers.clear();
        self.round.headers = headers;
        self.round.taken = taken;
    }

    pub(super) fn switch_frame(
        &mut self,
        from: QueueId,
        frame: &Assembled,
        slot: usize,
        now: Instant,
    ) {
        self.counters.netif_in += 1;
        let Some(vif) = self.vifs.get(&from.port) else { return };
        let guest = vif.guest;
        let by_address = vif.rings.as_ref().is_some_and(|rings| rings.envelopes.is_some());
        let total = frame.total as usize;
        let seen = HEADERS.min(total);
        let mut bytes = [0; 18];
        self.round.buffers[0].get(slot, &mut bytes);
        let Ok(header) = EthernetHeader::parse(&bytes[..seen.min(18)]) else {
            return self.counters.drop_frames(DropReason::Malformed, 1);
        };
        let sources = pieces(slot, seen, guest, frame);
        let offload = frame.offload;
        let sources = &sources;
        let origin = Some(Origin { from, guest, fragments: &frame.fragments });
        let frame = Frame { header, slot, sources, total, offload, by_address, origin };
        self.pass_on(PortId(from.port), &frame, now);
    }
}

/// Takes frames from one queue, as many as the budget and the round allow, and plans how their
/// beginnings are fetched.
fn take_frames<H: Hypervisor>(
    queue: &mut Queue<H>,
    guest: DomId,
    from: QueueId,
    budget: usize,
    round: &mut Round<H>,
) -> Result<(), NetbackError> {
    for _ in 0..budget {
        if round.taken.len() >= FRAMES {
            break;
        }
        // Whole frames: guests publish no others.
        let waiting = queue.tx.pending()?.min(queue.offered.due());
        if waiting == 0 {
            break;
        }
        let before = queue.tx.next_index();
        let frame = assemble(&mut queue.tx, waiting)?;
        queue.offered.take(queue.tx.next_index().wrapping_sub(before));
        let first = round.headers.len();
        let slot = if frame.refused { None } else { round.slot() };
        let mut at = slot.unwrap_or(0);
        let mut left = slot.map_or(0, |_| HEADERS.min(frame.total as usize));
        for piece in &frame.fragments {
            let len = left.min(piece.len as usize);
            if len == 0 {
                break;
            }
            let src = End::Foreign { dom: guest, gref: piece.gref, offset: piece.offset };
            let dst = End::Local { buffer: 0, offset: at as u32 };
            round.headers.push(CopyOp::new(src, dst, len as u16));
            at += len;
            left -= len;
        }
        let headers = first..round.headers.len();
        round.taken.push(Taken { from, frame, headers, slot: slot.unwrap_or(0), ticket: None });
    }
    Ok(())
}

/// The pieces of a frame of a guest's: its beginning in the scratch buffer, the rest in its
/// pages.
fn pieces(slot: usize, seen: usize, guest: DomId, frame: &Assembled) -> Sources {
    let mut sources = Sources::new();
    sources.push(Source { end: End::Local { buffer: 0, offset: slot as u32 }, len: seen });
    let mut skip = seen;
    for piece in &frame.fragments {
        let here = skip.min(piece.len as usize);
        skip -= here;
        let len = piece.len as usize - here;
        if len > 0 {
            let offset = piece.offset + here as u16;
            let end = End::Foreign { dom: guest, gref: piece.gref, offset };
            sources.push(Source { end, len });
        }
    }
    sources
}
