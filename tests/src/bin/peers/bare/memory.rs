//! Memory of the bare model, and its ring: the one place of this program with `unsafe`.
//!
//! Nothing is checked here on purpose: the receiver believes each descriptor. That is what makes
//! it a limit and not a product.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::unistd::ftruncate;

/// Descriptors of the ring, and buffers of the sender: a power of two.
const SLOTS: u64 = 256;
/// Bytes of a descriptor: where the frame is, how long it is, its number.
const DESCRIPTOR: usize = 16;
/// Where the sender's index lies, and the receiver's: each on lines of its own, two for the
/// adjacent-line prefetcher.
const HEAD_AT: usize = 0;
const TAIL_AT: usize = 128;
const RING_AT: usize = 256;
/// Where the sender's buffers begin: the next page.
const FRAMES_AT: usize = 8192;

/// A mapping of a memfd.
struct Mapping {
    base: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: the mapping is this value's until it is dropped. Who touches which bytes is the ring's
// affair.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(length: usize) -> Result<Mapping> {
        let length = NonZeroUsize::new(length).context("a mapping of no bytes")?;
        let file = memfd_create("xenvelope-bare", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&file, i64::try_from(length.get())?)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping where the system likes, of a file of that length.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0)? };
        // SAFETY: the mapping just made; advice changes no byte.
        let _ = unsafe { madvise(base, length.get(), MmapAdvise::MADV_HUGEPAGE) };
        // SAFETY: all of it is there, and nobody else has it yet. Touched once: no page is missing
        // when it matters.
        unsafe { std::ptr::write_bytes(base.as_ptr().cast::<u8>(), 1, length.get()) };
        // SAFETY: as above. The indices begin at 0.
        unsafe { std::ptr::write_bytes(base.as_ptr().cast::<u8>(), 0, RING_AT) };
        Ok(Mapping { base: base.cast(), length })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.length.get());
        // SAFETY: callers stay inside what `pair` has sized.
        unsafe { self.base.as_ptr().add(offset) }
    }

    fn index(&self, at: usize) -> &AtomicU64 {
        // SAFETY: aligned, inside, and accessed as an atomic only.
        unsafe { AtomicU64::from_ptr(self.at(at).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; whoever points into it holds an `Arc` of it.
        let _ = unsafe { munmap(self.base.cast(), self.length.get()) };
    }
}

/// The sending side.
pub struct Sender {
    memory: Arc<Mapping>,
    stride: usize,
    head: u64,
    tail_seen: u64,
}

/// The receiving side, with buffers of its own.
pub struct Receiver {
    memory: Arc<Mapping>,
    tail: u64,
    head_seen: u64,
    buffers: Mapping,
    buffer_count: u64,
    stride: usize,
}

/// Both sides of a ring whose sender has 256 buffers of `stride` bytes and whose receiver has
/// `buffers`.
pub fn pair(stride: usize, buffers: u64) -> Result<(Sender, Receiver)> {
    let memory = Arc::new(Mapping::new(FRAMES_AT + SLOTS as usize * stride)?);
    let own = Mapping::new(buffers as usize * stride + RING_AT)?;
    let sender = Sender { memory: Arc::clone(&memory), stride, head: 0, tail_seen: 0 };
    let receiver =
        Receiver { memory, tail: 0, head_seen: 0, buffers: own, buffer_count: buffers, stride };
    Ok((sender, receiver))
}

fn descriptor(index: u64) -> usize {
    RING_AT + (index % SLOTS) as usize * DESCRIPTOR
}

impl Sender {
    /// Whether `count` frames have room.
    pub fn has_room(&mut self, count: u64) -> bool {
        if self.head + count - self.tail_seen <= SLOTS {
            return true;
        }
        self.tail_seen = self.memory.index(TAIL_AT).load(Ordering::Acquire);
        self.head + count - self.tail_seen <= SLOTS
    }

    /// The buffer of the `n`th frame from now, of `length` bytes, described. Not seen by the other
    /// side before [`Sender::publish`].
    pub fn frame(&mut self, n: u64, length: usize) -> &mut [u8] {
        assert!(length <= self.stride);
        let index = self.head + n;
        let at = FRAMES_AT + (index % SLOTS) as usize * self.stride;
        let place = self.memory.at(descriptor(index)).cast::<u64>();
        // SAFETY: `has_room` has said that the receiver is done with this slot and its buffer, and
        // it will not look at them before `publish`. Both are inside, the slot is aligned.
        unsafe {
            place.write(at as u64 | (length as u64) << 32);
            place.add(1).write(index);
            std::slice::from_raw_parts_mut(self.memory.at(at), length)
        }
    }

    /// Hands `count` frames over.
    pub fn publish(&mut self, count: u64) {
        self.head += count;
        self.memory.index(HEAD_AT).store(self.head, Ordering::Release);
    }
}

impl Receiver {
    /// Frames that are there, at most `most`.
    pub fn pending(&mut self, most: u64) -> u64 {
        if self.head_seen == self.tail {
            self.head_seen = self.memory.index(HEAD_AT).load(Ordering::Acquire);
        }
        (self.head_seen - self.tail).min(most)
    }

    /// Copies the `n`th frame of those pending, and gives the copy.
    pub fn copy(&mut self, n: u64) -> &[u8] {
        let index = self.tail + n;
        let target = self.buffers.at((index % self.buffer_count) as usize * self.stride);
        let place = self.memory.at(descriptor(index)).cast::<u64>();
        // SAFETY: published, so written, and left alone until `release`; the sender is this very
        // program, which describes what lies inside. The target is ours and large enough.
        unsafe {
            let described = place.read();
            let (at, length) = (described as u32 as usize, (described >> 32) as usize);
            std::ptr::copy_nonoverlapping(self.memory.at(at), target, length);
            std::slice::from_raw_parts(target, length)
        }
    }

    /// Gives `count` slots back.
    pub fn release(&mut self, count: u64) {
        self.tail += count;
        self.memory.index(TAIL_AT).store(self.tail, Ordering::Release);
    }
}

/// Buffers of one thread to copy from and to.
pub struct Buffers(Mapping);

impl Buffers {
    /// So many bytes.
    pub fn new(length: usize) -> Result<Buffers> {
        Mapping::new(length).map(Buffers)
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: all of the mapping, which nobody else has; `&mut self` makes it the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.0.at(0), self.0.length.get()) }
    }
}
