//! Words on the heap, for the tests of what is made of 32-bit words: rings.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use super::Words;

/// Words of 32 bits, zero at first. Clones are the same words.
///
/// # Panics
/// As for [`Words`], and at an access to 16 or 64 bits: a ring must not need any.
#[derive(Clone, Debug)]
pub struct HeapWords(Arc<Vec<AtomicU32>>);

impl HeapWords {
    /// Words of so many bytes together.
    pub fn new(bytes: usize) -> HeapWords {
        HeapWords(Arc::new((0..bytes / 4).map(|_| AtomicU32::new(0)).collect()))
    }
}

impl Words for HeapWords {
    fn size(&self) -> usize {
        self.0.len() * 4
    }
    fn load_u16(&self, _: usize, _: Ordering) -> u16 {
        unreachable!("rings have 32-bit words only")
    }
    fn store_u16(&self, _: usize, _: u16, _: Ordering) {
        unreachable!("rings have 32-bit words only")
    }
    fn compare_exchange_u16(&self, _: usize, _: u16, _: u16) -> Result<(), u16> {
        unreachable!("rings have 32-bit words only")
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.0[at / 4].load(order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.0[at / 4].store(value, order);
    }
    fn load_u64(&self, _: usize, _: Ordering) -> u64 {
        unreachable!("rings have 32-bit words only")
    }
    fn store_u64(&self, _: usize, _: u64, _: Ordering) {
        unreachable!("rings have 32-bit words only")
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        for (i, chunk) in out.chunks_mut(4).enumerate() {
            chunk.copy_from_slice(&self.0[at / 4 + i].load(Ordering::Relaxed).to_le_bytes());
        }
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        for (i, chunk) in bytes.chunks(4).enumerate() {
            let word = u32::from_le_bytes(chunk.try_into().expect("multiples of 4"));
            self.0[at / 4 + i].store(word, Ordering::Relaxed);
        }
    }
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
    fn read_barrier(&self) {
        fence(Ordering::Acquire);
    }
}
