//! The card's inside: what is done when.
//!
//! A frame takes three steps. It is read from its sender's memory as soon as the bus is free
//! (`ingest`); the switch says where it goes, and each receiver's next buffer and the time on
//! the bus are set aside (`dispatch`, which also cuts frames); and when that time has come, and the card's own latency is over, it is
//! written to the receiver's memory, and only then its sender hears that it has gone.
//!
//! Nothing here sleeps or looks at a clock, so a scheduler in virtual time drives it as well as
//! a thread does.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use xenvelope_grant::seam::{Direction, Instant};

use super::NicConfig;
use super::bus::Bus;
use super::counters::{DropReason, NicCounters};
use super::descriptor::Descriptor;
use super::ingest::Step;
use super::kind::Translation;
use super::load::Load;
use super::packet::{PacketId, PacketMemory, TAG_BYTES};
use super::port::{Port, RingSizes, Slot};
use super::table::{Mac, Owned, Table};
use super::wire::Wire;
use crate::capture::CardTaps;

/// Most frames that one run takes in: how long others may have to wait for the card's lock and a
/// receiver for its interrupt.
const BURST_FRAMES: usize = 64;
/// Most bytes that one run takes in, give or take a frame.
const BURST_BYTES: usize = 256 << 10;

/// A frame on its way into a receiver's buffer.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) at: Instant,
    pub(super) packet: PacketId,
    pub(super) port: usize,
    pub(super) epoch: u32,
    pub(super) slot: Slot,
}

/// A frame on its way out of the wire.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) at: Instant,
    pub(super) packet: PacketId,
}

/// How much one run may still take in.
#[derive(Debug)]
struct Budget {
    frames: usize,
    bytes: usize,
}

/// The card, under its lock.
pub(super) struct Engine {
    /// The PF is 0, VF `n` is `n + 1`.
    pub(super) ports: Vec<Port>,
    pub(super) pf_filters: HashSet<(Mac, u16)>,
    pub(super) promiscuous: bool,
    pub(super) anti_spoof: bool,
    pub(super) wire_counters: NicCounters,
    pub(super) table: Table,
    /// Whether frames go from one port to another.
    switches: bool,
    pub(super) packets: PacketMemory,
    pub(super) bus: Bus,
    /// In the order of their times: the bus carries one after the other.
    pub(super) deliveries: VecDeque<Delivery>,
    pub(super) departures: VecDeque<Departure>,
    pub(super) wire: Arc<Wire>,
    pub(super) latency: Duration,
    pub(super) miss_ns: u64,
    pub(super) max_frame: usize,
    /// Who looks on.
    pub(super) taps: Option<CardTaps>,
    /// Whose turn it is: a port, or the wire after the last of them.
    turn: usize,
}

impl Engine {
    pub(super) fn new(config: &NicConfig, wire: Arc<Wire>) -> Engine {
        let sizes = RingSizes { tx: config.tx_ring as u32, rx: config.rx_ring as u32 };
        let iommu = config.translation == Translation::Iommu;
        let iotlb = iommu.then_some(config.iotlb_entries);
        let ports = (0..=config.vfs).map(|number| {
            let mac = config.first_mac(number);
            Port::new(sizes, iotlb, mac, number == 0)
        });
        Engine {
            ports: ports.collect(),
            pf_filters: HashSet::from([(config.pf_mac, 0)]),
            promiscuous: config.pf_promiscuous,
            anti_spoof: config.anti_spoof,
            wire_counters: NicCounters::default(),
            table: Table::default(),
            switches: config.kind.switches(),
            packets: PacketMemory::new(config.max_frame + TAG_BYTES),
            bus: Bus::new(config.bus_gbit),
            deliveries: VecDeque::new(),
            departures: VecDeque::new(),
            wire,
            latency: Duration::from_nanos(config.latency_ns),
            miss_ns: config.iommu_miss_ns,
            max_frame: config.max_frame,
            taps: None,
            turn: 0,
        }
    }

    /// Does what is due. Says when there will be more, as far as can be known; `None` if only a
    /// doorbell or the wire can bring more.
    pub(super) fn run(&mut self, now: Instant) -> Option<Instant> {
        for number in 0..self.ports.len() {
            if !self.ports[number].look(now) {
                self.fail(number, DropReason::Malformed);
            }
        }
        let mut budget = Budget { frames: BURST_FRAMES, bytes: BURST_BYTES };
        let mut stalled = 0;
        loop {
            self.deliver(now);
            if !self.take_turns(now, &mut budget, &mut stalled) {
                break;
            }
        }
        for port in &mut self.ports {
            port.raise();
        }
        let spent = budget.frames == 0 || budget.bytes == 0;
        let sending = self.waiting_sources() & !stalled;
        let wire = 1 << self.ports.len();
        [
            self.deliveries.front().map(|delivery| delivery.at),
            self.departures.front().map(|departure| departure.at),
            (sending & !wire != 0).then(|| self.bus.read.free_at().max(now)),
            (sending & wire != 0 || (spent && sending != 0)).then_some(now),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|next| next.max(now))
    }

