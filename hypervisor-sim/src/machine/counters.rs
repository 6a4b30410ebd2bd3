//! What a domain made the host do.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one domain, on cache lines of their own (two, for the adjacent-line prefetcher).
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) hypercalls: AtomicU64,
    pub(crate) copy_calls: AtomicU64,
    pub(crate) copy_ops: AtomicU64,
    pub(crate) copied_bytes: AtomicU64,
    pub(crate) engine_bytes: AtomicU64,
    pub(crate) events_sent: AtomicU64,
    pub(crate) events_received: AtomicU64,
    pub(crate) grants: AtomicU64,
    pub(crate) revokes: AtomicU64,
}

/// Adds to a counter that only what the guest itself does adds to. Two threads that act for one
/// guest at the same moment may lose a count: on the path of each frame that is better than two
/// locked operations.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            hypercalls: self.hypercalls.load(Relaxed),
            copy_calls: self.copy_calls.load(Relaxed),
            copy_ops: self.copy_ops.load(Relaxed),
            copied_bytes: self.copied_bytes.load(Relaxed),
            engine_bytes: self.engine_bytes.load(Relaxed),
            events_sent: self.events_sent.load(Relaxed),
            events_received: self.events_received.load(Relaxed),
            grants: self.grants.load(Relaxed),
            revokes: self.revokes.load(Relaxed),
        }
    }
}

/// A domain's counters at one moment. The difference of two says what happened in between.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CounterSnapshot {
    /// Calls into the hypervisor, events included.
    pub hypercalls: u64,
    /// Calls for grant copies.
    pub copy_calls: u64,
    /// Operations in those calls.
    pub copy_ops: u64,
    /// Bytes that the hypervisor copied because this domain asked for it.
    pub copied_bytes: u64,
    /// Bytes that the copy engine copied because this domain asked for it.
    pub engine_bytes: u64,
    /// Events sent to other domains.
    pub events_sent: u64,
    /// Events received, those of devices included.
    pub events_received: u64,
    /// Entries of its grant table that it made valid.
    pub grants: u64,
    /// Entries that it took back, or tried to.
    pub revokes: u64,
}

impl Sub for CounterSnapshot {
    type Output = CounterSnapshot;
    /// What came on top since `earlier`.
    fn sub(self, earlier: CounterSnapshot) -> CounterSnapshot {
        CounterSnapshot {
            hypercalls: self.hypercalls.wrapping_sub(earlier.hypercalls),
            copy_calls: self.copy_calls.wrapping_sub(earlier.copy_calls),
            copy_ops: self.copy_ops.wrapping_sub(earlier.copy_ops),
            copied_bytes: self.copied_bytes.wrapping_sub(earlier.copied_bytes),
            engine_bytes: self.engine_bytes.wrapping_sub(earlier.engine_bytes),
            events_sent: self.events_sent.wrapping_sub(earlier.events_sent),
            events_received: self.events_received.wrapping_sub(earlier.events_received),
            grants: self.grants.wrapping_sub(earlier.grants),
            revokes: self.revokes.wrapping_sub(earlier.revokes),
        }
    }
}
