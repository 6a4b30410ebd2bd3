//! What a port's driver and the card tell each other outside of memory: registers, and the bell
//! that wakes the card.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Written by the driver: a line of its own.
#[repr(align(64))]
#[derive(Debug, Default)]
struct DriverSide {
    tx_tail: AtomicU64,
    rx_tail: AtomicU64,
    doorbells: AtomicU64,
    wants_tx_interrupt: AtomicBool,
}

/// Written by the card.
#[repr(align(64))]
#[derive(Debug, Default)]
struct CardSide {
    epoch: AtomicU32,
    tx_done: AtomicU64,
    rx_done: AtomicU64,
    tx_accounted: AtomicU64,
    mac: AtomicU64,
}

/// One port's registers.
///
/// Indices count descriptors and run freely. Each carries the port's epoch, which grows whenever
/// the link comes or goes: an index of another life of the port means nothing. While the link is
/// up the epoch is odd.
///
/// The two `done` indices are not read over the bus on a real card: there the driver looks at
/// the descriptor, and the bus keeps the card's writes in order. Here the Release store of the
/// index is what keeps them in order.
#[derive(Debug, Default)]
pub(super) struct Registers {
    driver: DriverSide,
    card: CardSide,
}

fn pack(epoch: u32, index: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(index)
}

fn unpack(value: u64, epoch: u32) -> Option<u32> {
    ((value >> 32) as u32 == epoch).then_some(value as u32)
}

impl Registers {
    /// Which life of the port this is.
    pub(super) fn epoch(&self) -> u32 {
        self.card.epoch.load(Ordering::Acquire)
    }

    /// Whether that epoch is one with a link.
    pub(super) fn is_up(epoch: u32) -> bool {
        epoch & 1 == 1
    }

    /// Begins another life. Only with the card's lock held, and after the card has let go of
    /// everything of the life before.
    pub(super) fn set_epoch(&self, epoch: u32) {
        self.driver.wants_tx_interrupt.store(false, Ordering::Relaxed);
        self.card.epoch.store(epoch, Ordering::Release);
    }

    /// Driver: descriptors up to `tail` hold frames. Rings the doorbell.
    pub(super) fn set_tx_tail(&self, epoch: u32, tail: u32) {
        self.driver.doorbells.fetch_add(1, Ordering::Relaxed);
        self.driver.tx_tail.store(pack(epoch, tail), Ordering::Release);
    }

    /// Driver: descriptors up to `tail` hold buffers. Rings the doorbell.
    pub(super) fn set_rx_tail(&self, epoch: u32, tail: u32) {
        self.driver.doorbells.fetch_add(1, Ordering::Relaxed);
        self.driver.rx_tail.store(pack(epoch, tail), Ordering::Release);
    }

    /// Card: how far the driver has filled the transmit ring.
    pub(super) fn tx_tail(&self, epoch: u32) -> Option<u32> {
        unpack(self.driver.tx_tail.load(Ordering::Acquire), epoch)
    }

    /// Card: how far the driver has filled the receive ring.
    pub(super) fn rx_tail(&self, epoch: u32) -> Option<u32> {
        unpack(self.driver.rx_tail.load(Ordering::Acquire), epoch)
    }

    /// Card: transmit descriptors before `done` are written back.
    pub(super) fn set_tx_done(&self, epoch: u32, done: u32) {
        self.card.tx_done.store(pack(epoch, done), Ordering::SeqCst);
    }

    /// Card: receive descriptors before `done` are written back.
    pub(super) fn set_rx_done(&self, epoch: u32, done: u32) {
        self.card.rx_done.store(pack(epoch, done), Ordering::Release);
    }

    /// Card, when the link goes: frames before `tail` are in its counters, however they ended.
    pub(super) fn set_tx_accounted(&self, epoch: u32, tail: u32) {
        self.card.tx_accounted.store(pack(epoch, tail), Ordering::Release);
    }

    /// Driver: up to where the card counted the frames of a life that has ended. If it never
    /// saw a doorbell in that life it counted none.
    pub(super) fn tx_accounted(&self, epoch: u32) -> u32 {
        unpack(self.card.tx_accounted.load(Ordering::Acquire), epoch).unwrap_or(0)
    }

    /// Driver: how far the card has written the transmit ring back.
    pub(super) fn tx_done(&self, epoch: u32) -> Option<u32> {
        unpack(self.card.tx_done.load(Ordering::SeqCst), epoch)
    }

    /// Driver: how far the card has written the receive ring back.
    pub(super) fn rx_done(&self, epoch: u32) -> Option<u32> {
        unpack(self.card.rx_done.load(Ordering::Acquire), epoch)
    }

    /// Driver: the next completion shall raise the interrupt.
    pub(super) fn ask_for_tx_interrupt(&self) {
        self.driver.wants_tx_interrupt.store(true, Ordering::SeqCst);
    }

    /// Whoever has seen a completion: whether the interrupt is wanted for it. Once only.
    pub(super) fn take_tx_interrupt(&self) -> bool {
        self.driver.wants_tx_interrupt.load(Ordering::SeqCst)
            && self.driver.wants_tx_interrupt.swap(false, Ordering::SeqCst)
    }

    /// How often the driver rang.
    pub(super) fn doorbells(&self) -> u64 {
        self.driver.doorbells.load(Ordering::Relaxed)
    }

    /// Card: the port's address, for the driver to read.
    pub(super) fn set_mac(&self, mac: [u8; 6]) {
        let [a, b, c, d, e, f] = mac;
        self.card.mac.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Ordering::Relaxed);
    }

    /// The port's address.
    pub(super) fn mac(&self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.card.mac.load(Ordering::Relaxed).to_be_bytes();
        [a, b, c, d, e, f]
    }
}

/// Wakes the card. One for the whole card.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    /// There is something to do.
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Whether it was rung since it was silenced.
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// What rang is looked at from now on.
    pub(super) fn silence(&self) {
        // Usually nothing rang; then the line stays shared.
        if self.is_rung() {
            self.rung.swap(false, Ordering::SeqCst);
        }
    }

    /// Sleeps until it is rung, or for that long.
    pub(super) fn sleep(&self, at_most: Option<Duration>) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        // Who rings either sees `asleep`, and then takes the lock and notifies, or has set
        // `rung` before it is looked at here.
        if !self.rung.load(Ordering::SeqCst) {
            match at_most {
                Some(time) => drop(self.wake.wait_timeout(guard, time)),
                None => drop(self.wake.wait(guard)),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
