//! A round: frames and envelopes from everybody, to everybody.

mod answer;
mod awake;
mod guests;
mod order;
mod prepare;
mod queues;
mod uplink;
mod waiting;

pub(crate) use answer::queue_at;
pub(crate) use awake::{Awake, rings_of};
pub(crate) use order::Offered;
pub(crate) use queues::NicQueue;
pub(crate) use waiting::{WAITING_FRAMES, Waiting};

use std::collections::VecDeque;
use std::ops::Range;

use arrayvec::ArrayVec;
use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::netif::NR_SLOTS_MIN;
use xenvelope_grant::seam::{CopyOp, Hypervisor, Instant, NicPort, NoBuffer, Offload};
use xenvelope_switch::{Destination, EthernetHeader, Forward, MacAddress, PortId};

use crate::counters::DropReason;
use crate::driver_domain::{Backend, UPLINK};
use crate::netback::{
    Assembled, Delivery, FlowHash, SLOTS as DELIVERY_SLOTS, Source, plan, slots_for,
};
use crate::passing::{Origin, Ticket};
use crate::uplink::PfControl;

/// Bytes of a frame's beginning that are copied to us, looked at, and delivered as they were
/// seen: a guest may rewrite its page meanwhile. As many as Linux' netback
/// (`XEN_NETBACK_TX_COPY_LEN`).
pub(crate) const HEADERS: usize = 128;
/// Bytes of scratch space for one frame's beginning: room in front to add a VLAN tag.
const SLOT: usize = 256;
/// Where in its slot a frame's beginning lies.
const SLOT_START: usize = 4;
/// Frames of one round from guests, and as many from the uplink.
const FRAMES: usize = 192;
/// Frames out of envelopes for stock guests in one round: all that a channel of 32 envelopes
/// of full-sized frames holds.
const ENVELOPE_SLOTS: usize = 1888;
/// Scratch slots: guests' frames may need two each, if their tag changes.
const SLOTS: usize = 2 * FRAMES + ENVELOPE_SLOTS + 2 * FRAMES;
/// Frames that one guest gets in a round before others have their turn.
const GUEST_BUDGET: usize = 64;

/// Frames that may wait for room in the uplink's ring: a burst of each of some guests.
const LEAVING: usize = 1024;

/// Pieces of one frame: its beginning in the scratch buffer, the rest in the sender's pages.
pub(crate) type Sources = ArrayVec<Source, { NR_SLOTS_MIN + 2 }>;

/// A queue of a guest's: its port in the switch, and which of its queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueueId {
    pub port: u32,
    pub queue: usize,
}

/// A frame taken from a guest, to be answered.
struct Taken {
    from: QueueId,
    frame: Assembled,
    /// The operations that fetch its beginning.
    headers: Range<usize>,
    /// Where that goes.
    slot: usize,
    /// Its receiver copies it, and the answer waits for that.
    ticket: Option<Ticket>,
}

