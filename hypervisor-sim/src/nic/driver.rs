//! A port as its domain sees it: the driver of a VF, or of the PF.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xenvelope_grant::seam::{Arrival, NicCapabilities, NicError, NicPort, Offload, PortId, Unsent};

use super::config::MAX_WHOLE;
use super::descriptor::{DESCRIPTOR_BYTES, DONE, Descriptor, END, ERROR, MAX_PIECE};
use super::dma::{DmaBuffer, DmaWords, Interrupt};
use super::load::{HEAD_BYTES, Load};
use super::registers::Registers;
use super::segment;
use super::{CardPort, Nic};

/// While the card knows of fewer buffers than this part of the ring, it is told of each new one
/// at once.
const LOW_PART: u32 = 4;
/// Otherwise one doorbell tells of as many as this part of the ring, or of the last that fits.
const BATCH_PART: u32 = 16;

/// A buffer in the transmit ring.
struct Sent<B> {
    buffer: B,
    frame: Range<usize>,
    /// The index after the frame's last descriptor.
    end: u32,
}

impl<B: DmaBuffer> Sent<B> {
    /// What is lost if the frame is.
    fn load(&self) -> Load {
        let mut head = [0; HEAD_BYTES];
        let known = self.frame.len().min(HEAD_BYTES);
        self.buffer.get(self.frame.start, &mut head[..known]);
        Load::of(&head[..known])
    }
}

/// A buffer in the receive ring.
struct Posted<B> {
    buffer: B,
    headroom: usize,
    length: usize,
}

/// Both rings, as their one owner knows them.
struct Queues<B, R> {
    /// The transmit ring, and after it the receive ring.
    rings: R,
    epoch: u32,
    tx: VecDeque<Sent<B>>,
    /// Frames whose port went down before they left.
    abandoned: VecDeque<B>,
    /// Frames that were in memory when the link went.
    rescued: VecDeque<Arrival<B>>,
    tx_next: u32,
    tx_told: u32,
    tx_reaped: u32,
    rx: VecDeque<Posted<B>>,
    rx_next: u32,
    rx_told: u32,
    rx_reaped: u32,
}

/// The driver's half of a port: rings of 16-byte descriptors in its own domain's memory, and
/// registers.
///
/// When the link goes away (the VF was unplugged, or broke the rules) the card has already let
/// go of every buffer: those of frames come back by [`NicPort::completed`], frames that were in
/// memory by [`NicPort::receive`], and those that waited for frames are dropped. Frames that were lost so are in the card's counters, those that no
/// doorbell told of as soon as the driver next looks at the port. With the link the driver may
/// simply post again. Dropping the port takes the VF back from the domain.
pub struct VfPort<B: DmaBuffer, R: DmaWords> {
    nic: Arc<Nic>,
    port: CardPort,
    registers: Arc<Registers>,
    interrupt: Arc<dyn Interrupt>,
    max_frame: usize,
    /// What is added to a buffer's address.
    base: u64,
    tx_ring: u32,
    rx_ring: u32,
    queues: Mutex<Queues<B, R>>,
}

impl<B: DmaBuffer, R: DmaWords> VfPort<B, R> {
    pub(super) fn new(
        nic: Arc<Nic>,
        port: CardPort,
        registers: Arc<Registers>,
        interrupt: Arc<dyn Interrupt>,
        rings: R,
        base: u64,
    ) -> VfPort<B, R> {
        let config = nic.config();
        let (max_frame, tx_ring, rx_ring) = (config.max_frame, config.tx_ring, config.rx_ring);
        let queues = Queues {
            rings,
            epoch: registers.epoch(),
            tx: VecDeque::with_capacity(tx_ring),
            abandoned: VecDeque::new(),
            tx_next: 0,
            tx_told: 0,
            tx_reaped: 0,
            rescued: VecDeque::new(),
            rx: VecDeque::with_capacity(rx_ring),
            rx_next: 0,
            rx_told: 0,
            rx_reaped: 0,
        };
        VfPort {
            nic,
            port,
            registers,
            interrupt,
            max_frame,
            base,
            tx_ring: tx_ring as u32,
            rx_ring: rx_ring as u32,
            queues: Mutex::new(queues),
        }
    }

    /// Which port of the card it is.
    pub fn port(&self) -> CardPort {
        self.port
    }

