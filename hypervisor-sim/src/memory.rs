//! The memory of domains: the one place of this crate with `unsafe`.
//!
//! A domain's memory is one mapping, anonymous or of a memfd, filled in by the operating system
//! when a page is first touched. Three kinds of access exist, and what keeps them apart is the protocol that the
//! rest of the crate enforces:
//!
//! * [`PageRun`]: pages that one owner holds, as plain slices. Runs are only ever split, so each
//!   page is in exactly one run.
//! * [`Window`]: pages that two sides use at once (rings, tables, grant entries), only through
//!   atomics.
//! * [`PageRef`]: a page as the hypervisor or a device sees it after a check, to copy from or to.
//!   A guest that lets others into a page gives the run out of its hands first (a granted buffer
//!   is not a buffer any more, a posted one belongs to the card) and gets it back only after the
//!   revoke or the completion, so these copies never meet a slice. A guest that writes entries
//!   for pages that it still uses races with itself, as it does on hardware: bytes may tear, in
//!   its own memory and in nobody else's.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use nix::unistd::ftruncate;
use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::words::{AtomicWords, Atomics};

/// What the pages of a domain are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backing {
    /// A memfd that is mapped shared: after a fork both processes have the same pages. What a
    /// process keeps for itself is said at [`crate::processes`].
    pub shared: bool,
    /// In pages of 2 MiB where the system has them to spare, as Xen gives a domain its memory.
    pub huge: bool,
}

/// All pages of one domain. The frame number of a page (gfn) is its index.
pub(crate) struct Memory {
    base: NonNull<u8>,
    pages: usize,
}

// SAFETY: the mapping belongs to this value, is freed only when it is dropped, and is reached only
// through the types of this module, which say themselves who may use them from where.
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself never reads or writes the pages.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(pages: usize, backing: Backing) -> Result<Memory, Errno> {
        let length = pages.checked_mul(PAGE_SIZE).and_then(NonZeroUsize::new);
        let length = length.ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let base = if backing.shared {
            let file = memfd_create("xenvelope-domain", MFdFlags::MFD_CLOEXEC)?;
            ftruncate(&file, i64::try_from(length.get()).map_err(|_| Errno::EINVAL)?)?;
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
            // SAFETY: a new mapping at an address of the system's choice, of a file that nobody
            // else has and that is as long as the mapping.
            unsafe { mmap(None, length, protection, flags, &file, 0)? }
        } else {
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
            // SAFETY: a new anonymous mapping at an address of the system's choice; it replaces
            // nothing that exists.
            unsafe { mmap_anonymous(None, length, protection, flags)? }
        };
        if backing.huge {
            // SAFETY: the mapping just made; the advice changes no byte of it. A system without
            // such pages says so, and the memory is as good without.
            let _ = unsafe { madvise(base, length.get(), MmapAdvise::MADV_HUGEPAGE) };
        }
        Ok(Memory { base: base.cast(), pages })
    }

    #[inline]
    fn page_pointer(&self, gfn: usize) -> NonNull<u8> {
        assert!(gfn < self.pages, "page {gfn} of {}", self.pages);
        // SAFETY: the page lies inside the mapping, which is one allocation.
        unsafe { self.base.add(gfn * PAGE_SIZE) }
    }

    /// Page `gfn`, for copies, if the domain has it.
    #[inline]
    pub(crate) fn page(&self, gfn: u64) -> Option<PageRef<'_>> {
        let gfn = usize::try_from(gfn).ok().filter(|gfn| *gfn < self.pages)?;
        Some(PageRef { start: self.page_pointer(gfn), owner: PhantomData })
    }

    /// Pages as words, one after the other in the order given.
    ///
    /// # Panics
    /// If there are none, or one is not of this memory: frames have been checked before.
    pub(crate) fn window(
        self: &Arc<Memory>,
        frames: impl IntoIterator<Item = usize>,
        writable: bool,
    ) -> Window {
        let pages: Vec<_> = frames.into_iter().map(|gfn| self.page_pointer(gfn)).collect();
        assert!(!pages.is_empty(), "a window needs a page");
        let contiguous =
            pages.windows(2).all(|two| two[0].addr().get() + PAGE_SIZE == two[1].addr().get());
        let size = pages.len() * PAGE_SIZE;
        AtomicWords::new(WindowPages {
            _memory: Arc::clone(self),
            base: pages[0],
            size,
            contiguous: if contiguous { size } else { 0 },
            scattered: (!contiguous).then(|| pages.into()),
            writable,
        })
    }

    /// One page as atomics.
    fn atomics(self: &Arc<Memory>, gfn: usize) -> WindowPages {
        WindowPages {
            _memory: Arc::clone(self),
            base: self.page_pointer(gfn),
            size: PAGE_SIZE,
            contiguous: PAGE_SIZE,
            scattered: None,
            writable: true,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made. Every pointer into it is held together
        // with an `Arc` of this value or borrows from it, so none is left.
        let unmapped = unsafe { munmap(self.base.cast(), self.pages * PAGE_SIZE) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping of ours: {unmapped:?}");
    }
}

/// An aligned access of up to this many bytes may be one to a ring, by a card that fetches some
/// descriptors at once.
const MAX_WORD_ACCESS: usize = 256;

/// A page that a check has let through, to be copied from or to. See the module's text for who
/// may hold one when.
#[derive(Clone, Copy)]
pub(crate) struct PageRef<'m> {
    start: NonNull<u8>,
    owner: PhantomData<&'m Memory>,
}

