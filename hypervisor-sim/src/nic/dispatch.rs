//! Frames through the card: what is cut, and where each frame goes.

use xenvelope_grant::seam::{Direction, Instant, Offload};

use super::counters::{DropReason, NicCounters};
use super::descriptor::DESCRIPTOR_BYTES;
use super::engine::{Delivery, Departure, Engine};
use super::ingest::Step;
use super::packet::PacketId;
use super::port::Link;
use super::segment::Cut;
use super::table::{Mac, Source};

/// A frame that is being cut, one piece in each of its port's turns: others go in between, and
/// there need not be packet memory for all pieces at once.
#[derive(Debug)]
pub(super) struct Cutting {
    pub(super) cut: Cut,
    /// The whole frame. It waits for its pieces, and its sender with it.
    pub(super) whole: PacketId,
    /// The next piece.
    pub(super) next: usize,
    pub(super) count: usize,
    /// When the whole frame was in the card.
    pub(super) there: Instant,
    /// Descriptors to write back when all is sent.
    pub(super) descriptors: usize,
}

impl Engine {
    /// Begins to cut a frame that was let in.
    pub(super) fn begin_cut(&mut self, number: usize, cutting: Cutting) {
        self.packets.get(cutting.whole).pending = 1;
        let port = &mut self.ports[number];
        port.counters.segmented_extra += cutting.count as u64 - 1;
        port.cutting = Some(cutting);
    }

    /// Sends the next piece of the frame that a port has in the cutter.
    pub(super) fn cut_next(&mut self, number: usize) -> Step {
        let Some(mut cutting) = self.ports[number].cutting.take() else {
            return Step::Idle;
        };
        let length = cutting.cut.length(cutting.next);
        let Some(id) = self.packets.take(length) else {
            self.ports[number].cutting = Some(cutting);
            return Step::Stalled;
        };
        if let Some((whole, piece)) = self.packets.both(cutting.whole, id) {
            cutting.cut.write(whole.plain(), cutting.next, piece.reset(length));
            piece.set_control(whole.control());
            piece.offload = Offload { checksum_valid: true, ..Offload::default() };
            piece.parent = Some(cutting.whole);
            whole.pending += 1;
        }
        self.dispatch(Source::Port(number), id, cutting.there);
        cutting.next += 1;
        if cutting.next < cutting.count {
            self.ports[number].cutting = Some(cutting);
        } else {
            self.arrived(cutting.whole);
            self.charge_write_back(number, cutting.descriptors, cutting.there);
        }
        Step::Moved(length)
    }

    /// Counts what is lost with a port's link: pieces that were not cut yet, and what lies in
    /// its transmit ring.
    pub(super) fn abandon(&mut self, number: usize) {
        let port = &mut self.ports[number];
        port.abandon_ring();
        let Some(cutting) = port.cutting.take() else {
            return;
        };
        let whole = self.packets.get(cutting.whole);
        whole.sender = None;
        let load = whole.load;
        for _ in cutting.next..cutting.count {
            port.counters.drop_frame(DropReason::LinkDown, load);
        }
        self.arrived(cutting.whole);
    }

    /// Sends a frame that is in the card on to wherever it goes: sets a buffer of each receiver
    /// and time on the bus aside.
    pub(super) fn dispatch(&mut self, source: Source, id: PacketId, now: Instant) {
        let packet = self.packets.get(id);
        let load = packet.load;
        let mut to: Mac = [0; 6];
        to.copy_from_slice(&packet.plain()[..6]);
        let (plain, trunk) = (packet.length(), packet.trunk_length());
        let destinations = self.table.route(source, to, packet.vid());
        let outwards = destinations.wire && self.wire.is_connected();
        match u64::from(destinations.ports.count_ones()) + u64::from(outwards) {
            0 => self.counters_of(source).drop_frame(DropReason::NoDestination, load),
            copies => self.counters_of(source).count_flood(copies - 1, load),
        }
        let mut left = destinations.ports;
        while left != 0 {
            let number = left.trailing_zeros() as usize;
            left &= left - 1;
            let length = if self.ports[number].trunk { trunk } else { plain };
            match self.set_aside(number, id, length, now) {
                Ok(delivery) => {
                    self.deliveries.push_back(delivery);
                    self.packets.get(id).pending += 1;
                }
                Err(reason) => {
                    self.ports[number].counters.drop_frame(reason, load);
                    if let Some(taps) = &self.taps {
                        let frame = self.packets.get(id).plain();
                        taps.port(number, Direction::In, frame, Some(reason));
                    }
                }
            }
        }
        if outwards {
            // Pieces of a frame that waited in the cutter leave after what left meanwhile.
            let last = self.departures.back().map_or(now, |departure| departure.at);
            let at = (now + self.latency).max(last);
            self.departures.push_back(Departure { at, packet: id });
            self.packets.get(id).pending += 1;
        }
        if self.packets.get(id).pending == 0 {
            self.arrived(id);
        }
    }

    fn counters_of(&mut self, source: Source) -> &mut NicCounters {
        match source {
            Source::Port(number) => &mut self.ports[number].counters,
            Source::Wire => &mut self.wire_counters,
        }
    }

    fn set_aside(
        &mut self,
        number: usize,
        id: PacketId,
        length: usize,
        now: Instant,
    ) -> Result<Delivery, DropReason> {
        let port = &mut self.ports[number];
        let mut link = Link::new(&mut self.bus.read, now, self.miss_ns);
        let slot = match port.next_slot(&mut link) {
            Ok(Some(slot)) => slot,
            Ok(None) => return Err(DropReason::NoReceiveBuffer),
            Err(_) => return Err(DropReason::DmaFault),
        };
        if length > slot.length {
            port.return_slot(slot);
            return Err(DropReason::TooLong);
        }
        let misses = port.translate(slot.address, length) + port.translate(port.rx_address(), 1);
        let stall = misses * self.miss_ns;
        let written = self.bus.write.reserve(now, length + DESCRIPTOR_BYTES, stall);
        let (epoch, at) = (port.epoch, written + self.latency);
        Ok(Delivery { at, packet: id, port: number, epoch, slot })
    }
}
