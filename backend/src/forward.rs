//! A round: frames and envelopes from everybody, to everybody.

use std::ops::Range;

use arrayvec::ArrayVec;
use xenvelope_grant::netif::{
    FATAL_SLOTS, NR_SLOTS_MIN, RSP_ERROR, RSP_NULL, RSP_OKAY, TxResponse,
};
use xenvelope_grant::seam::{Buffer, CopyOp, End, Hypervisor, Instant, NicPort, NoBuffer, Offload};
use xenvelope_grant::{DomId, PAGE_SIZE};
use xenvelope_switch::envelope::is_envelope;
use xenvelope_switch::{Destination, EthernetHeader, Forward, PortId};

use crate::counters::DropReason;
use crate::driver_domain::{Backend, UPLINK};
use crate::netback::{Assembled, Delivery, Source, assemble, plan, respond};
use crate::uplink::PfControl;

/// Bytes of a frame's beginning that are copied to us, looked at, and delivered as they were
/// seen: a guest may rewrite its page meanwhile. As many as Linux' netback
/// (`XEN_NETBACK_TX_COPY_LEN`).
const HEADERS: usize = 128;
/// Bytes of scratch space for one frame's beginning: room in front to add a VLAN tag.
const SLOT: usize = 256;
/// Where in its slot a frame's beginning lies.
const SLOT_START: usize = 4;
/// Frames of one round: their beginnings fit the scratch buffer.
const FRAMES: usize = 192;
/// Scratch slots: some more than frames, for floods that need another tag.
const SLOTS: usize = 256;
/// Frames that one guest gets in a round before others have their turn.
const GUEST_BUDGET: usize = 64;

/// Pieces of one frame: its beginning in the scratch buffer, the rest in the sender's pages.
pub(crate) type Sources = ArrayVec<Source, { NR_SLOTS_MIN + 2 }>;

/// A frame to the uplink, being copied.
struct Outbound {
    buffer: usize,
    length: usize,
    ops: Range<usize>,
    offload: Offload,
}

/// Scratch space of a round, kept from one to the next.
pub(crate) struct Round<H: Hypervisor> {
    /// The first is the scratch buffer.
    pub buffers: Vec<H::Buf>,
    pub ops: Vec<CopyOp>,
    /// The first call of a round: the beginnings of frames.
    headers: Vec<CopyOp>,
    slots: usize,
    taken: Vec<(u32, Assembled, Range<usize>, usize)>,
    deliveries: Vec<(u32, Delivery)>,
    outbound: Vec<Outbound>,
    /// Guests whose envelopes we have taken as destination.
    pub dones: Vec<u32>,
}

impl<H: Hypervisor> Round<H> {
    pub fn new(host: &H) -> Result<Round<H>, NoBuffer> {
        Ok(Round {
            buffers: vec![host.take(None, SLOTS * SLOT)?],
            ops: Vec::new(),
            headers: Vec::new(),
            slots: 0,
            taken: Vec::new(),
            deliveries: Vec::new(),
            outbound: Vec::new(),
            dones: Vec::new(),
        })
    }

    /// A scratch slot: where a frame's beginning goes.
    pub fn slot(&mut self) -> Option<usize> {
        (self.slots < SLOTS).then(|| {
            self.slots += 1;
            (self.slots - 1) * SLOT + SLOT_START
        })
    }
}

