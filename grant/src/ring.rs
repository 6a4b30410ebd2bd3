//! Xen's shared ring (`xen/include/public/io/ring.h`).
//!
//! A ring has a front, which puts requests in and takes responses out, and a back, which does
//! the opposite. A response takes the place of a request that was consumed. Indices run through
//! all of `u32` and wrap; a slot is an index modulo the size.
//!
//! Each side keeps its own indices private and publishes them once a batch. What the other side
//! published is checked against what is possible: an index that runs ahead is an error
//! ([`RingError`]), never a long loop (Linux 48856286b64e, "xen/netback: shutdown the ring if it
//! contains garbage"). A slot is copied out once, into a private value (XSA-155).
//!
//! **Orderings.** A producer writes slots, then the index with Release (`wmb()` in
//! `RING_PUSH_REQUESTS`); a consumer loads the index with Acquire (`rmb()`), then reads slots.
//! Whether to send an event is decided after a full barrier (`mb()`): the producer stores its
//! index and then loads the consumer's event index, the consumer stores its event index and then
//! loads the producer's index; without the barrier both could read old values, and a wake-up
//! would be lost. `tests/tests/loom_ring.rs` checks each of these, and that weakening one is
//! caught.

mod back;
mod front;
mod layout;
#[cfg(test)]
mod tests;

pub use back::Back;
pub use front::Front;
pub use layout::RingLayout;

use core::sync::atomic::Ordering::Relaxed;
use thiserror::Error;

use crate::Words;

/// The other side published an index that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the peer's ring index runs ahead: {outstanding} of at most {limit}")]
pub struct RingError {
    /// How many entries the index claims.
    pub outstanding: u32,
    /// How many there can be.
    pub limit: u32,
}

/// The ring has no free slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the ring is full")]
pub struct RingFull;

/// Whether the consumer asked to be told of an index in `(old, new]`: the arithmetic of
/// `RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`, right across the wrap.
pub const fn wants_event(event: u32, old: u32, new: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}

/// Entries between what we consumed and what the peer published, if that can be.
fn pending(published: u32, consumed: u32, limit: u32) -> Result<u32, RingError> {
    let outstanding = published.wrapping_sub(consumed);
    if outstanding > limit { Err(RingError { outstanding, limit }) } else { Ok(outstanding) }
}

/// Publishes an index and says whether the consumer wants an event for it.
#[inline]
fn publish(
    words: &impl Words,
    index_at: usize,
    event_at: usize,
    published: &mut u32,
    index: u32,
) -> bool {
    // Most rings have nothing new in most turns.
    *published != index && publish_new(words, index_at, event_at, published, index)
}

fn publish_new(
    words: &impl Words,
    index_at: usize,
    event_at: usize,
    published: &mut u32,
    index: u32,
) -> bool {
    let old = *published;
    // Release is wmb(): the slots before the index.
    words.store_u32(index_at, index, core::sync::atomic::Ordering::Release);
    // mb(): the index before the look at the event index.
    words.full_barrier();
    *published = index;
    wants_event(words.load_u32(event_at, Relaxed), old, index)
}