    /// Every source that has something to send, as bits: ports, and the wire after the last.
    fn waiting_sources(&self) -> u64 {
        let ports = self.ports.iter().enumerate();
        let ports = ports.map(|(number, port)| u64::from(port.has_work()) << number).sum::<u64>();
        ports | u64::from(self.wire.has_arrivals()) << self.ports.len()
    }

    /// Lets each source send a frame, beginning with the one whose turn it is. `stalled` collects
    /// those for which there is no packet memory. Says whether any did.
    fn take_turns(&mut self, now: Instant, budget: &mut Budget, stalled: &mut u64) -> bool {
        let sources = self.ports.len() + 1;
        let first = self.turn;
        let mut moved = false;
        *stalled = 0;
        for step in 0..sources {
            if budget.frames == 0 || budget.bytes == 0 {
                return false;
            }
            let source = (first + step) % sources;
            let result = if source == self.ports.len() {
                self.ingest_wire(now)
            } else if self.ports[source].cutting.is_some() || self.bus.read.free_at() <= now {
                self.ingest_port(source)
            } else {
                continue;
            };
            match result {
                Step::Idle => {}
                Step::Stalled => *stalled |= 1 << source,
                Step::Moved(bytes) => {
                    moved = true;
                    self.turn = (source + 1) % sources;
                    budget.frames -= 1;
                    budget.bytes = budget.bytes.saturating_sub(bytes);
                }
            }
        }
        moved
    }

    /// Writes to memory, and to the wire, what is due.
    fn deliver(&mut self, now: Instant) {
        while let Some(delivery) = due(&mut self.deliveries, |next| next.at <= now) {
            let port = &mut self.ports[delivery.port];
            if port.epoch == delivery.epoch {
                let packet = self.packets.get(delivery.packet);
                let (load, offload) = (packet.load, packet.offload);
                let frame = if port.trunk { packet.trunk() } else { packet.plain() };
                let received = Descriptor::received(frame.len() as u32, &offload);
                if let Some(taps) = &self.taps {
                    taps.port(delivery.port, Direction::In, frame, None);
                }
                port.deliver(delivery.slot, frame, load, received);
            } else {
                let packet = self.packets.get(delivery.packet);
                port.counters.drop_frame(DropReason::LinkDown, packet.load);
                if let Some(taps) = &self.taps {
                    let frame = packet.plain();
                    taps.port(delivery.port, Direction::In, frame, Some(DropReason::LinkDown));
                }
            }
            self.arrived(delivery.packet);
        }
        while let Some(departure) = due(&mut self.departures, |next| next.at <= now) {
            let packet = self.packets.get(departure.packet);
            let load = packet.load;
            let dropped = if !self.wire.is_connected() {
                Some(DropReason::LinkDown)
            } else {
                self.wire.transmit(packet.trunk()).is_err().then_some(DropReason::WireFull)
            };
            match dropped {
                Some(reason) => self.wire_counters.drop_frame(reason, load),
                None => self.wire_counters.count_rx(load),
            }
            if let Some(taps) = &self.taps {
                taps.wire(Direction::Out, packet.trunk(), dropped);
            }
            self.arrived(departure.packet);
        }
    }

    /// The frame has arrived at one of the places it had to go to, or at none.
    pub(super) fn arrived(&mut self, id: PacketId) {
        let packet = self.packets.get(id);
        packet.pending = packet.pending.saturating_sub(1);
        if packet.pending > 0 {
            return;
        }
        let parent = packet.parent.take();
        if let Some(sender) = packet.sender.take() {
            self.ports[sender.port].complete(sender);
        }
        self.packets.give_back(id);
        if let Some(parent) = parent {
            self.arrived(parent);
        }
    }

    /// A port whose driver or whose memory breaks the rules loses its link until it is plugged
    /// in again: the card could not tell where its next descriptor is. What it could not make
    /// out counts as one frame.
    pub(super) fn fail(&mut self, number: usize, reason: DropReason) {
        self.ports[number].counters.count_tx(Load::Frame);
        self.ports[number].counters.drop_frame(reason, Load::Frame);
        self.ports[number].plugged = false;
        self.update_link(number);
    }

    /// Takes a port back from its owner: after this the card knows nothing of its memory.
    pub(super) fn detach(&mut self, number: usize) {
        self.abandon(number);
        self.ports[number].owner = None;
        self.update_link(number);
    }

    /// Brings a port's link to what owner and plug make of it, and the table with it.
    pub(super) fn update_link(&mut self, number: usize) {
        if self.ports[number].loses_link() {
            self.abandon(number);
        }
        if self.ports[number].update_link() {
            self.update_table();
            self.ports[number].raise();
        }
    }

    /// Makes the table anew: an address, a VLAN or a link has changed.
    pub(super) fn update_table(&mut self) {
        let vfs = self.ports.iter().enumerate().skip(1).filter(|(_, port)| port.is_up());
        let vfs = vfs.map(|(number, port)| Owned {
            port: number,
            mac: port.mac,
            vid: port.vid,
            floods: port.floods,
        });
        let pf = self.ports[0].is_up().then_some(&self.pf_filters);
        self.table = Table::new(vfs, pf, self.promiscuous, self.switches);
    }
}

/// The first of a queue, if it is due.
fn due<T>(queue: &mut VecDeque<T>, is_due: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(is_due) { queue.pop_front() } else { None }
}
