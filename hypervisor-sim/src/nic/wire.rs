//! The wire, and whatever is at its other end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use thiserror::Error;

use super::registers::Bell;

/// How many frames each direction holds.
const QUEUE_FRAMES: usize = 1024;

/// The card does not keep up with what comes in by the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the wire holds as many frames as it can")]
pub struct WireFull;

/// One direction. Frames keep their order.
#[derive(Debug, Default)]
struct Direction {
    queue: Mutex<Frames>,
    waiting: AtomicUsize,
    arrived: Condvar,
    listener: OnceLock<Listener>,
}

/// Who is to be told of a frame beside whoever waits.
struct Listener(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

#[derive(Debug, Default)]
struct Frames {
    queue: VecDeque<Vec<u8>>,
    /// Vectors of frames that were taken: the next frames lie in them.
    spare: Vec<Vec<u8>>,
}

impl Direction {
    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: &[u8]) -> Result<(), WireFull> {
        let mut frames = self.lock();
        if frames.queue.len() == QUEUE_FRAMES {
            return Err(WireFull);
        }
        let mut vector = frames.spare.pop().unwrap_or_default();
        vector.clear();
        vector.extend_from_slice(frame);
        frames.queue.push_back(vector);
        self.waiting.store(frames.queue.len(), Ordering::Release);
        let first = frames.queue.len() == 1;
        drop(frames);
        self.arrived.notify_all();
        if first {
            self.tell();
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(Listener(tell)) = self.listener.get() {
            tell();
        }
    }

    fn pop(&self) -> Option<Vec<u8>> {
        // Mostly there is nothing, and then the lock is not needed to know.
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut frames = self.lock();
        let frame = frames.queue.pop_front();
        self.waiting.store(frames.queue.len(), Ordering::Release);
        frame
    }

    fn give_back(&self, frame: Vec<u8>) {
        let mut frames = self.lock();
        if frames.spare.len() < QUEUE_FRAMES {
            frames.spare.push(frame);
        }
    }

    fn clear(&self) {
        let mut frames = self.lock();
        frames.queue.clear();
        self.waiting.store(0, Ordering::Release);
    }
}

/// Both directions.
#[derive(Debug, Default)]
pub(super) struct Wire {
    outwards: Direction,
    inwards: Direction,
    connected: AtomicBool,
}

impl Wire {
    /// Whether there is somebody at the other end.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Sends a frame out.
    pub(super) fn transmit(&self, frame: &[u8]) -> Result<(), WireFull> {
        self.outwards.push(frame)
    }

    /// Whether frames have come in.
    pub(super) fn has_arrivals(&self) -> bool {
        self.inwards.waiting.load(Ordering::Acquire) != 0
    }

    /// The length of the next frame that came in, in bytes.
    pub(super) fn next_length(&self) -> Option<usize> {
        if !self.has_arrivals() {
            return None;
        }
        self.inwards.lock().queue.front().map(Vec::len)
    }

    /// The next frame that came in.
    pub(super) fn arrival(&self) -> Option<Vec<u8>> {
        self.inwards.pop()
    }

    /// Gives an arrival's memory back.
    pub(super) fn give_back(&self, frame: Vec<u8>) {
        self.inwards.give_back(frame);
    }
}

/// The other end of the wire: a peer outside of the host. When it is dropped the wire is cut.
///
/// A wire that is full refuses the frame. What crosses it is no DMA of a guest.
#[derive(Debug)]
pub struct WireEnd {
    wire: Arc<Wire>,
    bell: Arc<Bell>,
}

impl WireEnd {
    /// Connects to the wire; `None` if somebody is connected.
    pub(super) fn connect(wire: Arc<Wire>, bell: Arc<Bell>) -> Option<WireEnd> {
        if wire.connected.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(WireEnd { wire, bell })
    }

    /// Sends a frame to the card, with its VLAN tag if it has one.
    pub fn send(&self, frame: &[u8]) -> Result<(), WireFull> {
        self.wire.inwards.push(frame)?;
        self.bell.ring();
        Ok(())
    }

    /// The next frame that the card sent out.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.wire.outwards.pop()
    }

    /// Shows the next frame that the card sent out to `look`, and reuses its memory. `false` if
    /// there was none.
    pub fn receive_with(&self, look: &mut impl FnMut(&[u8])) -> bool {
        let Some(frame) = self.wire.outwards.pop() else {
            return false;
        };
        look(&frame);
        self.wire.outwards.give_back(frame);
        true
    }

    /// Whether the next frame would be taken.
    pub fn has_room(&self) -> bool {
        self.wire.inwards.waiting.load(Ordering::Acquire) < QUEUE_FRAMES
    }

    /// Gives the memory of a frame back that was received.
    pub fn give_back(&self, frame: Vec<u8>) {
        self.wire.outwards.give_back(frame);
    }

    /// From now on `tell` is called when a frame comes and there was none, for a peer that waits
    /// for other things too. Only the first that is set is kept, for as long as the card exists.
    pub fn on_arrival(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.wire.outwards.listener.set(Listener(Box::new(tell)));
    }

    /// Calls whoever was set by [`WireEnd::on_arrival`], as if a frame had come.
    pub fn wake(&self) {
        self.wire.outwards.tell();
    }

    /// Waits until there is a frame, or until that time of this process. Says whether there is.
    pub fn wait(&self, until: Instant) -> bool {
        let outwards = &self.wire.outwards;
        let mut frames = outwards.lock();
        while frames.queue.is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|t| !t.is_zero())
            else {
                return false;
            };
            frames = outwards
                .arrived
                .wait_timeout(frames, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl Drop for WireEnd {
    fn drop(&mut self) {
        self.wire.connected.store(false, Ordering::Release);
        self.wire.outwards.clear();
        self.wire.inwards.clear();
    }
}
