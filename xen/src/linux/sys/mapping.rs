//! Memory that is mapped: ours alone, ours and readable by a peer, shared.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use nix::libc::off_t;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::words::{AtomicWords, Atomics};

/// A mapping that is unmapped when it is dropped.
pub(super) struct Mapping {
    pub(super) base: NonNull<u8>,
    pub(super) len: usize,
}

impl Mapping {
    pub(super) fn anonymous(pages: usize) -> io::Result<Mapping> {
        let len = NonZeroUsize::new(pages * PAGE_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let base = unsafe { mmap_anonymous(None, len, protection, flags) }?;
        Ok(Mapping { base: base.cast(), len: len.get() })
    }

    fn of_device(device: &File, offset: u64, pages: usize, writable: bool) -> io::Result<Mapping> {
        let len = NonZeroUsize::new(pages * PAGE_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable);
        let offset = off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let base = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, device, offset) }?;
        Ok(Mapping { base: base.cast(), len: len.get() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing borrowed from it outlives its owner. That the range is
        // mapped is all that could make it fail.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

/// Pages that nobody else writes: private ones, or ones that a peer may read.
pub(in crate::linux) struct OwnPages(Mapping);

impl OwnPages {
    /// Zeroed private pages.
    pub fn anonymous(pages: usize) -> io::Result<OwnPages> {
        Mapping::anonymous(pages).map(OwnPages)
    }

    /// Pages of gntalloc's that were granted read-only: the peer reads them, we write.
    pub fn granted(device: &File, offset: u64, pages: usize) -> io::Result<OwnPages> {
        Mapping::of_device(device, offset, pages, true).map(OwnPages)
    }

    pub fn len(&self) -> usize {
        self.0.len
    }

    /// The address of a byte, for the kernel.
    pub fn address(&self, at: usize) -> u64 {
        debug_assert!(at < self.0.len);
        self.0.base.as_ptr() as u64 + at as u64
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as `self` lives; nobody but us writes, and that needs `&mut`.
        unsafe { std::slice::from_raw_parts(self.0.base.as_ptr(), self.0.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.base.as_ptr(), self.0.len) }
    }
}

/// Pages that another domain reads and writes while we do.
pub(in crate::linux) type SharedPagesMap = AtomicWords<DevicePages>;

/// Pages of a device, shared.
pub(in crate::linux) struct DevicePages {
    mapping: Mapping,
    writable: bool,
}

impl DevicePages {
    /// Maps pages of a device, as words.
    pub fn map(
        device: &File,
        offset: u64,
        pages: usize,
        writable: bool,
    ) -> io::Result<SharedPagesMap> {
        let mapping = Mapping::of_device(device, offset, pages, writable)?;
        Ok(AtomicWords::new(DevicePages { mapping, writable }))
    }

    fn pointer(&self, at: usize, width: usize) -> *mut u8 {
        let inside = at.checked_add(width).is_some_and(|end| end <= self.mapping.len);
        assert!(inside && at.is_multiple_of(width), "{width} bytes at {at}");
        // SAFETY: inside the mapping, checked above.
        unsafe { self.mapping.base.as_ptr().add(at) }
    }
}

impl Atomics for DevicePages {
    fn size(&self) -> usize {
        self.mapping.len
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn u16(&self, at: usize) -> &AtomicU16 {
        // SAFETY: in bounds and aligned (`pointer`), mapped as long as `self` lives, and accessed
        // as atomics only.
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
        let count = count.min((self.mapping.len - at) / 8);
        // SAFETY: as in `u16`, for all of the words: a mapping is contiguous.
        unsafe { std::slice::from_raw_parts(first.cast(), count) }
    }
}
