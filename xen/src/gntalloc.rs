//! `/dev/xen/gntalloc` (`include/uapi/xen/gntalloc.h`): pages of ours, granted when they are
//! allocated. One domid a page, full-page grants only, 1024 pages on a machine unless the
//! module's `limit` says more.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::number::number;

/// `struct ioctl_gntalloc_alloc_gref`, without the references that follow it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Alloc {
    /// To whom.
    pub domid: u16,
    /// [`WRITABLE`] or 0.
    pub flags: u16,
    /// How many pages.
    pub count: u32,
    /// Out: the offset to map them at.
    pub index: u64,
    /// Out: the first reference; the others follow. The field is as long as the structure's
    /// tail padding, so that the size is the kernel's.
    pub first_gref: u32,
    /// The second reference, or nothing.
    pub second_gref: u32,
}

/// `struct ioctl_gntalloc_dealloc_gref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Dealloc {
    /// The offset that [`Alloc`] gave.
    pub index: u64,
    /// How many pages.
    pub count: u32,
    /// Fills the structure.
    pub pad: u32,
}

/// `GNTALLOC_FLAG_WRITABLE`.
pub const WRITABLE: u16 = 1;
/// `IOCTL_GNTALLOC_ALLOC_GREF`.
pub const ALLOC: u32 = number::<Alloc>(b'G', 5);
/// `IOCTL_GNTALLOC_DEALLOC_GREF`.
pub const DEALLOC: u32 = number::<Dealloc>(b'G', 6);

const _: () = {
    assert!(ALLOC == 0x18_4705);
    assert!(DEALLOC == 0x10_4706);
};