impl PageRef<'_> {
    #[inline]
    fn at(self, offset: usize, length: usize) -> *mut u8 {
        assert!(offset <= PAGE_SIZE && length <= PAGE_SIZE - offset, "{offset}+{length}");
        // SAFETY: `start` is the start of a whole page, and the offset is inside or at its end.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Copies between two pages, which may be the same.
    #[inline]
    pub(crate) fn copy_to(self, from: usize, target: PageRef<'_>, to: usize, length: usize) {
        let (source, target) = (self.at(from, length), target.at(to, length));
        // SAFETY: both ranges are inside pages that live as long as the borrows; `copy` allows
        // overlap. Nobody holds a slice of them (module text).
        unsafe { std::ptr::copy(source, target, length) }
    }

    /// Whether an access is one to whole words of a ring, which both sides look at at once.
    fn is_words(offset: usize, length: usize) -> bool {
        offset.is_multiple_of(8) && length.is_multiple_of(8) && length <= MAX_WORD_ACCESS
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: in bounds; aligned, since the page is and callers step by 8 from `is_words`;
        // mapped as long as the borrow of the memory lasts.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }

    /// Copies out of the page. Up to [`MAX_WORD_ACCESS`] aligned bytes word by word, in order.
    pub(crate) fn read(self, offset: usize, out: &mut [u8]) {
        if Self::is_words(offset, out.len()) {
            for (index, word) in out.chunks_exact_mut(8).enumerate() {
                let value = self.word(offset + index * 8).load(Ordering::Acquire);
                word.copy_from_slice(&value.to_ne_bytes());
            }
            return;
        }
        let source = self.at(offset, out.len());
        // SAFETY: inside the page; `out` is a valid slice. As in `copy_to`.
        unsafe { std::ptr::copy(source, out.as_mut_ptr(), out.len()) }
    }

    /// Copies into the page. Up to [`MAX_WORD_ACCESS`] aligned bytes word by word, in order: who
    /// sees the last word sees those before it.
    pub(crate) fn write(self, offset: usize, bytes: &[u8]) {
        if Self::is_words(offset, bytes.len()) {
            for (word, index) in bytes.as_chunks::<8>().0.iter().zip(0..) {
                let value = u64::from_ne_bytes(*word);
                self.word(offset + index * 8).store(value, Ordering::Release);
            }
            return;
        }
        let target = self.at(offset, bytes.len());
        // SAFETY: inside the page; `bytes` is a valid slice. As in `copy_to`.
        unsafe { std::ptr::copy(bytes.as_ptr(), target, bytes.len()) }
    }
}

/// Contiguous pages that exactly one owner holds.
pub(crate) struct PageRun {
    memory: Arc<Memory>,
    first: usize,
    pages: usize,
}

impl PageRun {
    /// New memory of `pages` pages, zeroed, all in one run.
    #[cfg(test)]
    pub(crate) fn map(pages: usize) -> Result<PageRun, Errno> {
        PageRun::map_on(pages, Backing::default())
    }

    /// New memory of `pages` pages of that make, zeroed, all in one run.
    pub(crate) fn map_on(pages: usize, backing: Backing) -> Result<PageRun, Errno> {
        let memory = Arc::new(Memory::map(pages, backing)?);
        Ok(PageRun { memory, first: 0, pages })
    }

    /// The memory that the pages are of.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The frame number of the first page.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Takes the first `pages` pages off, if there are so many.
    pub(crate) fn split_front(&mut self, pages: usize) -> Option<PageRun> {
        if pages > self.pages {
            return None;
        }
        let front = PageRun { memory: Arc::clone(&self.memory), first: self.first, pages };
        self.first += pages;
        self.pages -= pages;
        Some(front)
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: `first` is at most the number of pages of the mapping.
        unsafe { self.memory.base.as_ptr().add(self.first * PAGE_SIZE) }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised (anonymous pages are zero), inside the mapping, kept alive by the
        // `Arc`, and in this run only: who can write them needs `&mut self`, or got them by the
        // protocol of the module's text.
        unsafe { std::slice::from_raw_parts(self.start(), self.pages * PAGE_SIZE) }
    }

    /// The bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.pages * PAGE_SIZE) }
    }

    /// Some of the bytes, while others may be in a peer's hands.
    pub(crate) fn part(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.pages * PAGE_SIZE, "{range:?}");
        // SAFETY: as in `bytes`, for this range only.
        unsafe { std::slice::from_raw_parts(self.start().add(range.start), range.len()) }
    }

    /// The first page as atomics, for more than words can do.
    pub(crate) fn atomics(&self) -> WindowPages {
        self.memory.atomics(self.first)
    }

    /// The first `pages` pages as words.
    pub(crate) fn window(&self, pages: usize) -> Window {
        assert!(pages <= self.pages, "{pages} of {} pages", self.pages);
        self.memory.window(self.first..self.first + pages, true)
    }
}

