//! The bytes of an envelope, as structs.
//!
//! All are unaligned and little-endian, so they can be read from anywhere in a frame. They are
//! read once, into a private value.

use core::mem::{offset_of, size_of};

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of this layout.
pub(super) const VERSION: u8 = 1;

/// Carries frames.
pub(super) const KIND_DELIVER: u8 = 1;
/// Says which envelopes are finished with.
pub(super) const KIND_DONE: u8 = 2;
/// Says that the sender knows nothing of what went before.
pub(super) const KIND_RESET: u8 = 3;

bitflags! {
    /// Flags of an envelope.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct EnvelopeFlags: u8 {
        /// Granted data begins with a tag.
        const TAGGED = 1;
        /// A done block follows the head.
        const HAS_DONE = 2;
        /// The sender waits for buffers.
        const WANT_DONE = 4;
        /// The references bear a key, which is the nonce.
        const KEYED = 0x20;
        /// The references are the driver domain's, which passes on what was granted to it; or it
        /// is the driver domain that is told what is done.
        const PASSED_ON = 0x40;
    }
}

bitflags! {
    /// Flags of a frame's record.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct RecordFlags: u8 {
        /// An offload block follows the record.
        const OFFLOAD = 1;
        /// The transport checksum is not filled in.
        const NEEDS_CHECKSUM = 2;
        /// The transport checksum is known to be right.
        const CHECKSUM_VALID = 4;
        /// The frame's first bytes are inline, the rest is granted.
        const HEADERS_INLINE = 8;
    }
}

/// What follows the Ethernet header of every envelope.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawHead {
    pub(super) version: u8,
    pub(super) kind: u8,
    pub(super) length: U16,
    pub(super) frames: u8,
    pub(super) flags: u8,
    pub(super) reserved: U16,
    pub(super) epoch: U32,
    pub(super) sequence: U32,
    pub(super) nonce: U64,
}

/// The done block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawDone {
    pub(super) epoch: U32,
    pub(super) cumulative: U32,
    pub(super) selective: U64,
    pub(super) nonce: U64,
}

/// A frame's record.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawRecord {
    pub(super) ether_type: U16,
    pub(super) segments: u8,
    pub(super) flags: u8,
    pub(super) total: U16,
    pub(super) inline: U16,
}

/// A record's offload block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawOffload {
    pub(super) gso_type: u8,
    pub(super) reserved: u8,
    pub(super) gso_size: U16,
    pub(super) checksum_start: U16,
    pub(super) checksum_offset: U16,
}

/// A granted piece of a page.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawSegment {
    pub(super) gref: U32,
    pub(super) offset: U16,
    pub(super) len: U16,
}

/// Bytes of the head.
pub(super) const HEAD_LEN: usize = size_of::<RawHead>();
/// Bytes of a done block.
pub(super) const DONE_LEN: usize = size_of::<RawDone>();
/// Bytes of a record without what follows it.
pub(super) const RECORD_LEN: usize = size_of::<RawRecord>();
/// Bytes of an offload block.
pub(super) const OFFLOAD_LEN: usize = size_of::<RawOffload>();
/// Bytes of a segment.
pub(super) const SEGMENT_LEN: usize = size_of::<RawSegment>();

const _: () = {
    assert!(HEAD_LEN == 24);
    assert!(offset_of!(RawHead, length) == 2);
    assert!(offset_of!(RawHead, frames) == 4);
    assert!(offset_of!(RawHead, flags) == 5);
    assert!(offset_of!(RawHead, reserved) == 6);
    assert!(offset_of!(RawHead, epoch) == 8);
    assert!(offset_of!(RawHead, sequence) == 12);
    assert!(offset_of!(RawHead, nonce) == 16);
    assert!(DONE_LEN == 24);
    assert!(offset_of!(RawDone, cumulative) == 4);
    assert!(offset_of!(RawDone, selective) == 8);
    assert!(offset_of!(RawDone, nonce) == 16);
    assert!(RECORD_LEN == 8);
    assert!(offset_of!(RawRecord, segments) == 2);
    assert!(offset_of!(RawRecord, flags) == 3);
    assert!(offset_of!(RawRecord, total) == 4);
    assert!(offset_of!(RawRecord, inline) == 6);
    assert!(OFFLOAD_LEN == 8);
    assert!(offset_of!(RawOffload, gso_size) == 2);
    assert!(offset_of!(RawOffload, checksum_start) == 4);
    assert!(offset_of!(RawOffload, checksum_offset) == 6);
    assert!(SEGMENT_LEN == 8);
    assert!(offset_of!(RawSegment, offset) == 4);
    assert!(offset_of!(RawSegment, len) == 6);
};
