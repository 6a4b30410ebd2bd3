//! Pending and masked events of one domain, and the sleep until there is one.
//!
//! Xen's two-level scheme (`evtchn_pending`, `evtchn_mask`, `evtchn_pending_sel` in
//! `xen/include/public/xen.h`): a bit for each of 4096 ports, and a selector with a bit for each
//! word of 64. All accesses are sequentially consistent: each of the races below is two sides that
//! each set one thing and then look at the other's, and at least one of them must see it.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant as StdInstant;

use nix::errno::Errno;
use xenvelope_grant::seam::PortId;
use xenvelope_grant::words::Atomics;

use super::descriptors::Watched;
use super::lock;
use crate::memory::{Backing, PageRun, WindowPages};

/// Ports of one domain, port 0 included, which is never used.
pub(crate) const PORTS: usize = 4096;
const WORDS: usize = PORTS / 64;

/// The events of one domain.
pub(crate) struct EventQueue {
    bits: EventBits,
    sleep: Mutex<()>,
    wake: Condvar,
    /// What ends a sleep beside events, once there was any; from the start where several processes
    /// have the domain's memory, since only a descriptor wakes another process.
    watched: OnceLock<Watched>,
}

/// What all who raise and take events look at: in a page, so that they may be in several processes.
#[derive(Clone)]
pub(super) struct EventBits(WindowPages);

impl EventBits {
    pub(super) fn new(backing: Backing) -> Result<EventBits, Errno> {
        Ok(EventBits(PageRun::map_on(1, backing)?.atomics()))
    }

    fn pending(&self, word: usize) -> &AtomicU64 {
        self.0.u64(word * 8)
    }

    fn masked(&self, word: usize) -> &AtomicU64 {
        self.0.u64((WORDS + word) * 8)
    }

    fn selector(&self) -> &AtomicU64 {
        self.0.u64(2 * WORDS * 8)
    }

    /// How many are asleep.
    fn sleepers(&self) -> &AtomicU64 {
        self.0.u64(2 * WORDS * 8 + 8)
    }

    /// A store watch fired: 1, otherwise 0.
    fn attention(&self) -> &AtomicU32 {
        self.0.u32(2 * WORDS * 8 + 16)
    }

    /// The port to look at first: the one after the last that was reported when there was no room
    /// for more, so that low ports in a storm do not starve high ones.
    fn cursor(&self) -> &AtomicU32 {
        self.0.u32(2 * WORDS * 8 + 20)
    }

    /// The bell has been rung since the domain was last awake: 1, otherwise 0.
    pub(super) fn rung(&self) -> &AtomicU32 {
        self.0.u32(2 * WORDS * 8 + 24)
    }
}

fn place(port: u32) -> (usize, u64) {
    ((port as usize / 64) % WORDS, 1 << (port % 64))
}

impl EventQueue {
    /// No events yet, in memory of that make.
    pub(crate) fn new(backing: Backing) -> Result<EventQueue, Errno> {
        let bits = EventBits::new(backing)?;
        let watched = OnceLock::new();
        if backing.shared {
            let _ = watched.set(Watched::new(bits.clone())?);
        }
        Ok(EventQueue { bits, sleep: Mutex::new(()), wake: Condvar::new(), watched })
    }

    /// An event on `port`. If one is pending already this is none.
    pub(crate) fn raise(&self, port: u32) {
        let (word, bit) = place(port);
        if self.bits.pending(word).fetch_or(bit, SeqCst) & bit != 0 {
            return;
        }
        // Masked: `unmask` will see the pending bit.
        if self.bits.masked(word).load(SeqCst) & bit == 0 {
            self.select(word);
        }
    }

    /// Lets `port` fire again, at once if it is pending.
    pub(crate) fn unmask(&self, port: u32) {
        let (word, bit) = place(port);
        self.bits.masked(word).fetch_and(!bit, SeqCst);
        if self.bits.pending(word).load(SeqCst) & bit != 0 {
            self.select(word);
        }
    }

    /// Forgets everything about `port`, which gets a new use.
    pub(crate) fn clear(&self, port: u32) {
        let (word, bit) = place(port);
        self.bits.pending(word).fetch_and(!bit, SeqCst);
        self.bits.masked(word).fetch_and(!bit, SeqCst);
    }

    /// Makes one `wait` return, with or without an event.
    pub(crate) fn call_attention(&self) {
        self.bits.attention().store(1, SeqCst);
        self.wake_sleepers();
    }

    fn select(&self, word: usize) {
        self.bits.selector().fetch_or(1 << word, SeqCst);
        self.wake_sleepers();
    }

