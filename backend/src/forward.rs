//! A round: frames and envelopes from everybody, to everybody.

mod guests;
mod uplink;

use std::collections::VecDeque;
use std::ops::Range;

use arrayvec::ArrayVec;
use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::netif::{
    FATAL_SLOTS, NR_SLOTS_MIN, RSP_ERROR, RSP_NULL, RSP_OKAY, TxResponse,
};
use xenvelope_grant::seam::{Buffer, CopyOp, End, Hypervisor, Instant, NicPort, NoBuffer, Offload};
use xenvelope_switch::{Destination, EthernetHeader, Forward, PortId};

use crate::counters::DropReason;
use crate::driver_domain::{Backend, UPLINK};
use crate::netback::{Assembled, Delivery, Source, plan, respond};
use crate::uplink::PfControl;

/// Bytes of a frame's beginning that are copied to us, looked at, and delivered as they were
/// seen: a guest may rewrite its page meanwhile. As many as Linux' netback
/// (`XEN_NETBACK_TX_COPY_LEN`).
const HEADERS: usize = 128;
/// Bytes of scratch space for one frame's beginning: room in front to add a VLAN tag.
const SLOT: usize = 256;
/// Where in its slot a frame's beginning lies.
const SLOT_START: usize = 4;
/// Frames of one round from guests, and as many from the uplink.
const FRAMES: usize = 192;
/// Frames out of envelopes for stock guests in one round: all that a channel of 64 envelopes
/// of full-sized frames holds.
const ENVELOPE_SLOTS: usize = 576;
/// Scratch slots: guests' frames may need two each, if their tag changes.
const SLOTS: usize = 2 * FRAMES + ENVELOPE_SLOTS + 2 * FRAMES;
/// Frames that one guest gets in a round before others have their turn.
const GUEST_BUDGET: usize = 64;

/// Frames that may wait for room in the uplink's ring: a burst of each of some guests.
const LEAVING: usize = 1024;

/// Pieces of one frame: its beginning in the scratch buffer, the rest in the sender's pages.
pub(crate) type Sources = ArrayVec<Source, { NR_SLOTS_MIN + 2 }>;

/// A frame to the uplink, being copied.
struct Outbound {
    buffer: usize,
    length: usize,
    ops: Range<usize>,
    offload: Offload,
}

