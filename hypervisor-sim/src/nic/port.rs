//! A port as the card sees it: whose it is, how far its rings are, what it counted.

mod abandon;

use std::collections::VecDeque;
use std::sync::Arc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::Instant;

use super::bus::Lane;
use super::counters::{DropReason, NicCounters};
use super::descriptor::{CONTEXT, DESCRIPTOR_BYTES, Descriptor};
use super::dispatch::Cutting;
use super::dma::{Dma, DmaFault, Interrupt};
use super::iotlb::Iotlb;
use super::load::Load;
use super::packet::Sender;
use super::registers::Registers;

/// Most transmit descriptors that the card fetches at once.
const TX_FETCH: u32 = 32;
/// Most receive descriptors that the card fetches at once.
const RX_FETCH: u32 = 16;

/// What a port that somebody uses needs.
pub(super) struct Owner {
    /// In whose memory rings and buffers lie.
    pub(super) domain: DomId,
    /// How the card reaches that memory.
    pub(super) dma: Arc<dyn Dma>,
    pub(super) interrupt: Arc<dyn Interrupt>,
    /// The transmit ring's address. The receive ring follows it.
    pub(super) rings: u64,
}

/// A frame that was taken from the transmit ring and has not been written back.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    descriptors: u32,
    context: bool,
    gone: bool,
}

/// A posted buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) address: u64,
    pub(super) length: usize,
}

/// How long both rings are, in descriptors: powers of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSizes {
    pub(super) tx: u32,
    pub(super) rx: u32,
}

/// How far the driver has filled the transmit ring, and when the card saw it.
#[derive(Clone, Copy, Debug, Default)]
struct Sighting {
    tail: u32,
    at: Instant,
}

/// One port.
pub(super) struct Port {
    pub(super) owner: Option<Owner>,
    pub(super) registers: Arc<Registers>,
    /// Whether the PF's owner lets it be used.
    pub(super) plugged: bool,
    /// Whether it may send from any address, tagged or not: the PF.
    pub(super) trunk: bool,
    pub(super) mac: [u8; 6],
    /// Whether broadcast and multicast of its VLAN reach it.
    pub(super) floods: bool,
    /// Which domain may use it, of one that is a context of the device.
    pub(super) lent_to: Option<DomId>,
    /// The VLAN of a VF, 0 if none.
    pub(super) vid: u16,
    pub(super) counters: NicCounters,
    /// Whether something came in since the interrupt was raised.
    pub(super) received: bool,
    /// Whether something was completed since the interrupt was raised.
    pub(super) completed: bool,
    pub(super) epoch: u32,
    /// The last frame that was taken from the transmit ring, while it is being cut.
    pub(super) cutting: Option<Cutting>,
    sizes: RingSizes,
    /// None if no IOMMU translates for it.
    iotlb: Option<Iotlb>,
    seen: [Sighting; 2],
    tx_fetched: u32,
    tx_cache: VecDeque<Descriptor>,
    tx_done: u32,
    in_flight: VecDeque<InFlight>,
    first_in_flight: u64,
    rx_fetched: u32,
    rx_cache: VecDeque<Slot>,
    rx_done: u32,
}

impl Port {
    pub(super) fn new(sizes: RingSizes, iotlb: Option<usize>, mac: [u8; 6], trunk: bool) -> Port {
        let registers = Arc::new(Registers::default());
        registers.set_mac(mac);
        Port {
            owner: None,
            registers,
            plugged: true,
            trunk,
            mac,
            floods: true,
            lent_to: None,
            vid: 0,
            counters: NicCounters::default(),
            received: false,
            completed: false,
            epoch: 0,
            cutting: None,
            sizes,
            iotlb: iotlb.map(Iotlb::new),
            seen: [Sighting::default(); 2],
            tx_fetched: 0,
            tx_cache: VecDeque::new(),
            tx_done: 0,
            in_flight: VecDeque::new(),
            first_in_flight: 0,
            rx_fetched: 0,
            rx_cache: VecDeque::new(),
            rx_done: 0,
        }
    }

    /// Who uses it.
    pub(super) fn domain(&self) -> Option<DomId> {
        self.owner.as_ref().map(|owner| owner.domain)
    }

    /// Whether the link is up.
    pub(super) fn is_up(&self) -> bool {
        Registers::is_up(self.epoch)
    }

