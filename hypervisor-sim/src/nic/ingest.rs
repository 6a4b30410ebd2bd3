//! Frames into the card: from transmit rings and from the wire, to the switch.

use xenvelope_grant::seam::{Direction, Instant, Offload};

use super::checksum;
use super::counters::DropReason;
use super::described::Described;
use super::descriptor::{CONTEXT, DESCRIPTOR_BYTES};
use super::dispatch::Cutting;
use super::engine::Engine;
use super::load::Load;
use super::packet::{HEADER_BYTES, PacketId, TAG_BYTES};
use super::port::Link;
use super::segment::{self, Cut};
use super::table::Source;

/// What came of an attempt to take a frame in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There was none.
    Idle,
    /// There is one, but no packet memory for it.
    Stalled,
    /// One of that many bytes was taken.
    Moved(usize),
}

/// What becomes of a frame that was let in.
#[derive(Clone, Copy, Debug)]
enum Admitted {
    /// It is switched as it is.
    Whole,
    /// It is cut first.
    Cut(Cut),
}

impl Engine {
    /// Takes the next frame off a port's transmit ring, or the next piece of the last one.
    pub(super) fn ingest_port(&mut self, number: usize) -> Step {
        if self.ports[number].cutting.is_some() {
            return self.cut_next(number);
        }
        if !self.ports[number].has_work() {
            return Step::Idle;
        }
        let frame = loop {
            let (port, miss_ns) = (&mut self.ports[number], self.miss_ns);
            if let Some(frame) = Described::parse(port.tx_cache()) {
                break frame;
            }
            let mut link = Link::new(&mut self.bus.read, Instant(0), miss_ns);
            match port.fetch_tx(&mut link) {
                Ok(1..) => {}
                // The driver rings only for whole frames.
                Ok(0) => {
                    self.fail(number, DropReason::Malformed);
                    return Step::Idle;
                }
                Err(_) => {
                    self.fail(number, DropReason::DmaFault);
                    return Step::Idle;
                }
            }
        };
        if let Some(reason) = frame.fault(self.max_frame) {
            let port = &mut self.ports[number];
            let sender = port.take_frame(number, frame.descriptors);
            // The card has not read it.
            port.counters.count_tx(Load::Frame);
            port.counters.drop_frame(reason, Load::Frame);
            port.complete(sender);
            return Step::Moved(0);
        }
        let room = if frame.is_cut() {
            self.packets.take_whole()
        } else {
            self.packets.take(frame.length)
        };
        let Some(id) = room else {
            return Step::Stalled;
        };
        let (read, there) = self.gather(number, &frame, id);
        let admitted = read.and_then(|()| self.admit(number, id));
        if let Some(taps) = &self.taps {
            let packet = self.packets.get(id);
            let frame = if self.ports[number].trunk { packet.trunk() } else { packet.plain() };
            taps.port(number, Direction::Out, frame, admitted.err());
        }
        match admitted {
            Ok(Admitted::Whole) => self.dispatch(Source::Port(number), id, there),
            Ok(Admitted::Cut(cut)) => {
                let (count, descriptors) = (cut.count(), frame.written_back());
                let cutting = Cutting { cut, whole: id, next: 0, count, there, descriptors };
                self.begin_cut(number, cutting);
                return self.cut_next(number);
            }
            Err(reason) => {
                let load = self.packets.get(id).load;
                self.ports[number].counters.drop_frame(reason, load);
                self.arrived(id);
            }
        }
        // After the frame itself, since that is when it will be written.
        self.charge_write_back(number, frame.written_back(), there);
        Step::Moved(frame.length)
    }

    /// Reads the frame's pieces into the packet. Says when they are there.
    fn gather(
        &mut self,
        number: usize,
        frame: &Described,
        id: PacketId,
    ) -> (Result<(), DropReason>, Instant) {
        let port = &mut self.ports[number];
        let ready = port.ready_since(port.tx_end(frame.descriptors));
        let mut link = Link::new(&mut self.bus.read, ready, self.miss_ns);
        let packet = self.packets.get(id);
        let mut room = packet.reset(frame.length);
        let mut result = Ok(());
        let mut there = link.carry(0, 0);
        for at in 0..frame.descriptors {
            let Some(&piece) = port.tx_cache().get(at) else {
                break;
            };
            if piece.flags() & CONTEXT != 0 {
                continue;
            }
            let (part, rest) = room.split_at_mut(piece.length());
            room = rest;
            let misses = port.translate(piece.address(), part.len());
            there = link.carry(part.len(), misses);
            if port.read(piece.address(), part).is_err() {
                result = Err(DropReason::DmaFault);
                break;
            }
            port.counters.dma_read_payload += part.len() as u64;
        }
        if result.is_ok() {
            packet.load = Load::of(packet.plain());
        }
        port.counters.count_tx(packet.load);
        packet.offload = frame.offload;
        packet.sender = Some(port.take_frame(number, frame.descriptors));
        (result, there)
    }

