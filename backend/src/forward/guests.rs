//! Frames from guests: requests taken, beginnings fetched, destinations found.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Buffer, CopyOp, End, Hypervisor, Instant, NicPort};
use xenvelope_switch::{EthernetHeader, PortId};

use super::{FRAMES, Frame, GUEST_BUDGET, HEADERS, Sources};
use crate::counters::DropReason;
use crate::driver_domain::Backend;
use crate::netback::{Assembled, Source, assemble};
use crate::uplink::PfControl;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Takes requests from all guests and fetches the beginnings of their frames with one call.
    pub(super) fn take_from_guests(&mut self) -> bool {
        let mut hostile = Vec::new();
        let mut ports = self.ports_in_turn();
        'guests: for port in ports.drain(..) {
            let Some(vif) = self.vifs.get_mut(&port) else { continue };
            let Some(rings) = &mut vif.rings else { continue };
            for _ in 0..GUEST_BUDGET {
                if self.round.taken.len() >= FRAMES {
                    break 'guests;
                }
                let frame = match rings.tx.pending() {
                    Ok(0) => break,
                    Ok(waiting) => assemble(&mut rings.tx, waiting),
                    Err(error) => Err(error.into()),
                };
                match frame {
                    Ok(frame) => {
                        let first = self.round.headers.len();
                        let slot = if frame.refused { None } else { self.round.slot() };
                        let Some(slot) = slot else {
                            self.round.taken.push((port, frame, first..first, 0));
                            continue;
                        };
                        let mut at = slot;
                        let mut left = HEADERS.min(frame.total as usize);
                        for piece in &frame.fragments {
                            let len = left.min(piece.len as usize);
                            if len == 0 {
                                break;
                            }
                            let src = End::Foreign {
                                dom: vif.guest,
                                gref: piece.gref,
                                offset: piece.offset,
                            };
                            let dst = End::Local { buffer: 0, offset: at as u32 };
                            self.round.headers.push(CopyOp::new(src, dst, len as u16));
                            at += len;
                            left -= len;
                        }
                        let ops = first..self.round.headers.len();
                        self.round.taken.push((port, frame, ops, slot));
                    }
                    Err(error) => {
                        tracing::warn!(guest = %vif.guest, %error, "guest broke netif, closing");
                        hostile.push(port);
                        break;
                    }
                }
            }
        }
        self.round.ports = ports;
        for port in hostile {
            self.round.taken.retain(|(from, ..)| *from != port);
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
        for (port, frame, ops, slot) in &mut taken {
            let seen = fetched && headers[ops.clone()].iter().all(|op| op.status.check().is_ok());
            // Answered when the second call has copied, in the order of the requests.
            frame.refused |= !seen || ops.start == ops.end;
            if !frame.refused {
                self.switch_frame(*port, frame, *slot, now);
            }
        }
        headers.clear();
        self.round.headers = headers;
        self.round.taken = taken;
    }

    pub(super) fn switch_frame(&mut self, port: u32, frame: &Assembled, slot: usize, now: Instant) {
        self.counters.netif_in += 1;
        let Some(guest) = self.vifs.get(&port).map(|vif| vif.guest) else {
            return;
        };
        let total = frame.total as usize;
        let seen = HEADERS.min(total);
        let mut bytes = [0; 18];
        self.round.buffers[0].get(slot, &mut bytes);
        let Ok(header) = EthernetHeader::parse(&bytes[..seen.min(18)]) else {
            return self.counters.drop_frames(DropReason::Malformed, 1);
        };
        let sources = pieces(slot, seen, guest, frame);
        let offload = frame.offload;
        self.pass_on(PortId(port), &Frame { header, slot, sources: &sources, total, offload }, now);
    }
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
