//! Shared memory as the protocol cores see it.
//!
//! A page that two domains share has no owner in Rust's sense, so nothing above this trait ever
//! holds a reference into it: words are loaded and stored atomically, and longer things are
//! copied out once, into a private value.
//!
//! Every protocol on shared words (ring, grant entry, forwarding table) is generic over `Words`.
//! That is also how it is model checked: the tests give the same code words that loom watches,
//! and words that weaken one ordering, to see loom catch it.

mod atomics;
#[cfg(any(test, feature = "heap-words"))]
mod heap;

use core::array;
use core::sync::atomic::Ordering;

pub use atomics::{AtomicWords, Atomics};
#[cfg(any(test, feature = "heap-words"))]
pub use heap::HeapWords;

/// Memory that another domain may read or write at any time.
///
/// Offsets are in bytes from the start. Implementations behave like one little-endian memory:
/// what one side stores at an offset the other side loads from it.
///
/// # Panics
/// Methods panic if an offset is out of range or not aligned to the size of the access. Callers
/// compute offsets from their own constants and from masked indices, never from a peer's word.
pub trait Words {
    /// How many bytes there are.
    fn size(&self) -> usize;

    /// Loads 16 bits.
    fn load_u16(&self, at: usize, order: Ordering) -> u16;
    /// Stores 16 bits.
    fn store_u16(&self, at: usize, value: u16, order: Ordering);
    /// Replaces 16 bits if they are `current`, with sequentially consistent ordering (a `lock
    /// cmpxchg`, as Xen's and Linux's grant code use it); otherwise returns what is there.
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16>;

    /// Loads 32 bits.
    fn load_u32(&self, at: usize, order: Ordering) -> u32;
    /// Stores 32 bits.
    fn store_u32(&self, at: usize, value: u32, order: Ordering);

    /// Loads 64 bits.
    fn load_u64(&self, at: usize, order: Ordering) -> u64;
    /// Loads words of 64 bits that lie one after the other, in that order, each exactly once and
    /// with that ordering. It is no more atomic than the loads one by one; where the words are
    /// looked for and checked once for all, it costs less.
    fn load_u64s<const N: usize>(&self, at: usize, order: Ordering) -> [u64; N] {
        array::from_fn(|index| self.load_u64(at + 8 * index, order))
    }
    /// Stores 64 bits.
    fn store_u64(&self, at: usize, value: u64, order: Ordering);

    /// Copies bytes out, each read exactly once, with no ordering of its own. `at` and the
    /// length are multiples of 4.
    fn copy_out(&self, at: usize, out: &mut [u8]);
    /// Copies bytes in, with no ordering of its own. `at` and the length are multiples of 4.
    fn copy_in(&self, at: usize, bytes: &[u8]);

    /// A full memory barrier: Xen's `mb()`.
    fn full_barrier(&self);
    /// A barrier that keeps earlier loads before later ones: Xen's `rmb()`.
    fn read_barrier(&self);
}

/// Who has words: in a field, or by a reference. Whoever has words is words.
pub trait HasWords {
    /// The words.
    fn words(&self) -> &(impl Words + ?Sized);
}

/// A shared reference to words has words: for protocol cores that borrow their memory.
impl<W: Words + ?Sized> HasWords for &W {
    fn words(&self) -> &(impl Words + ?Sized) {
        *self
    }
}

impl<H: HasWords + ?Sized> Words for H {
    fn size(&self) -> usize {
        self.words().size()
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.words().load_u16(at, order)
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.words().store_u16(at, value, order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        self.words().compare_exchange_u16(at, current, new)
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.words().load_u32(at, order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.words().store_u32(at, value, order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.words().load_u64(at, order)
    }
    #[inline]
    fn load_u64s<const N: usize>(&self, at: usize, order: Ordering) -> [u64; N] {
        self.words().load_u64s(at, order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.words().store_u64(at, value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.words().copy_out(at, out);
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.words().copy_in(at, bytes);
    }
    fn full_barrier(&self) {
        self.words().full_barrier();
    }
    fn read_barrier(&self) {
        self.words().read_barrier();
    }
}
