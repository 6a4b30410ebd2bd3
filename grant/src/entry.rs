//! Grant table entries, bit for bit (`xen/include/public/grant_table.h`).
//!
//! Version 1, 8 bytes: `flags u16 | domid u16 | frame u32`.
//!
//! Version 2, 16 bytes, beside an array of 16-bit status words:
//!
//! | kind | 0 | 2 | 4 | 6 | 8 |
//! |---|---|---|---|---|---|
//! | full page | flags u16 | domid u16 | pad u32 | | frame u64 |
//! | sub-page | flags u16 | domid u16 | page_off u16 | length u16 | frame u64 |
//! | transitive | flags u16 | domid u16 | trans_domid u16 | pad u16 | gref u32, pad u32 |

use bitflags::bitflags;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Gref};

bitflags! {
    /// `GTF_*`: the flags of an entry.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct GrantFlags: u16 {
        /// `GTF_permit_access`. The low two bits are the type: 0 invalid, 1 permit access,
        /// 2 accept transfer, 3 transitive.
        const PERMIT_ACCESS = 1;
        /// `GTF_accept_transfer`.
        const ACCEPT_TRANSFER = 2;
        /// `GTF_readonly`.
        const READONLY = 4;
        /// `GTF_reading`: in use for reading. In version 2 it is in the status word.
        const READING = 8;
        /// `GTF_writing`: in use for writing. In version 2 it is in the status word.
        const WRITING = 16;
        /// `GTF_PWT`.
        const PWT = 0x20;
        /// `GTF_PCD`.
        const PCD = 0x40;
        /// `GTF_PAT`.
        const PAT = 0x80;
        /// `GTF_sub_page`: only a part of the page, and only to be copied.
        const SUB_PAGE = 0x100;
        /// Not Xen's, and never set for one: for whoever has the entry's key, for one copy. The
        /// simulator knows it, in version 2.
        const KEYED = 0x200;
    }
}

impl GrantFlags {
    /// `GTF_type_mask`.
    pub const TYPE_MASK: u16 = 3;
    /// `GTF_transitive`: both type bits.
    pub const TRANSITIVE: GrantFlags = GrantFlags::from_bits_retain(3);
    /// Reading or writing.
    pub const IN_USE: GrantFlags = GrantFlags::READING.union(GrantFlags::WRITING);

    /// What the two type bits say.
    pub const fn kind(self) -> EntryKind {
        match self.bits() & Self::TYPE_MASK {
            0 => EntryKind::Invalid,
            1 => EntryKind::PermitAccess,
            2 => EntryKind::AcceptTransfer,
            _ => EntryKind::Transitive,
        }
    }
}

/// The type of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// `GTF_invalid`.
    Invalid,
    /// `GTF_permit_access`.
    PermitAccess,
    /// `GTF_accept_transfer`.
    AcceptTransfer,
    /// `GTF_transitive`.
    Transitive,
}

/// `grant_entry_v1_t`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EntryV1 {
    /// [`GrantFlags`].
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// The frame (gfn).
    pub frame: u32,
}

/// `grant_entry_v2_t` with `full_page`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FullPageV2 {
    /// [`GrantFlags`].
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// Unused.
    pub pad0: u32,
    /// The frame (gfn).
    pub frame: u64,
}

/// `grant_entry_v2_t` with `sub_page`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SubPageV2 {
    /// [`GrantFlags`].
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// Where in the page.
    pub page_off: u16,
    /// How long.
    pub length: u16,
    /// The frame (gfn).
    pub frame: u64,
}

/// `grant_entry_v2_t` with `transitive`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TransitiveV2 {
    /// [`GrantFlags`].
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
    /// Whose grant is passed on.
    pub trans_domid: u16,
    /// Unused.
    pub pad0: u16,
    /// The grant that is passed on.
    pub gref: u32,
    /// Fills the union.
    pub pad1: u32,
}

const _: () = {
    assert!(size_of::<EntryV1>() == 8);
    assert!(offset_of!(EntryV1, domid) == 2 && offset_of!(EntryV1, frame) == 4);
    assert!(size_of::<FullPageV2>() == 16);
    assert!(offset_of!(FullPageV2, domid) == 2 && offset_of!(FullPageV2, frame) == 8);
    assert!(size_of::<SubPageV2>() == 16);
    assert!(offset_of!(SubPageV2, page_off) == 4 && offset_of!(SubPageV2, length) == 6);
    assert!(offset_of!(SubPageV2, frame) == 8);
    assert!(size_of::<TransitiveV2>() == 16);
    assert!(offset_of!(TransitiveV2, trans_domid) == 4 && offset_of!(TransitiveV2, gref) == 8);
};

/// What a grant lets somebody reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// The whole page. It can be mapped.
    FullPage {
        /// The frame (gfn).
        frame: u64,
    },
    /// A part of a page. It can only be copied. Version 2.
    SubPage {
        /// The frame (gfn).
        frame: u64,
        /// Where in the page.
        offset: u16,
        /// How long.
        length: u16,
    },
    /// What somebody else granted to us. It can only be copied. Version 2.
    Transitive {
        /// Who granted it to us.
        domain: DomId,
        /// The reference.
        gref: Gref,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_bytes_that_xen_documents() {
        let v1 = EntryV1 { flags: 0x0005, domid: 0x0102, frame: 0x0304_0506 };
        assert_eq!(v1.as_bytes(), [5, 0, 2, 1, 6, 5, 4, 3]);
        let sub = SubPageV2 { flags: 0x105, domid: 7, page_off: 16, length: 0x1234, frame: 0x99 };
        assert_eq!(sub.as_bytes(), [5, 1, 7, 0, 16, 0, 0x34, 0x12, 0x99, 0, 0, 0, 0, 0, 0, 0]);
        let transitive =
            TransitiveV2 { flags: 3, domid: 7, trans_domid: 9, pad0: 0, gref: 0x11, pad1: 0 };
        assert_eq!(transitive.as_bytes(), [3, 0, 7, 0, 9, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_type_is_the_low_two_bits() {
        assert_eq!(GrantFlags::from_bits_retain(0x104).kind(), EntryKind::Invalid);
        assert_eq!(GrantFlags::from_bits_retain(0x105).kind(), EntryKind::PermitAccess);
        assert_eq!(GrantFlags::TRANSITIVE.kind(), EntryKind::Transitive);
    }
}