    /// The queues, brought to the port's present life.
    fn queues(&self) -> MutexGuard<'_, Queues<B, R>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.registers.epoch();
        if queues.epoch != epoch {
            self.account_for(&queues);
            self.rescue(&mut queues);
            queues.begin(epoch);
        }
        queues
    }

    /// Tells the card's ledger of the frames that its port's end came before: put into the ring,
    /// but not told of by a doorbell that the card saw.
    fn account_for(&self, queues: &Queues<B, R>) {
        let accounted = self.registers.tx_accounted(queues.epoch);
        let unseen = |sent: &&Sent<B>| sent.end.wrapping_sub(accounted) as i32 > 0;
        let unseen = queues.tx.iter().rev().take_while(unseen);
        self.nic.count_lost(self.port, unseen.map(Sent::load));
    }

    /// Frames that were in memory before the link went are not lost: the driver empties its ring
    /// once more. The card writes nothing of a new life before buffers are posted in it.
    fn rescue(&self, queues: &mut Queues<B, R>) {
        while let Some(arrival) = self.next_arrival(queues) {
            queues.rescued.push_back(arrival);
        }
    }

    /// The next frame that is in memory.
    fn next_arrival(&self, queues: &mut Queues<B, R>) -> Option<Arrival<B>> {
        let done = self.registers.rx_done(queues.epoch).unwrap_or(0);
        while done != queues.rx_reaped {
            let mut descriptor = Descriptor::default();
            let at = offset(self.tx_ring, queues.rx_reaped, self.rx_ring);
            queues.rings.copy_out(at, &mut descriptor.0);
            queues.rx_reaped = queues.rx_reaped.wrapping_add(1);
            let posted = queues.rx.pop_front()?;
            let (length, offload) = descriptor.arrived();
            // The card is trusted as any device behind an IOMMU is: not with a length.
            if descriptor.flags() & (DONE | ERROR) == DONE && length <= posted.length {
                let frame = posted.headroom..posted.headroom + length;
                return Some(Arrival { buffer: posted.buffer, frame, offload });
            }
        }
        None
    }

    fn tell_rx(&self, queues: &mut Queues<B, R>) {
        if queues.rx_told != queues.rx_next {
            queues.rx_told = queues.rx_next;
            // The card looks when it needs a buffer: no reason to wake it.
            self.registers.set_rx_tail(queues.epoch, queues.rx_next);
        }
    }
}

impl<B, R> Queues<B, R> {
    /// The link came or went: the card has let go of everything, and both rings start anew.
    fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.abandoned.extend(self.tx.drain(..).map(|sent| sent.buffer));
        (self.tx_next, self.tx_told, self.tx_reaped) = (0, 0, 0);
        self.rx.clear();
        (self.rx_next, self.rx_told, self.rx_reaped) = (0, 0, 0);
    }
}

/// Where descriptor `index` lies in a ring of `size` that starts after `before` descriptors.
pub(super) fn offset(before: u32, index: u32, size: u32) -> usize {
    (before + (index & (size - 1))) as usize * DESCRIPTOR_BYTES
}

impl<B: DmaBuffer, R: DmaWords> NicPort for VfPort<B, R> {
    type Buf = B;

    fn capabilities(&self) -> NicCapabilities {
        NicCapabilities { mac: self.registers.mac(), max_frame: self.max_frame, checksum: true }
    }

    fn link(&self) -> bool {
        Registers::is_up(self.registers.epoch())
    }

    fn interrupt(&self) -> PortId {
        self.interrupt.id()
    }

    fn unmask(&self) {
        self.tell_rx(&mut self.queues());
        self.interrupt.unmask();
    }