    /// Sets time on the bus aside for writing that many descriptors back, the last that were
    /// taken from the ring.
    pub(super) fn charge_write_back(&mut self, number: usize, descriptors: usize, there: Instant) {
        let port = &mut self.ports[number];
        let bytes = descriptors * DESCRIPTOR_BYTES;
        let misses = port.translate(port.tx_address(port.tx_end(0).wrapping_sub(1)), 1);
        self.bus.write.reserve(there, bytes, misses * self.miss_ns);
    }

    /// Checks what a port sends, puts it into the port's VLAN, and sees to its checksum or
    /// to how it is cut.
    fn admit(&mut self, number: usize, id: PacketId) -> Result<Admitted, DropReason> {
        let port = &self.ports[number];
        let packet = self.packets.get(id);
        let tagged = packet.has_tag();
        if port.trunk {
            if tagged && !packet.strip() {
                return Err(DropReason::Malformed);
            }
        } else {
            let (mac, vid) = (port.mac, port.vid);
            if self.anti_spoof && packet.plain()[6..12] != mac {
                return Err(DropReason::Spoofed);
            }
            if tagged {
                return Err(DropReason::Vlan);
            }
            packet.set_control(vid);
        }
        let asked = packet.offload;
        if segment::is_asked(&asked) {
            let cut = Cut::plan(packet.plain(), &asked).ok_or(DropReason::Segmentation)?;
            // No piece is longer than the first.
            if cut.length(0) > self.max_frame {
                return Err(DropReason::TooLong);
            }
            return Ok(Admitted::Cut(cut));
        }
        let checksum_valid = if asked.needs_checksum {
            let start = usize::from(asked.checksum_start);
            if !checksum::fill(packet.plain(), start, usize::from(asked.checksum_offset)) {
                return Err(DropReason::Malformed);
            }
            true
        } else {
            checksum::verify(packet.plain())
        };
        packet.offload = Offload { checksum_valid, ..Offload::default() };
        Ok(Admitted::Whole)
    }

    /// Takes the next frame off the wire.
    pub(super) fn ingest_wire(&mut self, now: Instant) -> Step {
        let Some(length) = self.wire.next_length() else {
            return Step::Idle;
        };
        let largest = self.max_frame + TAG_BYTES;
        let id = if (HEADER_BYTES..=largest).contains(&length) {
            let Some(id) = self.packets.take(length) else {
                return Step::Stalled;
            };
            Some(id)
        } else {
            None
        };
        let Some(frame) = self.wire.arrival() else {
            // The wire was cut between the two looks.
            if let Some(id) = id {
                self.packets.give_back(id);
            }
            return Step::Idle;
        };
        let load = Load::of(&frame);
        self.wire_counters.count_tx(load);
        let result = match id {
            Some(id) if frame.len() == length => self.accept(id, &frame).map(|()| id),
            // The wire was cut and connected again between the two looks: another frame.
            Some(id) => Err((DropReason::Malformed, Some(id))),
            None if length > largest => Err((DropReason::TooLong, None)),
            None => Err((DropReason::Malformed, None)),
        };
        if let Some(taps) = &self.taps {
            taps.wire(Direction::In, &frame, result.as_ref().err().map(|(reason, _)| *reason));
        }
        self.wire.give_back(frame);
        match result {
            Ok(id) => self.dispatch(Source::Wire, id, now),
            Err((reason, id)) => {
                self.wire_counters.drop_frame(reason, load);
                if let Some(id) = id {
                    self.packets.give_back(id);
                }
            }
        }
        Step::Moved(length)
    }

    /// Puts a frame that came by the wire into a packet.
    fn accept(&mut self, id: PacketId, frame: &[u8]) -> Result<(), (DropReason, Option<PacketId>)> {
        let packet = self.packets.get(id);
        packet.reset(frame.len()).copy_from_slice(frame);
        packet.load = Load::of(frame);
        if packet.has_tag() && !packet.strip() {
            return Err((DropReason::Malformed, Some(id)));
        }
        if packet.length() > self.max_frame {
            return Err((DropReason::TooLong, Some(id)));
        }
        packet.offload.checksum_valid = checksum::verify(packet.plain());
        Ok(())
    }
}