    /// Brings the link to what owner and plug make of it. Everything of the life before is let
    /// go of first: after this the card touches none of its buffers. Says whether it changed.
    pub(super) fn update_link(&mut self) -> bool {
        if (self.owner.is_some() && self.plugged) == self.is_up() {
            return false;
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.seen = [Sighting::default(); 2];
        self.tx_fetched = 0;
        self.tx_cache.clear();
        self.tx_done = 0;
        self.first_in_flight += self.in_flight.len() as u64;
        self.in_flight.clear();
        self.rx_fetched = 0;
        self.rx_cache.clear();
        self.rx_done = 0;
        if let Some(iotlb) = &mut self.iotlb {
            iotlb.flush();
        }
        self.registers.set_epoch(self.epoch);
        // The driver must notice, whichever way it went.
        self.received = true;
        true
    }

    /// Looks how far the driver has filled the transmit ring. `false` if it claims more than the
    /// ring holds.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let Some(tail) = self.registers.tx_tail(self.epoch) else {
            return true;
        };
        if tail != self.seen[1].tail {
            self.seen = [self.seen[1], Sighting { tail, at: now }];
        }
        tail.wrapping_sub(self.tx_done) <= self.sizes.tx
    }

    /// Whether there is something to send.
    pub(super) fn has_work(&self) -> bool {
        let cutting = self.cutting.is_some();
        self.is_up()
            && (cutting || !self.tx_cache.is_empty() || self.tx_fetched != self.seen[1].tail)
    }

    /// Since when the frame whose descriptors end before `end` has been known to be ready.
    pub(super) fn ready_since(&self, end: u32) -> Instant {
        let [before, last] = self.seen;
        let in_both = before.tail.wrapping_sub(end) <= self.sizes.tx;
        if in_both { before.at } else { last.at }
    }

    /// The index after the `count` next descriptors of the transmit ring.
    pub(super) fn tx_end(&self, count: usize) -> u32 {
        self.tx_fetched.wrapping_sub(self.tx_cache.len() as u32).wrapping_add(count as u32)
    }

    /// Transmit descriptors that the card has fetched and not used.
    pub(super) fn tx_cache(&mut self) -> &mut VecDeque<Descriptor> {
        &mut self.tx_cache
    }

    /// Fetches transmit descriptors with one read. Says how many.
    pub(super) fn fetch_tx(&mut self, lane: &mut Link<'_>) -> Result<u32, DmaFault> {
        let Some(owner) = &self.owner else {
            return Ok(0);
        };
        let at = self.tx_fetched & (self.sizes.tx - 1);
        let waiting = self.seen[1].tail.wrapping_sub(self.tx_fetched);
        let count = waiting.min(TX_FETCH).min(self.sizes.tx - at);
        if count == 0 {
            return Ok(0);
        }
        let mut bytes = [0; TX_FETCH as usize * DESCRIPTOR_BYTES];
        let bytes = &mut bytes[..count as usize * DESCRIPTOR_BYTES];
        let address = owner.rings + u64::from(at) * DESCRIPTOR_BYTES as u64;
        lane.ready = lane.ready.max(self.ready_since(self.tx_fetched.wrapping_add(1)));
        let misses = self.translate(address, bytes.len());
        lane.carry(bytes.len(), misses);
        self.read(address, bytes)?;
        self.counters.dma_read_descriptors += bytes.len() as u64;
        let (descriptors, _) = bytes.as_chunks::<DESCRIPTOR_BYTES>();
        self.tx_cache.extend(descriptors.iter().map(|&bytes| Descriptor(bytes)));
        self.tx_fetched = self.tx_fetched.wrapping_add(count);
        Ok(count)
    }

    /// The next posted buffer. Fetches descriptors, with one read, when there are none left.
    pub(super) fn next_slot(&mut self, lane: &mut Link<'_>) -> Result<Option<Slot>, DmaFault> {
        if let Some(slot) = self.rx_cache.pop_front() {
            return Ok(Some(slot));
        }
        let (Some(owner), Some(tail)) = (&self.owner, self.registers.rx_tail(self.epoch)) else {
            return Ok(None);
        };
        let at = self.rx_fetched & (self.sizes.rx - 1);
        // A driver that claims more than the ring holds gets what the ring holds.
        let waiting = tail.wrapping_sub(self.rx_fetched).min(self.sizes.rx);
        let count = waiting.min(RX_FETCH).min(self.sizes.rx - at);
        if count == 0 {
            return Ok(None);
        }
        let mut bytes = [0; RX_FETCH as usize * DESCRIPTOR_BYTES];
        let bytes = &mut bytes[..count as usize * DESCRIPTOR_BYTES];
        let ring = u64::from(self.sizes.tx + at) * DESCRIPTOR_BYTES as u64;
        let address = owner.rings + ring;
        let misses = self.translate(address, bytes.len());
        lane.carry(bytes.len(), misses);
        self.read(address, bytes)?;
        self.counters.dma_read_descriptors += bytes.len() as u64;
        let (descriptors, _) = bytes.as_chunks::<DESCRIPTOR_BYTES>();
        self.rx_cache.extend(descriptors.iter().map(|&bytes| {
            let descriptor = Descriptor(bytes);
            Slot { address: descriptor.address(), length: descriptor.length() }
        }));
        self.rx_fetched = self.rx_fetched.wrapping_add(count);
        Ok(self.rx_cache.pop_front())
    }

    /// Gives a slot back that no frame was put into.
    pub(super) fn return_slot(&mut self, slot: Slot) {
        self.rx_cache.push_front(slot);
    }

    /// Translates an access. Returns how many pages the IOTLB did not know: those that a read
    /// over the bus is needed for. Without an IOMMU none is.
    pub(super) fn translate(&mut self, address: u64, length: usize) -> u64 {
        let Some(iotlb) = &mut self.iotlb else { return 0 };
        let (hits, misses) = iotlb.translate(address, length);
        self.counters.iotlb_hits += hits;
        self.counters.iotlb_misses += misses;
        misses
    }

    /// Takes a frame of `descriptors` descriptors off the transmit ring's fetched part.
    pub(super) fn take_frame(&mut self, number: usize, descriptors: usize) -> Sender {
        let context = self.tx_cache.front().is_some_and(|d| d.flags() & CONTEXT != 0);
        self.tx_cache.drain(..descriptors);
        let frame = self.first_in_flight + self.in_flight.len() as u64;
        self.in_flight.push_back(InFlight {
            descriptors: descriptors as u32,
            context,
            gone: false,
        });
        Sender { port: number, epoch: self.epoch, frame }
    }

    /// The frame has arrived wherever it went, or was dropped. Frames are written back in order,
    /// so one that went further than those after it holds them back.
    pub(super) fn complete(&mut self, sender: Sender) {
        if sender.epoch != self.epoch {
            return;
        }
        let at = (sender.frame - self.first_in_flight) as usize;
        if let Some(frame) = self.in_flight.get_mut(at) {
            frame.gone = true;
        }
        let before = self.tx_done;
        while let Some(&frame) = self.in_flight.front().filter(|frame| frame.gone) {
            self.in_flight.pop_front();
            self.first_in_flight += 1;
            let from = self.tx_done.wrapping_add(u32::from(frame.context));
            self.tx_done = self.tx_done.wrapping_add(frame.descriptors);
            self.write_back_sent(from, self.tx_done);
        }
        if self.tx_done != before {
            self.registers.set_tx_done(self.epoch, self.tx_done);
            self.completed = true;
        }
    }

    fn write_back_sent(&mut self, from: u32, to: u32) {
        let mut index = from;
        while index != to {
            if self.write(self.tx_address(index), &Descriptor::sent().0).is_err() {
                // The ring's memory is gone, and with it whoever would read it.
                return;
            }
            self.counters.dma_write_descriptors += DESCRIPTOR_BYTES as u64;
            index = index.wrapping_add(1);
        }
    }

    /// Reads the domain's memory. An unused port has none.
    pub(super) fn read(&self, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        self.owner.as_ref().map_or(Ok(()), |owner| owner.dma.read(owner.domain, address, out))
    }

    /// Writes to the domain's memory.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.owner.as_ref().map_or(Ok(()), |owner| owner.dma.write(owner.domain, address, bytes))
    }

    /// Where the write-back of transmit descriptor `index` goes: for its translation.
    pub(super) fn tx_address(&self, index: u32) -> u64 {
        let at = u64::from(index & (self.sizes.tx - 1)) * DESCRIPTOR_BYTES as u64;
        self.owner.as_ref().map_or(0, |owner| owner.rings + at)
    }

    /// Where the write-back of the next receive descriptor goes: for its translation.
    pub(super) fn rx_address(&self) -> u64 {
        let at = u64::from(self.sizes.tx + (self.rx_done & (self.sizes.rx - 1)));
        self.owner.as_ref().map_or(0, |owner| owner.rings + at * DESCRIPTOR_BYTES as u64)
    }

    /// Puts a frame into a posted buffer, if it can be, and writes its descriptor back: slots are
    /// filled in the order in which they were taken.
    pub(super) fn deliver(&mut self, slot: Slot, frame: &[u8], load: Load, received: Descriptor) {
        let descriptor = if self.write(slot.address, frame).is_ok() {
            self.counters.dma_write_payload += frame.len() as u64;
            self.counters.count_rx(load);
            received
        } else {
            self.counters.drop_frame(DropReason::DmaFault, load);
            Descriptor::failed()
        };
        if self.write(self.rx_address(), &descriptor.0).is_ok() {
            self.counters.dma_write_descriptors += DESCRIPTOR_BYTES as u64;
        }
        self.rx_done = self.rx_done.wrapping_add(1);
        self.registers.set_rx_done(self.epoch, self.rx_done);
        self.received = true;
    }

    /// Raises the interrupt if there is a reason to.
    pub(super) fn raise(&mut self) {
        let received = std::mem::take(&mut self.received);
        let completed = std::mem::take(&mut self.completed) && self.registers.take_tx_interrupt();
        if let Some(owner) = self.owner.as_ref().filter(|_| received || completed) {
            owner.interrupt.raise();
            self.counters.interrupts += 1;
        }
    }
}

/// One direction of the bus, in the hands of one frame.
pub(super) struct Link<'a> {
    lane: &'a mut Lane,
    /// Nothing starts before this.
    pub(super) ready: Instant,
    miss_ns: u64,
}

impl<'a> Link<'a> {
    pub(super) fn new(lane: &'a mut Lane, ready: Instant, miss_ns: u64) -> Link<'a> {
        Link { lane, ready, miss_ns }
    }

    /// Carries that much, with that many translations to wait for. Says when it has arrived.
    pub(super) fn carry(&mut self, bytes: usize, misses: u64) -> Instant {
        self.lane.reserve(self.ready, bytes, misses * self.miss_ns)
    }
}