/// A frame that is being copied into a buffer of ours.
struct Outbound {
    buffer: usize,
    length: usize,
    ops: Range<usize>,
    offload: Offload,
    /// The queue whose receive buffers it waits for, and who sent it; the uplink if none.
    to: Option<(QueueId, MacAddress)>,
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
    taken: Vec<Taken>,
    deliveries: Vec<(QueueId, Delivery)>,
    outbound: Vec<Outbound>,
    /// Which queue of a guest with many a frame goes to.
    flows: FlowHash,
    /// Frames that wait for room in the uplink's ring.
    pub leaving: VecDeque<Leaving<H::Buf>>,
    /// Guests whose envelopes we have taken as destination.
    pub dones: Vec<u32>,
    /// Guests that broke a ring: closed at the end of the round.
    pub broken: Vec<u32>,
    /// Rounds in which the uplink was not emptied since we looked at what guests had.
    pub behind: u32,
    /// The port that is first in this round.
    pub turn: u32,
    /// Scratch slots that envelopes for stock guests have taken.
    envelope_slots: usize,
    /// Ports to be gone through while the switch or the guests are in use.
    pub ports: Vec<u32>,
    /// When the round began.
    pub now: Instant,
    /// The ticket of the frame that is being switched, if it was passed on.
    pub ticket: Option<Ticket>,
    /// The last ticket.
    tickets: u64,
    /// Frames that were passed on and are done with, and whose they are.
    pub finished: Vec<(QueueId, Ticket)>,
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
            flows: FlowHash::new((host.random(), host.random())),
            leaving: VecDeque::new(),
            dones: Vec::new(),
            broken: Vec::new(),
            behind: 0,
            turn: 0,
            envelope_slots: 0,
            ports: Vec::new(),
            now: Instant::default(),
            ticket: None,
            tickets: 0,
            finished: Vec::new(),
        })
    }

    /// A ticket that nobody has had.
    pub fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
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
    /// Its sender may send others of the flow in envelopes, of which we do not see the headers:
    /// only the addresses say which frames must stay in order.
    pub by_address: bool,
    /// Where it lies, if a guest sent it by netif.
    pub origin: Option<Origin<'a>>,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// One round of the data path. Whether there was anything.
    pub(crate) fn forward(&mut self, now: Instant) -> bool {
        self.round.now = now;
        let mut busy = self.deliver_waiting();
        busy |= self.serve_queues();
        self.look_at_one_that_rests();
        // The uplink before guests: see `order`.
        self.look_at_guests();
        let (came, emptied) = self.take_from_uplink(now);
        busy |= came;
        self.let_guests_follow(emptied);
        busy |= self.take_from_guests();
        self.switch_taken(now);
        busy |= self.take_envelopes(now);
        self.seal_all_passed();
        self.copy_all(now);
        self.answer_finished();
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
        let rings = rings_of(&mut self.vifs, to.0).ok_or(DropReason::NoDestination)?;
        self.awake.wake(to.0, rings);
        let (takes, queues) = (rings.takes, rings.queues.len());
        let passed_on = rings.passed.as_ref().is_some_and(|passed| passed.is_out());
        let mut offload = frame.offload;
        if (total > PAGE_SIZE && !takes.sg) || !takes.gso(&offload) {
            return Err(DropReason::CannotTake);
        }
        let mut behind = None;
        if let Some(origin) = &frame.origin
            && !frame.header.destination.is_multicast()
        {
            if self.passes_on(PortId(origin.from.port), to)
                && self.pass_frame(to, tci, frame, origin)?
            {
                return Ok(());
            }
            if passed_on {
                behind = self.not_done(origin.from.port, to);
            }
            // The last ones of a flow that takes another route soon follow those before them.
            if behind.is_some()
                && !self.may_wait(frame.header.source, to.0)
                && self.pass_frame(to, tci, frame, origin)?
            {
                return Ok(());
            }
        }
        if !takes.checksum(frame.header.ether_type, &offload) {
            offload = self.fill_checksum(&mut sources, total, offload)?;
        }
        let queue = if queues > 1 { self.queue_of(frame, queues) } else { 0 };
        self.put(
            QueueId { port: to.0, queue },
            frame.header.source,
            behind,
            &sources,
            total,
            offload,
        )
    }

    /// Plans the delivery of a frame to a guest's queue, or has it wait for receive buffers and
    /// for the envelope that it is `behind`.
    fn put(
        &mut self,
        to: QueueId,
        source: MacAddress,
        behind: Option<u32>,
        sources: &[Source],
        total: usize,
        offload: Offload,
    ) -> Result<(), DropReason> {
        let needed = slots_for(total, &offload);
        if needed > DELIVERY_SLOTS {
            return Err(DropReason::CannotTake);
        }
        let (queue, guest, _) = queue_at(&mut self.vifs, to).ok_or(DropReason::NoDestination)?;
        let Ok(posted) = queue.rx.pending() else {
            self.round.broken.push(to.port);
            return Err(DropReason::NoDestination);
        };
        // What came before it is first.
        if queue.parked > 0 || behind.is_some() || (posted as usize) < needed {
            queue.behind = behind.or(queue.behind);
            return self.park((to, source), sources, total, offload);
        }
        let ops = &mut self.round.ops;
        let delivery = plan(&mut queue.rx, guest, sources, total, offload, ops)
            .ok_or(DropReason::NoReceiveBuffer)?;
        self.round.deliveries.push((to, delivery));
        Ok(())
    }

    /// All ports that are awake, another one first in each round: who comes last may find scratch
    /// space and channels full.
    pub(crate) fn ports_in_turn(&mut self) -> Vec<u32> {
        let mut ports = std::mem::take(&mut self.round.ports);
        let awake = self.awake.ports();
        let (later, first) = awake.split_at(awake.partition_point(|port| *port < self.round.turn));
        ports.extend(first.iter().chain(later));
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
}
