//! A receive queue as the driver domain sees it: buffers by address, whoever's they are.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xenvelope_grant::seam::{Filled, PortId, Unfilled};

use super::descriptor::{DONE, Descriptor, ERROR};
use super::dma::{DmaWords, Interrupt};
use super::driver::offset;
use super::registers::Registers;
use super::{CardPort, Nic};

/// The ring, as its one owner knows it.
struct Ring<R> {
    /// The transmit ring, which stays empty, and after it the receive ring.
    words: R,
    epoch: u32,
    /// The lengths of the buffers that were posted, oldest first.
    posted: VecDeque<u32>,
    /// Buffers of a life of the port that has ended.
    lost: usize,
    next: u32,
    reaped: u32,
}

/// The driver's half of a receive queue. Dropping it takes the queue back.
///
/// Each posted buffer comes back by [`QueuePort::reap`], in order: with a frame, without one since
/// the card could not write, or without one since the link went.
pub struct QueuePort<R: DmaWords> {
    nic: Arc<Nic>,
    port: CardPort,
    registers: Arc<Registers>,
    interrupt: Arc<dyn Interrupt>,
    tx_ring: u32,
    rx_ring: u32,
    ring: Mutex<Ring<R>>,
}

impl<R: DmaWords> QueuePort<R> {
    pub(super) fn new(
        nic: Arc<Nic>,
        port: CardPort,
        registers: Arc<Registers>,
        interrupt: Arc<dyn Interrupt>,
        words: R,
    ) -> QueuePort<R> {
        let (tx_ring, rx_ring) = (nic.config().tx_ring as u32, nic.config().rx_ring as u32);
        let (epoch, posted) = (registers.epoch(), VecDeque::with_capacity(rx_ring as usize));
        let ring = Mutex::new(Ring { words, epoch, posted, lost: 0, next: 0, reaped: 0 });
        QueuePort { nic, port, registers, interrupt, tx_ring, rx_ring, ring }
    }

    /// The ring, and which life of the port there is now.
    fn ring(&self) -> (MutexGuard<'_, Ring<R>>, u32) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring, self.registers.epoch())
    }

    /// Which port of the card it is.
    pub fn port(&self) -> CardPort {
        self.port
    }

    /// How many more buffers it takes. None while there is no link, or while buffers of an earlier
    /// life have not come back.
    pub fn room(&self) -> usize {
        let (ring, epoch) = self.ring();
        if ring.epoch != epoch || ring.lost > 0 || !Registers::is_up(epoch) {
            return 0;
        }
        self.rx_ring as usize - ring.posted.len()
    }

    /// Gives the card buffers, as address and length, and tells it with one doorbell. Those for
    /// which there is no room are not taken: how many were.
    pub fn post(&self, buffers: impl Iterator<Item = (u64, u32)>) -> usize {
        let room = self.room();
        let (mut ring, _) = self.ring();
        let ring = &mut *ring;
        let mut taken = 0;
        for (address, length) in buffers.take(room) {
            let at = offset(self.tx_ring, ring.next, self.rx_ring);
            ring.words.copy_in(at, &Descriptor::data(address, length, 0).0);
            ring.next = ring.next.wrapping_add(1);
            ring.posted.push_back(length);
            taken += 1;
        }
        if taken > 0 {
            self.registers.set_rx_tail(ring.epoch, ring.next);
        }
        taken
    }

    /// What has become of the oldest posted buffer, if it is not the card's any more.
    pub fn reap(&self) -> Option<Result<Filled, Unfilled>> {
        let (mut ring, epoch) = self.ring();
        let ring = &mut *ring;
        // What is in memory is there, whatever became of the link since.
        let done = self.registers.rx_done(ring.epoch).unwrap_or(ring.reaped);
        if done != ring.reaped && !ring.posted.is_empty() {
            let mut descriptor = Descriptor::default();
            let at = offset(self.tx_ring, ring.reaped, self.rx_ring);
            ring.words.copy_out(at, &mut descriptor.0);
            ring.reaped = ring.reaped.wrapping_add(1);
            let room = ring.posted.pop_front()?;
            let (length, offload) = descriptor.arrived();
            if descriptor.flags() & (DONE | ERROR) != DONE || length > room as usize {
                return Some(Err(Unfilled::Fault));
            }
            // At most `room`, and that is at most a page.
            return Some(Ok(Filled { length: length as u16, offload }));
        }
        if ring.epoch != epoch {
            ring.epoch = epoch;
            ring.lost += ring.posted.len();
            ring.posted.clear();
            (ring.next, ring.reaped) = (0, 0);
        }
        ring.lost = ring.lost.checked_sub(1)?;
        Some(Err(Unfilled::NoLink))
    }

    /// The event that says that frames have come.
    pub fn interrupt(&self) -> PortId {
        self.interrupt.id()
    }

    /// Lets the interrupt fire again.
    pub fn unmask(&self) {
        self.interrupt.unmask();
    }
}

impl<R: DmaWords> Drop for QueuePort<R> {
    fn drop(&mut self) {
        // Before the ring and the buffers go: the card must not touch them any more.
        self.nic.detach(self.port);
    }
}

impl<R: DmaWords> fmt::Debug for QueuePort<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueuePort").field(&self.port).finish()
    }
}
