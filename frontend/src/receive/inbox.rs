//! Received frames that wait for the stack: one after the other, or several at a time for a stack
//! that takes many with one call.

use xenvelope_grant::seam::{Buffer, Hypervisor, NicPort, Offload};

use super::Received;
use crate::interface::Frontend;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Frames that wait for the stack.
    pub fn received(&self) -> usize {
        self.inbox.iter().map(Received::frames).sum()
    }

    /// Hands the next received frame to `read`.
    pub fn receive<R>(&mut self, read: impl FnOnce(&[u8], Offload) -> R) -> Option<R> {
        let Self { host, inbox, parcels, counters, driver, warm, small, .. } = self;
        if let Some(Received::Parcel(parcel)) = inbox.front_mut() {
            let bytes = parcel.next(host)?;
            counters.delivered.frames += 1;
            counters.delivered.bytes += bytes.len() as u64;
            let result = read(bytes, Offload::default());
            if parcel.left() == 0
                && let Some(Received::Parcel(parcel)) = inbox.pop_front()
            {
                parcels.give_back(parcel);
            }
            return Some(result);
        }
        let received = inbox.pop_front()?;
        Some(match received {
            // One that waits first has been read above.
            Received::Parcel(_) => return None,
            Received::Owned { buffer, frame, offload } => {
                counters.delivered.frames += 1;
                counters.delivered.bytes += frame.len() as u64;
                let result = read(&buffer.stack_bytes()[frame], offload);
                warm.keep(buffer);
                result
            }
            Received::Small { frame, offload } => {
                counters.delivered.frames += 1;
                counters.delivered.bytes += frame.len() as u64;
                let result = read(small.bytes(frame), offload);
                small.release();
                result
            }
            Received::Area { frame, offload, end, ring } => {
                counters.delivered.frames += 1;
                counters.delivered.bytes += frame.len() as u64;
                let receiver = driver.as_mut()?.receiver_mut(ring)?;
                let result = read(receiver.bytes(frame)?, offload);
                receiver.release(end);
                result
            }
        })
    }

    /// The oldest of the frames that wait for the stack, oldest first, Ethernet header included: all
    /// of them or some, and none only if none wait. One that cannot be read any more is empty.
    pub fn frames(&mut self) -> impl Iterator<Item = (&[u8], Offload)> {
        self.unpack();
        let frontend = &*self;
        frontend.inbox.iter().map_while(move |received| match received {
            Received::Owned { offload, .. }
            | Received::Small { offload, .. }
            | Received::Area { offload, .. } => Some((frontend.bytes_of(received), *offload)),
            // What is in it has its turn the next time.
            Received::Parcel(_) => None,
        })
    }

    /// The bytes of a received frame, Ethernet header included. One that cannot be read any more
    /// is empty.
    pub(super) fn bytes_of<'a>(&'a self, received: &'a Received<H::Buf>) -> &'a [u8] {
        match received {
            Received::Owned { buffer, frame, .. } => &buffer.stack_bytes()[frame.clone()],
            Received::Small { frame, .. } => self.small.bytes(frame.clone()),
            Received::Parcel(_) => &[],
            Received::Area { frame, ring, .. } => {
                let receiver = self.driver.as_ref().and_then(|driver| driver.receiver(*ring));
                receiver.and_then(|receiver| receiver.bytes(frame.clone())).unwrap_or_default()
            }
        }
    }

    /// The stack has taken the oldest `count` of [`Frontend::frames`].
    pub fn taken(&mut self, count: usize) {
        let seen = |received: &&Received<H::Buf>| !matches!(received, Received::Parcel(_));
        let count = self.inbox.iter().take(count).take_while(seen).count();
        for received in self.inbox.drain(..count) {
            self.counters.delivered.frames += 1;
            match received {
                Received::Owned { frame, buffer, .. } => {
                    self.counters.delivered.bytes += frame.len() as u64;
                    self.warm.keep(buffer);
                }
                Received::Small { frame, .. } => {
                    self.counters.delivered.bytes += frame.len() as u64;
                    self.small.release();
                }
                Received::Parcel(parcel) => self.parcels.give_back(parcel),
                Received::Area { frame, end, ring, .. } => {
                    self.counters.delivered.bytes += frame.len() as u64;
                    let driver = self.driver.as_mut();
                    if let Some(receiver) = driver.and_then(|driver| driver.receiver_mut(ring)) {
                        receiver.release(end);
                    }
                }
            }
        }
    }
}
