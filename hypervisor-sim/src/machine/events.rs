//! Pending and masked events of one domain, and the sleep until there is one.
//!
//! Xen's two-level scheme (`evtchn_pending`, `evtchn_mask`, `evtchn_pending_sel` in
//! `xen/include/public/xen.h`): a bit for each of 4096 ports, and a selector with a bit for each
//! word of 64. All accesses are sequentially consistent: each of the races below is two sides that
//! each set one thing and then look at the other's, and at least one of them must see it.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant as StdInstant;

use xenvelope_grant::seam::PortId;

use super::descriptors::Watched;
use super::lock;

/// Ports of one domain, port 0 included, which is never used.
pub(crate) const PORTS: usize = 4096;
const WORDS: usize = PORTS / 64;

/// The events of one domain.
pub(crate) struct EventQueue {
    pending: [AtomicU64; WORDS],
    masked: [AtomicU64; WORDS],
    selector: AtomicU64,
    /// A store watch fired.
    attention: AtomicBool,
    /// The port to look at first: the one after the last that was reported when there was no room
    /// for more, so that low ports in a storm do not starve high ones.
    cursor: AtomicU32,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    /// What ends a sleep beside events, once there was any.
    watched: OnceLock<Watched>,
}

fn place(port: u32) -> (usize, u64) {
    ((port as usize / 64) % WORDS, 1 << (port % 64))
}

impl EventQueue {
    pub(crate) fn new() -> EventQueue {
        EventQueue {
            pending: [const { AtomicU64::new(0) }; WORDS],
            masked: [const { AtomicU64::new(0) }; WORDS],
            selector: AtomicU64::new(0),
            attention: AtomicBool::new(false),
            cursor: AtomicU32::new(0),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            watched: OnceLock::new(),
        }
    }

    /// An event on `port`. If one is pending already this is none.
    pub(crate) fn raise(&self, port: u32) {
        let (word, bit) = place(port);
        if self.pending[word].fetch_or(bit, SeqCst) & bit != 0 {
            return;
        }
        // Masked: `unmask` will see the pending bit.
        if self.masked[word].load(SeqCst) & bit == 0 {
            self.select(word);
        }
    }

    /// Lets `port` fire again, at once if it is pending.
    pub(crate) fn unmask(&self, port: u32) {
        let (word, bit) = place(port);
        self.masked[word].fetch_and(!bit, SeqCst);
        if self.pending[word].load(SeqCst) & bit != 0 {
            self.select(word);
        }
    }

    /// Forgets everything about `port`, which gets a new use.
    pub(crate) fn clear(&self, port: u32) {
        let (word, bit) = place(port);
        self.pending[word].fetch_and(!bit, SeqCst);
        self.masked[word].fetch_and(!bit, SeqCst);
    }

    /// Makes one `wait` return, with or without an event.
    pub(crate) fn call_attention(&self) {
        self.attention.store(true, SeqCst);
        self.wake_sleepers();
    }

    fn select(&self, word: usize) {
        self.selector.fetch_or(1 << word, SeqCst);
        self.wake_sleepers();
    }

    fn wake_sleepers(&self) {
        // A sleeper counts itself and then looks for work; we set the work and then look for
        // sleepers. It holds the mutex in between, so by the time that we get it, it is either
        // waiting or has seen the work.
        if self.sleepers.load(SeqCst) != 0 {
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
            let _ = self.watched.set(Watched::new().ok()?);
        }
        self.watched.get()
    }

    /// Whether `port` has been reported, and not unmasked since.
    pub(crate) fn is_masked(&self, port: u32) -> bool {
        let (word, bit) = place(port);
        self.masked[word].load(SeqCst) & bit != 0
    }

    fn has_work(&self) -> bool {
        self.selector.load(SeqCst) != 0 || self.attention.load(SeqCst)
    }

    /// Waits until there is an event or until `until` (`None`: for ever). Ports with an event go
    /// to `out`, masked.
    pub(crate) fn wait(&self, out: &mut [PortId], until: Option<StdInstant>) -> usize {
        loop {
            let found = self.collect(out);
            if found != 0 || self.attention.swap(false, SeqCst) {
                return found;
            }
            if out.is_empty() && self.selector.load(SeqCst) != 0 {
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
        self.sleepers.fetch_add(1, SeqCst);
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
        self.sleepers.fetch_sub(1, SeqCst);
        in_time
    }

    /// As [`EventQueue::sleep_until`], and ends when one of the descriptors is readable.
    fn sleep_with(&self, watched: &Watched, until: Option<StdInstant>) -> bool {
        let left = until.map(|until| until.saturating_duration_since(StdInstant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return self.has_work();
        }
        self.sleepers.fetch_add(1, SeqCst);
        let ready = if self.has_work() {
            Default::default()
        } else {
            watched.sleep(|port| !self.is_masked(port), left)
        };
        self.sleepers.fetch_sub(1, SeqCst);
        for port in ready {
            self.raise(port);
        }
        true
    }

    fn collect(&self, out: &mut [PortId]) -> usize {
        if out.is_empty() || self.selector.load(SeqCst) == 0 {
            return 0;
        }
        let cursor = self.cursor.load(Relaxed);
        let (first, turn) = (cursor as usize / 64 % WORDS, cursor % 64);
        let mut selected = self.selector.swap(0, SeqCst);
        let mut found = 0;
        // Once around: the cursor's word from the cursor on, the others, and the rest of the
        // cursor's word.
        for step in 0..=WORDS {
            let word = (first + step) % WORDS;
            if selected & 1 << word == 0 {
                continue;
            }
            let mut ready = self.pending[word].load(SeqCst) & !self.masked[word].load(SeqCst);
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
                    self.selector.fetch_or(selected, SeqCst);
                    self.cursor.store(port, Relaxed);
                    return found;
                }
                let bit = 1 << index;
                ready &= !bit;
                // Masked first: an event from here on stays pending until the unmask. And only
                // who takes the pending bit away reports the port.
                self.masked[word].fetch_or(bit, SeqCst);
                if self.pending[word].fetch_and(!bit, SeqCst) & bit != 0 {
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
