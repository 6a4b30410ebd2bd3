//! Words by the processor's atomics: what every implementation over mapped pages has in common.

use core::array;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use super::Words;

/// Memory whose aligned words can be had as atomics. How it comes to them is its own affair, and
/// takes `unsafe`; [`AtomicWords`] makes little-endian words of them, which does not.
///
/// # Panics
/// Methods panic if an offset is out of range or not aligned to the size of the word.
pub trait Atomics {
    /// How many bytes there are.
    fn size(&self) -> usize;
    /// Whether there may be stores.
    fn writable(&self) -> bool;
    /// 16 bits.
    fn u16(&self, at: usize) -> &AtomicU16;
    /// 32 bits.
    fn u32(&self, at: usize) -> &AtomicU32;
    /// 64 bits.
    fn u64(&self, at: usize) -> &AtomicU64;
    /// Words of 64 bits that lie one after the other: `count` of them, or fewer, but not none, if
    /// the memory is not contiguous. `count` is not 0.
    fn u64s(&self, at: usize, count: usize) -> &[AtomicU64];
    /// Exactly so many words of 64 bits that lie one after the other, if they do and are there.
    /// `N` is not 0.
    #[inline]
    fn u64_array<const N: usize>(&self, at: usize) -> Option<&[AtomicU64; N]> {
        self.u64s(at, N).first_chunk()
    }
    /// A full memory barrier ([`Words::full_barrier`]): the language's, where nobody knows one that
    /// is as strong and costs less.
    #[inline]
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
}

/// [`Atomics`] as [`Words`]: the only way to them, so that no store gets by the check. Copies are
/// of 64 bits at a time where the offset and the length allow it.
///
/// # Panics
/// As for [`Words`], and at a store to what is not writable.
#[derive(Clone, Debug)]
pub struct AtomicWords<A>(A);

impl<A: Atomics> AtomicWords<A> {
    /// These atomics, as words.
    pub fn new(atomics: A) -> AtomicWords<A> {
        AtomicWords(atomics)
    }

    /// Words that are not contiguous, or not so many: the one beyond the end panics.
    #[cold]
    fn load_one_by_one<const N: usize>(&self, at: usize, order: Ordering) -> [u64; N] {
        array::from_fn(|index| self.load_u64(at + 8 * index, order))
    }

    fn may_store(&self) {
        assert!(self.0.writable(), "a store to a page that is mapped read-only");
    }
}

impl<A: Atomics> Words for AtomicWords<A> {
    fn size(&self) -> usize {
        self.0.size()
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        u16::from_le(self.0.u16(at).load(order))
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.may_store();
        self.0.u16(at).store(value.to_le(), order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        self.may_store();
        let (current, new) = (current.to_le(), new.to_le());
        match self.0.u16(at).compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(()),
            Err(now) => Err(u16::from_le(now)),
        }
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        u32::from_le(self.0.u32(at).load(order))
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.may_store();
        self.0.u32(at).store(value.to_le(), order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        u64::from_le(self.0.u64(at).load(order))
    }
    #[inline]
    fn load_u64s<const N: usize>(&self, at: usize, order: Ordering) -> [u64; N] {
        const { assert!(N > 0, "a load of no words") };
        match self.0.u64_array::<N>(at) {
            Some(words) => words.each_ref().map(|word| u64::from_le(word.load(order))),
            None => self.load_one_by_one(at, order),
        }
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.may_store();
        self.0.u64(at).store(value.to_le(), order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        assert!(at.is_multiple_of(4) && out.len().is_multiple_of(4), "copies are of whole words");
        let mut at = at;
        let mut rest = out;
        while !rest.is_empty() {
            if at.is_multiple_of(8) && rest.len() >= 8 {
                let words = self.0.u64s(at, rest.len() / 8);
                let (run, tail) = rest.split_at_mut(8 * words.len());
                load_words(words, run.as_chunks_mut().0);
                (at, rest) = (at + run.len(), tail);
            } else {
                let (word, tail) = rest.split_at_mut(4);
                word.copy_from_slice(&self.0.u32(at).load(Ordering::Relaxed).to_ne_bytes());
                (at, rest) = (at + 4, tail);
            }
        }
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4), "copies are of whole words");
        self.may_store();
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            if at.is_multiple_of(8) && rest.len() >= 8 {
                let words = self.0.u64s(at, rest.len() / 8);
                let (run, tail) = rest.split_at(8 * words.len());
                store_words(words, run.as_chunks().0);
                (at, rest) = (at + run.len(), tail);
            } else if let Some((word, tail)) = rest.split_first_chunk::<4>() {
                self.0.u32(at).store(u32::from_ne_bytes(*word), Ordering::Relaxed);
                (at, rest) = (at + 4, tail);
            }
        }
    }
    fn full_barrier(&self) {
        self.0.full_barrier();
    }
    fn read_barrier(&self) {
        fence(Ordering::Acquire);
    }
}

/// Words that are copied with one look at where the end is: compilers leave loops over atomics as
/// they are written.
const AT_ONCE: usize = 8;

#[inline]
fn load_words(from: &[AtomicU64], to: &mut [[u8; 8]]) {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed).to_ne_bytes();
    let (blocks, rest) = from.as_chunks::<AT_ONCE>();
    let (to_blocks, to_rest) = to.as_chunks_mut::<AT_ONCE>();
    for (to, from) in to_blocks.iter_mut().zip(blocks) {
        *to = from.each_ref().map(load);
    }
    for (to, from) in to_rest.iter_mut().zip(rest) {
        *to = load(from);
    }
}

#[inline]
fn store_words(to: &[AtomicU64], from: &[[u8; 8]]) {
    let store = |word: &AtomicU64, bytes| word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    let (blocks, rest) = to.as_chunks::<AT_ONCE>();
    let (from_blocks, from_rest) = from.as_chunks::<AT_ONCE>();
    for (to, from) in blocks.iter().zip(from_blocks) {
        for index in 0..AT_ONCE {
            store(&to[index], from[index]);
        }
    }
    for (to, from) in rest.iter().zip(from_rest) {
        store(to, *from);
    }
}
