//! Shared memory whose other owner rewrites a slot as soon as it has been read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use xenvelope_grant::Words;
use xenvelope_hypervisor_sim::machine::SharedPages;

/// Bytes of a ring's header, where the indices are.
const HEADER: usize = 64;

/// The memory.
pub struct Shifting {
    words: SharedPages,
    /// What each slot becomes when it has been read.
    then: Vec<u8>,
    reads: RefCell<BTreeMap<usize, u32>>,
    rewritten: Cell<u32>,
}

impl Shifting {
    /// A ring's page whose slots become `then` when they have been read. Whole words.
    pub fn new(words: SharedPages, then: &[u8]) -> Shifting {
        let (reads, rewritten) = (RefCell::default(), Cell::default());
        Shifting { words, then: then.to_vec(), reads, rewritten }
    }

    /// How often each slot was read, by where it is.
    pub fn reads(&self) -> Vec<u32> {
        self.reads.borrow().values().copied().collect()
    }

    /// How many slots were rewritten so far.
    pub fn rewritten(&self) -> u32 {
        self.rewritten.get()
    }
}

impl Words for Shifting {
    fn size(&self) -> usize {
        self.words.size()
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.words.load_u16(at, order)
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.words.store_u16(at, value, order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        self.words.compare_exchange_u16(at, current, new)
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.words.load_u32(at, order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.words.store_u32(at, value, order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.words.load_u64(at, order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.words.store_u64(at, value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.words.copy_out(at, out);
        if at >= HEADER {
            *self.reads.borrow_mut().entry(at).or_default() += 1;
            self.words.copy_in(at, &self.then);
            self.rewritten.set(self.rewritten.get() + 1);
        }
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.words.copy_in(at, bytes);
    }
    fn full_barrier(&self) {
        self.words.full_barrier();
    }
    fn read_barrier(&self) {
        self.words.read_barrier();
    }
}