/// A frame that waits for room in the uplink's ring.
pub(crate) struct Leaving<B> {
    buffer: B,
    length: usize,
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
    /// Frames that wait for room in the uplink's ring.
    pub leaving: VecDeque<Leaving<H::Buf>>,
    /// Guests whose envelopes we have taken as destination.
    pub dones: Vec<u32>,
    /// Guests that broke a ring: closed at the end of the round.
    pub broken: Vec<u32>,
    /// The port that is first in this round.
    pub turn: u32,
    /// Scratch slots that envelopes for stock guests have taken.
    envelope_slots: usize,
    /// Ports to be gone through while the switch or the guests are in use.
    pub ports: Vec<u32>,
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
            leaving: VecDeque::new(),
            dones: Vec::new(),
            broken: Vec::new(),
            turn: 0,
            envelope_slots: 0,
            ports: Vec::new(),
        })
    }

    /// Scratch slots that are free.
    pub fn slots_left(&self) -> usize {
        SLOTS - self.slots
    }

    /// A scratch slot for a frame out of an envelope, as long as they have not taken their share.
    pub fn envelope_slot(&mut self) -> Option<usize> {
        if self.envelope_slots >= ENVELOPE_SLOTS {
            return None;
        }
        self.envelope_slots += 1;
        self.slot()
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
        self.close_broken();
        busy
    }

    /// Finds the destinations of a frame and plans its delivery to each.
    pub(crate) fn pass_on(&mut self, from: PortId, frame: &Frame<'_>, now: Instant) {
        match self.switch.ingress(from, &frame.header, now.0) {
            Err(discard) => self.counters.drop_frames(discard.into(), 1),
            Ok(Forward { vid, to: Destination::Port(to) }) => {
                let delivered = if self.may_pass(from, to) {
                    self.deliver(to, vid, frame)
                } else {
                    Err(DropReason::Policy)
                };
                if let Err(reason) = delivered {
                    self.counters.drop_frames(reason, 1);
                }
            }
            Ok(Forward { vid, to: Destination::Flood }) => {
                let mut ports = std::mem::take(&mut self.round.ports);
                let flooded = self.switch.flood_ports(vid, from);
                ports.extend(flooded.filter(|to| self.may_pass(from, *to)).map(|port| port.0));
                self.counters.flood_extra += (ports.len() as u64).saturating_sub(1);
                if ports.is_empty() {
                    self.counters.drop_frames(DropReason::NoDestination, 1);
                }
                for to in ports.drain(..) {
                    if let Err(reason) = self.deliver(PortId(to), vid, frame) {
                        self.counters.drop_frames(reason, 1);
                    }
                }
                self.round.ports = ports;
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
        if rings.rx.pending().is_err() {
            self.round.broken.push(to.0);
            return Err(DropReason::NoDestination);
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
        // Frames to the uplink were given buffers in the order in which they leave; all other
        // buffers but the scratch buffer have been copied from, and go back.
        let mut outbound = round.outbound.drain(..).peekable();
        for (index, buffer) in round.buffers.drain(1..).enumerate() {
            let Some(frame) = outbound.next_if(|frame| frame.buffer == index + 1) else { continue };
            let whole = copied && round.ops[frame.ops].iter().all(|op| op.status.check().is_ok());
            if !whole {
                self.counters.drop_frames(DropReason::CopyFailed, 1);
            } else if round.leaving.len() >= LEAVING {
                self.counters.drop_frames(DropReason::Uplink, 1);
            } else {
                round.leaving.push_back(Leaving {
                    buffer,
                    length: frame.length,
                    offload: frame.offload,
                });
            }
        }
        drop(outbound);
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
        round.envelope_slots = 0;
        // Another guest is first in the next round.
        let next = self.vifs.range(round.turn + 1..).next().map(|(port, _)| *port);
        round.turn = next.unwrap_or(0);
    }

    /// All ports, another one first in each round: who comes last may find scratch space and
    /// channels full.
    pub(crate) fn ports_in_turn(&mut self) -> Vec<u32> {
        let mut ports = std::mem::take(&mut self.round.ports);
        ports.extend(self.vifs.range(self.round.turn..).map(|(port, _)| *port));
        ports.extend(self.vifs.range(..self.round.turn).map(|(port, _)| *port));
        ports
    }

    /// Closes the interfaces of guests that broke a ring in this round.
    fn close_broken(&mut self) {
        while let Some(port) = self.round.broken.pop() {
            if self.vifs.get(&port).is_some_and(|vif| vif.rings.is_some()) {
                tracing::warn!(port, "guest broke a ring, closing");
                self.counters.closed_hostile += 1;
                self.close_vif(port);
            }
        }
    }

    /// Whether policy lets frames of one guest's go to another's. The outside is everybody's.
    pub(crate) fn may_pass(&self, from: PortId, to: PortId) -> bool {
        match (self.vifs.get(&from.0), self.vifs.get(&to.0)) {
            (Some(from), Some(to)) => self.manager.may_reach(from.mac, to.mac),
            _ => true,
        }
    }

    /// Publishes to all guests, with one event to each that asked for one.
    fn publish(&mut self) {
        // First what guests receive, then the answers to what they sent: who has an answer may
        // take another route, and what went this way must be there before.
        for rings in self.vifs.values_mut().filter_map(|vif| vif.rings.as_mut()) {
            rings.kick |= rings.rx.publish();
        }
        for rings in self.vifs.values_mut().filter_map(|vif| vif.rings.as_mut()) {
            let mut kick = std::mem::take(&mut rings.kick);
            kick |= rings.tx.publish();
            if let Some(envelopes) = &mut rings.envelopes {
                kick |= envelopes.publish();
            }
            if kick {
                self.host.notify(&rings.port);
            }
        }
        self.drain_leaving();
        if let Some(uplink) = &self.uplink {
            uplink.refill(&self.host, 0);
            uplink.kick();
        }
    }
}