    fn send(&self, buffer: B, frame: Range<usize>, offload: Offload) -> Result<(), Unsent<B>> {
        let mut queues = self.queues();
        let queues = &mut *queues;
        if !Registers::is_up(queues.epoch) {
            return Err(Unsent { cause: NicError::NoLink, buffer });
        }
        let length = frame.len();
        let longest = if segment::is_asked(&offload) { MAX_WHOLE } else { self.max_frame };
        if length > longest || frame.end > buffer.capacity() {
            return Err(Unsent { cause: NicError::TooLong, buffer });
        }
        let context = offload.needs_checksum || offload.gso_type != 0;
        let pieces = length.div_ceil(MAX_PIECE).max(1);
        let used =
            queues.tx_next.wrapping_sub(queues.tx_reaped) + pieces as u32 + u32::from(context);
        if used > self.tx_ring {
            self.registers.ask_for_tx_interrupt();
            // What was completed before the card could see the question will not answer it.
            let done = self.registers.tx_done(queues.epoch);
            if done.is_some_and(|done| done != queues.tx_reaped)
                && self.registers.take_tx_interrupt()
            {
                self.interrupt.raise();
            }
            return Err(Unsent { cause: NicError::Full, buffer });
        }
        let mut put = |descriptor: Descriptor| {
            let at = offset(0, queues.tx_next, self.tx_ring);
            queues.rings.copy_in(at, &descriptor.0);
            queues.tx_next = queues.tx_next.wrapping_add(1);
        };
        if context {
            put(Descriptor::context(&offload));
        }
        let address = self.base + buffer.dma_address() + frame.start as u64;
        for piece in 0..pieces {
            let from = piece * MAX_PIECE;
            let flags = if piece + 1 == pieces { END } else { 0 };
            let bytes = (length - from).min(MAX_PIECE) as u32;
            put(Descriptor::data(address + from as u64, bytes, flags));
        }
        queues.tx.push_back(Sent { buffer, frame, end: queues.tx_next });
        if used > self.tx_ring / 4 * 3 {
            self.registers.ask_for_tx_interrupt();
        }
        Ok(())
    }

    fn kick(&self) {
        let mut queues = self.queues();
        self.tell_rx(&mut queues);
        if queues.tx_told != queues.tx_next {
            queues.tx_told = queues.tx_next;
            self.registers.set_tx_tail(queues.epoch, queues.tx_next);
            drop(queues);
            self.nic.ring();
        }
    }

    fn completed(&self) -> Option<B> {
        let mut queues = self.queues();
        if let Some(buffer) = queues.abandoned.pop_front() {
            return Some(buffer);
        }
        let done = self.registers.tx_done(queues.epoch)?;
        let end = queues.tx.front()?.end;
        // Both are at most a ring ahead of what was reaped.
        if done.wrapping_sub(queues.tx_reaped) < end.wrapping_sub(queues.tx_reaped) {
            return None;
        }
        queues.tx_reaped = end;
        queues.tx.pop_front().map(|sent| sent.buffer)
    }

    fn in_flight(&self) -> usize {
        let queues = self.queues();
        queues.tx.len() + queues.abandoned.len()
    }

    fn wanted(&self) -> (usize, usize) {
        let queues = self.queues();
        let free = if Registers::is_up(queues.epoch) {
            self.rx_ring as usize - queues.rx.len()
        } else {
            0
        };
        (free, self.max_frame)
    }

    fn post(&self, buffer: B, headroom: usize) -> Result<(), B> {
        let mut queues = self.queues();
        let queues = &mut *queues;
        let full = queues.rx.len() == self.rx_ring as usize;
        if full || headroom >= buffer.capacity() || !Registers::is_up(queues.epoch) {
            return Err(buffer);
        }
        let length = (buffer.capacity() - headroom).min(self.max_frame);
        let address = self.base + buffer.dma_address() + headroom as u64;
        let at = offset(self.tx_ring, queues.rx_next, self.rx_ring);
        queues.rings.copy_in(at, &Descriptor::data(address, length as u32, 0).0);
        queues.rx_next = queues.rx_next.wrapping_add(1);
        queues.rx.push_back(Posted { buffer, headroom, length });
        let posted = queues.rx.len() as u32;
        let untold = queues.rx_next.wrapping_sub(queues.rx_told);
        let known = posted - untold;
        let enough = untold >= self.rx_ring / BATCH_PART || posted == self.rx_ring;
        if enough || known < self.rx_ring / LOW_PART {
            self.tell_rx(queues);
        }
        Ok(())
    }

    fn receive(&self) -> Option<Arrival<B>> {
        let mut queues = self.queues();
        let queues = &mut *queues;
        if let Some(rescued) = queues.rescued.pop_front() {
            return Some(rescued);
        }
        let arrival = self.next_arrival(queues);
        if arrival.is_none() {
            self.tell_rx(queues);
        }
        arrival
    }
}

impl<B: DmaBuffer, R: DmaWords> Drop for VfPort<B, R> {
    fn drop(&mut self) {
        // Before the rings and the buffers go: the card must not touch them any more.
        self.nic.detach(self.port);
        drop(self.queues());
    }
}
