//! `/dev/xen/gntdev` (`include/uapi/xen/gntdev.h`): pages of others, mapped or copied.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::number::number;

/// `struct ioctl_gntdev_map_grant_ref` with one reference.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MapGrantRef {
    /// How many references: at most 65,536 in one call.
    pub count: u32,
    /// Unused.
    pub pad: u32,
    /// Out: the offset to map them at.
    pub index: u64,
    /// The granting domain of the first.
    pub domid: u32,
    /// The first reference; the others follow in pairs.
    pub gref: u32,
}

/// `struct ioctl_gntdev_unmap_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UnmapGrantRef {
    /// The offset that [`MapGrantRef`] gave.
    pub index: u64,
    /// How many.
    pub count: u32,
    /// Unused.
    pub pad: u32,
}

/// `struct ioctl_gntdev_unmap_notify`: what happens when a page goes away with its owner.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UnmapNotify {
    /// The byte to clear, as an offset.
    pub index: u64,
    /// [`CLEAR_BYTE`], [`SEND_EVENT`], or both.
    pub action: u32,
    /// The event channel.
    pub port: u32,
}

/// One end of a [`GrantCopySegment`] in a page of another domain. (An end of our own is a
/// virtual address in the same eight bytes.)
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ForeignEnd {
    /// The reference.
    pub gref: u32,
    /// Where in the page. The copy may not leave it.
    pub offset: u16,
    /// The granting domain.
    pub domid: u16,
}

/// `struct gntdev_grant_copy_segment`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantCopySegment {
    /// Where from: a virtual address, or a [`ForeignEnd`] if [`SOURCE_GREF`] is set.
    pub source: [u8; 8],
    /// Where to, likewise with [`DEST_GREF`]. One of the two must be foreign.
    pub dest: [u8; 8],
    /// How many bytes.
    pub len: u16,
    /// [`SOURCE_GREF`], [`DEST_GREF`].
    pub flags: u16,
    /// Out: `GNTST_*`. The call may return 0 although this says that the segment failed; if the
    /// call itself fails, it says nothing.
    pub status: i16,
    /// Fills the structure.
    pub pad: u16,
}

/// `struct ioctl_gntdev_grant_copy`. The kernel makes one hypercall for every 16 operations.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantCopy {
    /// How many segments.
    pub count: u32,
    /// Fills the structure.
    pub pad: u32,
    /// Address of the segments.
    pub segments: u64,
}

/// `GNTCOPY_source_gref`.
pub const SOURCE_GREF: u16 = 1;
/// `GNTCOPY_dest_gref`.
pub const DEST_GREF: u16 = 2;
/// `UNMAP_NOTIFY_CLEAR_BYTE`.
pub const CLEAR_BYTE: u32 = 1;
/// `UNMAP_NOTIFY_SEND_EVENT`.
pub const SEND_EVENT: u32 = 2;

/// `IOCTL_GNTDEV_MAP_GRANT_REF`.
pub const MAP_GRANT_REF: u32 = number::<MapGrantRef>(b'G', 0);
/// `IOCTL_GNTDEV_UNMAP_GRANT_REF`.
pub const UNMAP_GRANT_REF: u32 = number::<UnmapGrantRef>(b'G', 1);
/// `IOCTL_GNTDEV_SET_UNMAP_NOTIFY`, also of `/dev/xen/gntalloc`.
pub const SET_UNMAP_NOTIFY: u32 = number::<UnmapNotify>(b'G', 7);
/// `IOCTL_GNTDEV_GRANT_COPY`.
pub const GRANT_COPY: u32 = number::<GrantCopy>(b'G', 8);

const _: () = {
    assert!(MAP_GRANT_REF == 0x18_4700);
    assert!(UNMAP_GRANT_REF == 0x10_4701);
    assert!(SET_UNMAP_NOTIFY == 0x10_4707);
    assert!(GRANT_COPY == 0x10_4708);
    assert!(core::mem::size_of::<GrantCopySegment>() == 24);
};
