//! Plain memory for the tests, which counts what is loaded from it.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::vec::Vec;

use xenvelope_grant::Words;

/// Memory of words of 64 bits. Tables use no halves of words but in the header, which is never
/// written by two.
#[derive(Debug)]
pub(super) struct Memory {
    words: Vec<AtomicU64>,
    loads: AtomicUsize,
}

impl Memory {
    pub(super) fn new(size: usize) -> Memory {
        Memory::of(&std::vec![0; size / 8])
    }

    pub(super) fn of(words: &[u64]) -> Memory {
        let words = words.iter().map(|&word| AtomicU64::new(word)).collect();
        Memory { words, loads: AtomicUsize::new(0) }
    }

    /// How many words were loaded since the last call.
    pub(super) fn loads(&self) -> usize {
        self.loads.swap(0, Ordering::Relaxed)
    }

    fn word(&self, at: usize, len: usize) -> (&AtomicU64, u32) {
        assert_eq!(at % len, 0, "misaligned");
        (&self.words[at / 8], (at % 8 * 8) as u32)
    }
}

impl Words for Memory {
    fn size(&self) -> usize {
        self.words.len() * 8
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        let (word, shift) = self.word(at, 2);
        (word.load(order) >> shift) as u16
    }
    fn store_u16(&self, at: usize, value: u16, _: Ordering) {
        let (word, shift) = self.word(at, 2);
        let old = word.load(Ordering::SeqCst) & !(0xFFFF << shift);
        word.store(old | u64::from(value) << shift, Ordering::SeqCst);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        let found = self.load_u16(at, Ordering::SeqCst);
        if found == current {
            self.store_u16(at, new, Ordering::SeqCst);
            Ok(())
        } else {
            Err(found)
        }
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        let (word, shift) = self.word(at, 4);
        (word.load(order) >> shift) as u32
    }
    fn store_u32(&self, at: usize, value: u32, _: Ordering) {
        let (word, shift) = self.word(at, 4);
        let old = word.load(Ordering::SeqCst) & !(0xFFFF_FFFF << shift);
        word.store(old | u64::from(value) << shift, Ordering::SeqCst);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.word(at, 8).0.load(order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.word(at, 8).0.store(value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        for (index, chunk) in out.chunks_mut(4).enumerate() {
            let word = self.load_u32(at + 4 * index, Ordering::Relaxed);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(4).enumerate() {
            let word = u32::from_le_bytes(chunk.try_into().unwrap());
            self.store_u32(at + 4 * index, word, Ordering::Relaxed);
        }
    }
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
    fn read_barrier(&self) {
        fence(Ordering::Acquire);
    }
}