    fn wake_sleepers(&self) {
        // A sleeper counts itself and then looks for work; we set the work and then look for
        // sleepers. It holds the mutex in between, so by the time that we get it, it is either
        // waiting or has seen the work.
        if self.bits.sleepers().load(SeqCst) != 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
            if let Some(watched) = self.watched.get() {
                watched.ring();
            }
        }
    }

    /// The descriptors that end a sleep, if the system gives us a bell.
    pub(crate) fn watched(&self) -> Option<&Watched> {
        if self.watched.get().is_none() {
            // Somebody else's is as good.
            let _ = self.watched.set(Watched::new(self.bits.clone()).ok()?);
        }
        self.watched.get()
    }

    /// Whether `port` has been reported, and not unmasked since.
    pub(crate) fn is_masked(&self, port: u32) -> bool {
        let (word, bit) = place(port);
        self.bits.masked(word).load(SeqCst) & bit != 0
    }

    fn has_work(&self) -> bool {
        self.bits.selector().load(SeqCst) != 0 || self.bits.attention().load(SeqCst) != 0
    }

    /// Waits until there is an event or until `until` (`None`: for ever). Ports with an event go
    /// to `out`, masked.
    pub(crate) fn wait(&self, out: &mut [PortId], until: Option<StdInstant>) -> usize {
        loop {
            let found = self.collect(out);
            if found != 0 || self.bits.attention().swap(0, SeqCst) != 0 {
                return found;
            }
            if out.is_empty() && self.bits.selector().load(SeqCst) != 0 {
                return 0;
            }
            if !self.sleep_until(until) {
                return self.collect(out);
            }
        }
    }

    /// `false` if the time is over.
    fn sleep_until(&self, until: Option<StdInstant>) -> bool {
        if let Some(watched) = self.watched.get() {
            return self.sleep_with(watched, until);
        }
        let mut guard = lock(&self.sleep);
        self.bits.sleepers().fetch_add(1, SeqCst);
        let mut in_time = true;
        while in_time && !self.has_work() {
            let Some(until) = until else {
                guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(StdInstant::now());
            if left.is_zero() {
                in_time = false;
                break;
            }
            guard = self.wake.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.bits.sleepers().fetch_sub(1, SeqCst);
        in_time
    }

    /// As [`EventQueue::sleep_until`], and ends when one of the descriptors is readable.
    fn sleep_with(&self, watched: &Watched, until: Option<StdInstant>) -> bool {
        let left = until.map(|until| until.saturating_duration_since(StdInstant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return self.has_work();
        }
        self.bits.sleepers().fetch_add(1, SeqCst);
        let ready = if self.has_work() {
            Default::default()
        } else {
            watched.sleep(|port| !self.is_masked(port), left)
        };
        self.bits.sleepers().fetch_sub(1, SeqCst);
        for port in ready {
            self.raise(port);
        }
        true
    }

    fn collect(&self, out: &mut [PortId]) -> usize {
        if out.is_empty() || self.bits.selector().load(SeqCst) == 0 {
            return 0;
        }
        let cursor = self.bits.cursor().load(Relaxed);
        let (first, turn) = (cursor as usize / 64 % WORDS, cursor % 64);
        let mut selected = self.bits.selector().swap(0, SeqCst);
        let mut found = 0;
        // Once around: the cursor's word from the cursor on, the others, and the rest of the
        // cursor's word.
        for step in 0..=WORDS {
            let word = (first + step) % WORDS;
            if selected & 1 << word == 0 {
                continue;
            }
            let mut ready =
                self.bits.pending(word).load(SeqCst) & !self.bits.masked(word).load(SeqCst);
            match step {
                0 => ready &= u64::MAX << turn,
                WORDS => ready &= !(u64::MAX << turn),
                _ => {}
            }
            while ready != 0 {
                let index = ready.trailing_zeros();
                let port = (word * 64) as u32 + index;
                if found == out.len() {
                    // No room: what is left stays selected.
                    self.bits.selector().fetch_or(selected, SeqCst);
                    self.bits.cursor().store(port, Relaxed);
                    return found;
                }
                let bit = 1 << index;
                ready &= !bit;
                // Masked first: an event from here on stays pending until the unmask. And only
                // who takes the pending bit away reports the port.
                self.bits.masked(word).fetch_or(bit, SeqCst);
                if self.bits.pending(word).fetch_and(!bit, SeqCst) & bit != 0 {
                    out[found] = PortId(port);
                    found += 1;
                }
            }
            if step != 0 {
                selected &= !(1 << word);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