impl fmt::Debug for PageRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRun({}..{})", self.first, self.first + self.pages)
    }
}

/// Pages as shared words.
pub(crate) type Window = AtomicWords<WindowPages>;

/// The pages of a window.
#[derive(Clone)]
pub(crate) struct WindowPages {
    /// Keeps the pages mapped, also after their domain has ended.
    _memory: Arc<Memory>,
    base: NonNull<u8>,
    /// Where each page is, if they are not contiguous.
    scattered: Option<Arc<[NonNull<u8>]>>,
    size: usize,
    /// `size`, or 0 if they are not contiguous: one number to compare with where it counts.
    contiguous: usize,
    writable: bool,
}

// SAFETY: pages of a window are reached through atomics only, and `_memory` keeps them mapped.
unsafe impl Send for WindowPages {}
// SAFETY: as above.
unsafe impl Sync for WindowPages {}

impl WindowPages {
    #[inline]
    fn pointer(&self, at: usize, width: usize) -> *mut u8 {
        // A window has a page at least, so the subtraction cannot wrap.
        assert!(at.is_multiple_of(width) && at <= self.size - width, "{width} bytes at {at}");
        match &self.scattered {
            // SAFETY: inside the contiguous pages, checked above.
            None => unsafe { self.base.as_ptr().add(at) },
            // SAFETY: inside that page; an aligned access of a power of two crosses no page.
            Some(pages) => unsafe { pages[at / PAGE_SIZE].as_ptr().add(at % PAGE_SIZE) },
        }
    }
}

impl Atomics for WindowPages {
    fn size(&self) -> usize {
        self.size
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn u16(&self, at: usize) -> &AtomicU16 {
        // SAFETY: in bounds and aligned (`pointer`), mapped as long as `self` lives, and accessed
        // by all sides as atomics only.
        unsafe { AtomicU16::from_ptr(self.pointer(at, 2).cast()) }
    }
    fn u32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `u16`.
        unsafe { AtomicU32::from_ptr(self.pointer(at, 4).cast()) }
    }
    fn u64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: as in `u16`.
        unsafe { AtomicU64::from_ptr(self.pointer(at, 8).cast()) }
    }
    fn u64s(&self, at: usize, count: usize) -> &[AtomicU64] {
        let first = self.pointer(at, 8);
        let end = match self.scattered {
            None => self.size,
            Some(_) => (at / PAGE_SIZE + 1) * PAGE_SIZE,
        };
        let count = count.min((end - at) / 8);
        // SAFETY: as in `u16`, for all of the words: up to `end` they are contiguous.
        unsafe { std::slice::from_raw_parts(first.cast(), count) }
    }
    #[inline]
    fn u64_array<const N: usize>(&self, at: usize) -> Option<&[AtomicU64; N]> {
        let fits = at <= self.contiguous && self.contiguous - at >= 8 * N;
        // SAFETY: as in `u16`, for all of the words, which are inside the contiguous pages.
        (fits && at.is_multiple_of(8)).then(|| unsafe { &*self.base.as_ptr().add(at).cast() })
    }
    /// As Xen's and Linux's `smp_mb()` on x86: a locked instruction orders all that `mfence`, which
    /// `fence(SeqCst)` becomes, orders of ordinary memory, in a sixth of its time.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn full_barrier(&self) {
        // SAFETY: the word on top of the stack keeps its value. Without `nomem` no access to memory
        // is moved across it by the compiler.
        unsafe { std::arch::asm!("lock or dword ptr [rsp], 0") }
    }
}

#[cfg(test)]
mod tests;