/// A frame on its way through the switch.
pub(crate) struct Frame<'a> {
    pub header: EthernetHeader,
    /// Where in the scratch buffer it begins, header included.
    pub slot: usize,
    /// All its pieces; the first is in the scratch buffer.
    pub sources: &'a [Source],
    pub total: usize,
    pub offload: Offload,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// One round of the data path. Whether there was anything.
    pub(crate) fn forward(&mut self, now: Instant) -> bool {
        let mut busy = self.take_from_guests();
        self.switch_taken(now);
        busy |= self.take_envelopes(now);
        busy |= self.take_from_uplink(now);
        self.copy_all();
        self.send_dones();
        self.publish();
        busy
    }

    /// Takes requests from all guests and fetches the beginnings of their frames with one call.
    fn take_from_guests(&mut self) -> bool {
        let mut hostile = None;
        'guests: for (port, vif) in &mut self.vifs {
            let Some(rings) = &mut vif.rings else {
                continue;
            };
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
                            self.round.taken.push((*port, frame, first..first, 0));
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
                        self.round.taken.push((*port, frame, ops, slot));
                    }
                    Err(error) => {
                        tracing::warn!(guest = %vif.guest, %error, "guest broke netif, closing");
                        hostile = Some(*port);
                        break;
                    }
                }
            }
        }
        if let Some(port) = hostile {
            self.round.taken.retain(|(from, ..)| *from != port);
            self.counters.closed_hostile += 1;
            self.close_vif(port);
        }
        !self.round.taken.is_empty()
    }

    /// Sends what was taken through the switch.
    fn switch_taken(&mut self, now: Instant) {
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

    fn switch_frame(&mut self, port: u32, frame: &Assembled, slot: usize, now: Instant) {
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

    /// Finds the destinations of a frame and plans its delivery to each.
    pub(crate) fn pass_on(&mut self, from: PortId, frame: &Frame<'_>, now: Instant) {
        match self.switch.ingress(from, &frame.header, now.0) {
            Err(discard) => self.counters.drop_frames(discard.into(), 1),
            Ok(Forward { vid, to: Destination::Port(to) }) => {
                if let Err(reason) = self.deliver(to, vid, frame) {
                    self.counters.drop_frames(reason, 1);
                }
            }
            Ok(Forward { vid, to: Destination::Flood }) => {
                let ports: Vec<PortId> = self.switch.flood_ports(vid, from).collect();
                self.counters.flood_extra += (ports.len() as u64).saturating_sub(1);
                if ports.is_empty() {
                    self.counters.drop_frames(DropReason::NoDestination, 1);
                }
                for to in ports {
                    if let Err(reason) = self.deliver(to, vid, frame) {
                        self.counters.drop_frames(reason, 1);
                    }
                }
            }
        }
    }

    /// Plans the delivery of a frame to one port.
    pub(crate) fn deliver(
        &mut self,
        to: PortId,
        vid: u16,
        frame: &Frame<'_>,
    ) -> Result<(), DropReason> {
        let tci = self.switch.egress_tag(to, vid);
        let (mut sources, mut total) = (Sources::new(), frame.total);
        sources.extend(frame.sources.iter().copied());
        if tci != frame.header.tci {
            total = self.retag(tci, frame, &mut sources)?;
        }
        if to == UPLINK {
            return self.send_up(&sources, total, frame.offload);
        }
        let vif = self.vifs.get_mut(&to.0).ok_or(DropReason::NoDestination)?;
        let guest = vif.guest;
        let rings = vif.rings.as_mut().ok_or(DropReason::NoDestination)?;
        if (total > PAGE_SIZE && !rings.sg) || (frame.offload.gso_size > 0 && !rings.gso) {
            return Err(DropReason::CannotTake);
        }
        let ops = &mut self.round.ops;
        let delivery = plan(&mut rings.rx, guest, &sources, total, frame.offload, ops)
            .ok_or(DropReason::NoReceiveBuffer)?;
        self.round.deliveries.push((to.0, delivery));
        Ok(())
    }

    /// Another VLAN tag than the frame came with: its beginning, once more, with the new header.
    fn retag(
        &mut self,
        tci: Option<u16>,
        frame: &Frame<'_>,
        sources: &mut Sources,
    ) -> Result<usize, DropReason> {
        let slot = self.round.slot().ok_or(DropReason::NoBuffer)?;
        let new = EthernetHeader { tci, ..frame.header };
        let first = sources.first_mut().ok_or(DropReason::Malformed)?;
        let (old_len, new_len) = (frame.header.len(), new.len());
        let rest = first.len.checked_sub(old_len).ok_or(DropReason::Malformed)?;
        let mut bytes = [0; SLOT - SLOT_START];
        new.write(&mut bytes);
        let (scratch, end) = (&mut self.round.buffers[0], new_len + rest);
        scratch
            .get(frame.slot + old_len, bytes.get_mut(new_len..end).ok_or(DropReason::CannotTake)?);
        scratch.put(slot, &bytes[..end]);
        first.end = End::Local { buffer: 0, offset: slot as u32 };
        first.len = end;
        Ok(frame.total - old_len + new_len)
    }

    /// A frame to the uplink: into a buffer of ours, since a card takes no grants.
    fn send_up(
        &mut self,
        sources: &[Source],
        total: usize,
        offload: Offload,
    ) -> Result<(), DropReason> {
        if self.uplink.is_none() {
            return Err(DropReason::NoDestination);
        }
        let buffer = self.round.buffers.len();
        self.round.buffers.push(self.host.take(None, total).map_err(|_| DropReason::NoBuffer)?);
        let first = self.round.ops.len();
        let mut at = 0;
        let mut local = None;
        for source in sources {
            let (mut end, mut left) = (source.end, source.len);
            if let End::Local { offset, .. } = end {
                // Ours already: no call is needed for it.
                local = Some((offset as usize, at, left));
                at += left;
                continue;
            }
            while left > 0 {
                let piece = left.min(PAGE_SIZE - at % PAGE_SIZE);
                let dst = End::Local { buffer: buffer as u16, offset: at as u32 };
                self.round.ops.push(CopyOp::new(end, dst, piece as u16));
                if let End::Foreign { offset, .. } = &mut end {
                    *offset = offset.wrapping_add(piece as u16);
                }
                at += piece;
                left -= piece;
            }
        }
        if let Some((from, to, len)) = local {
            let mut bytes = [0; SLOT];
            self.round.buffers[0].get(from, &mut bytes[..len]);
            self.round.buffers[buffer].put(to, &bytes[..len]);
        }
        let ops = first..self.round.ops.len();
        self.round.outbound.push(Outbound { buffer, length: total, ops, offload });
        Ok(())
    }

    /// Frames and envelopes that came in by the uplink.
    fn take_from_uplink(&mut self, now: Instant) -> bool {
        let mut busy = false;
        for _ in 0..FRAMES {
            let Some(arrival) = self.uplink.as_ref().and_then(NicPort::receive) else {
                break;
            };
            busy = true;
            self.counters.uplink_in += 1;
            let total = arrival.frame.len();
            let seen = HEADERS.min(total);
            let mut bytes = [0; SLOT - SLOT_START];
            let envelope = {
                let head = &mut bytes[..18.min(total)];
                arrival.buffer.get(arrival.frame.start, head);
                is_envelope(head)
            };
            if envelope {
                let bytes = &mut bytes[..total.min(SLOT - SLOT_START)];
                arrival.buffer.get(arrival.frame.start, bytes);
                self.switch_envelope(UPLINK, bytes, now);
                continue;
            }
            let (Some(slot), Ok(header)) =
                (self.round.slot(), EthernetHeader::parse(&bytes[..18.min(total)]))
            else {
                self.counters.drop_frames(DropReason::Malformed, 1);
                continue;
            };
            arrival.buffer.get(arrival.frame.start, &mut bytes[..seen]);
            self.round.buffers[0].put(slot, &bytes[..seen]);
            let buffer = self.round.buffers.len() as u16;
            let mut sources = Sources::new();
            sources.push(Source { end: End::Local { buffer: 0, offset: slot as u32 }, len: seen });
            let mut at = arrival.frame.start + seen;
            while at < arrival.frame.end {
                let len = (PAGE_SIZE - at % PAGE_SIZE).min(arrival.frame.end - at);
                let end = End::Local { buffer, offset: at as u32 };
                if sources.try_push(Source { end, len }).is_err() {
                    break;
                }
                at += len;
            }
            self.round.buffers.push(arrival.buffer);
            let frame = Frame { header, slot, sources: &sources, total, offload: arrival.offload };
            self.pass_on(UPLINK, &frame, now);
        }
        busy
    }

    /// The second call of the round, and the answers.
    fn copy_all(&mut self) {
        let copied = self.round.ops.is_empty()
            || self.host.copy(&mut self.round.ops, &mut self.round.buffers).is_ok();
        let round = &mut self.round;
        for (port, delivery) in round.deliveries.drain(..) {
            let whole = copied
                && round.ops[delivery.ops.clone()].iter().all(|op| op.status.check().is_ok());
            if whole {
                self.counters.netif_out += 1;
            } else {
                self.counters.drop_frames(DropReason::CopyFailed, 1);
            }
            if let Some(rings) = self.vifs.get_mut(&port).and_then(|vif| vif.rings.as_mut()) {
                respond(&mut rings.rx, &delivery, whole);
            }
        }
        let mut outbound: Vec<Outbound> = round.outbound.drain(..).collect();
        // Buffers leave from the end, so that the others keep their places.
        outbound.sort_by_key(|frame| frame.buffer);
        let mut leaving: Vec<Option<H::Buf>> = round.buffers.drain(1..).map(Some).collect();
        for frame in outbound {
            let whole =
                copied && round.ops[frame.ops.clone()].iter().all(|op| op.status.check().is_ok());
            let (Some(uplink), Some(buffer)) =
                (&self.uplink, leaving.get_mut(frame.buffer - 1).and_then(Option::take))
            else {
                continue;
            };
            if !whole {
                self.counters.drop_frames(DropReason::CopyFailed, 1);
            } else if uplink.send(buffer, 0..frame.length, frame.offload).is_ok() {
                self.counters.uplink_out += 1;
            } else {
                self.counters.drop_frames(DropReason::Uplink, 1);
            }
        }
        for (port, frame, ..) in round.taken.drain(..) {
            let Some(rings) = self.vifs.get_mut(&port).and_then(|vif| vif.rings.as_mut()) else {
                continue;
            };
            let status = if frame.refused { RSP_ERROR } else { RSP_OKAY };
            let mut ids: ArrayVec<u16, FATAL_SLOTS> = frame.ids;
            for (index, id) in ids.drain(..).enumerate() {
                let _ = rings.tx.push(&TxResponse { id, status });
                if index == 0 {
                    for _ in 0..frame.extras {
                        let _ = rings.tx.push(&TxResponse { id: 0, status: RSP_NULL });
                    }
                }
            }
        }
        round.ops.clear();
        round.slots = 0;
    }

    /// Publishes to all guests, with one event to each that asked for one.
    fn publish(&mut self) {
        for rings in self.vifs.values_mut().filter_map(|vif| vif.rings.as_mut()) {
            let mut kick = std::mem::take(&mut rings.kick);
            kick |= rings.tx.publish();
            kick |= rings.rx.publish();
            if let Some(envelopes) = &mut rings.envelopes {
                kick |= envelopes.publish();
            }
            if kick {
                self.host.notify(&rings.port);
            }
        }
        if let Some(uplink) = &self.uplink {
            while uplink.completed().is_some() {}
            let (mut count, length) = uplink.wanted();
            while count > 0 {
                let Ok(buffer) = self.host.take(None, length) else {
                    break;
                };
                if uplink.post(buffer, 0).is_err() {
                    break;
                }
                count -= 1;
            }
            uplink.kick();
        }
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
