//! The frames of an envelope that is being read.

use core::iter::FusedIterator;

use xenvelope_grant::seam::{MAX_SEGMENTS, Offload, Segment};
use xenvelope_grant::{Gref, PAGE_SIZE};
use zerocopy::FromBytes;

use super::layout::{RECORD_LEN, RawOffload, RawRecord, RawSegment, RecordFlags, SEGMENT_LEN};
use super::parse::EnvelopeError;
use super::{ETHER_TYPE, FrameHead, TAG_LEN};
use crate::ethernet::{TPID_CUSTOMER, TPID_SERVICE};

/// `VIRTIO_NET_HDR_GSO_*`: none, TCP over IPv4, TCP over IPv6.
const GSO_TYPES: [u8; 3] = [0, 1, 4];

/// One frame of an envelope.
#[derive(Clone, Debug)]
pub struct FrameRecord<'a> {
    /// What it is.
    pub head: FrameHead,
    /// Where its granted bytes are; none if it is inline.
    pub segments: Segments<'a>,
    /// Its first bytes after the Ethernet header: all of them if it is inline, its headers if
    /// `headers_inline`, otherwise none.
    pub inline: &'a [u8],
    /// Deliver `inline` and then what is granted.
    pub headers_inline: bool,
}

/// The segments of a frame, in order.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    /// A whole number of raw segments.
    bytes: &'a [u8],
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let (raw, rest) = RawSegment::read_from_prefix(self.bytes).ok()?;
        self.bytes = rest;
        Some(Segment { gref: Gref(raw.gref.get()), offset: raw.offset.get(), len: raw.len.get() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.bytes.len() / SEGMENT_LEN;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Segments<'_> {}
impl FusedIterator for Segments<'_> {}

/// The frames of an envelope, in order. All were validated before the first is given.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    left: u8,
    context: Context,
    /// How many had segments when the first was to come.
    granted: u8,
    /// All were of the commonest kind then.
    plain: bool,
}

/// What the records depend on besides their own bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Bytes of the Ethernet header: 14 or 18.
    pub(super) header: u16,
    /// Granted data begins with a tag.
    pub(super) tagged: bool,
}

impl<'a> Frames<'a> {
    /// Validates `count` records, which must be all of `bytes`.
    pub(super) fn validated(
        bytes: &'a [u8],
        count: u8,
        context: Context,
    ) -> Result<Frames<'a>, EnvelopeError> {
        let mut rest = bytes;
        let (mut granted, mut all_plain) = (0, true);
        for _ in 0..count {
            rest = match Plain::behind_valid(rest) {
                Some(behind) => behind,
                None => {
                    let (pieces, behind) = Pieces::split(rest)?;
                    pieces.check(context)?;
                    granted += u8::from(pieces.raw.segments > 0);
                    all_plain = false;
                    behind
                }
            };
        }
        if !rest.is_empty() {
            return Err(EnvelopeError::Trailing(rest.len()));
        }
        Ok(Frames { bytes, left: count, context, granted, plain: all_plain })
    }

    /// How many of the frames have segments, those that were already given included.
    pub fn granted(&self) -> u32 {
        u32::from(self.granted)
    }

    /// How many are left, if all are of the commonest kind.
    pub(super) fn all_plain(&self) -> Option<u8> {
        self.plain.then_some(self.left)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameRecord<'a>> {
        self.left = self.left.checked_sub(1)?;
        if let Some((plain, rest)) = Plain::split(self.bytes) {
            self.bytes = rest;
            return Some(plain.record());
        }
        // The same bytes were split before without an error.
        let (pieces, rest) = Pieces::split(self.bytes).ok()?;
        self.bytes = rest;
        Some(pieces.record(self.context))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Frames<'_> {}
impl FusedIterator for Frames<'_> {}

/// A record of the commonest kind: a frame that is all inline, with nothing to say of its
/// checksum. It is what [`Pieces`] makes of the same bytes.
pub(super) struct Plain<'a> {
    ether_type: u16,
    total: u16,
    inline: &'a [u8],
}

/// Segments and flags in a [`RawRecord`] as a number.
const NOT_PLAIN: u64 = 0xFFFF_0000;

impl<'a> Plain<'a> {
    /// The EtherType that a record of this kind says, and how many bytes of its frame follow it.
    #[inline]
    pub(super) fn type_and_length(record: [u8; RECORD_LEN]) -> (u16, usize) {
        let record = u64::from_le_bytes(record);
        (record as u16, (record >> 48) as usize)
    }

    /// The first record of `bytes`, if it is one, and what is behind it.
    #[inline]
    fn split(bytes: &'a [u8]) -> Option<(Plain<'a>, &'a [u8])> {
        let (raw, rest) = bytes.split_first_chunk::<RECORD_LEN>()?;
        let word = u64::from_le_bytes(*raw);
        if word & NOT_PLAIN != 0 {
            return None;
        }
        let (ether_type, length) = Plain::type_and_length(*raw);
        let (inline, rest) = rest.split_at_checked(length)?;
        Some((Plain { ether_type, total: (word >> 32) as u16, inline }, rest))
    }

    /// What is behind the first record of `bytes`, if that is of this kind and [`Pieces::check`]
    /// would find nothing.
    #[inline]
    fn behind_valid(bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (raw, rest) = bytes.split_first_chunk::<RECORD_LEN>()?;
        let word = u64::from_le_bytes(*raw);
        let (ether_type, length) = Plain::type_and_length(*raw);
        let total = (word >> 32) as u16;
        let valid = word & NOT_PLAIN == 0
            && usize::from(total) == length
            && length > 0
            && check_inner(ether_type).is_ok();
        if valid { rest.get(length..) } else { None }
    }

    #[inline]
    fn record(self) -> FrameRecord<'a> {
        let head = FrameHead {
            ether_type: self.ether_type,
            total: self.total,
            offload: Offload::default(),
        };
        let segments = Segments { bytes: &[] };
        FrameRecord { head, segments, inline: self.inline, headers_inline: false }
    }
}

/// Whether a frame of that type may travel in an envelope.
#[inline]
fn check_inner(ether_type: u16) -> Result<(), EnvelopeError> {
    if matches!(ether_type, ETHER_TYPE | TPID_CUSTOMER | TPID_SERVICE) {
        return Err(EnvelopeError::InnerType(ether_type));
    }
    Ok(())
}

/// A record cut into its parts, with nothing checked but that they are there.
struct Pieces<'a> {
    raw: RawRecord,
    flags: RecordFlags,
    offload: Option<RawOffload>,
    segments: Segments<'a>,
    inline: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// The first record of `bytes`, and what is behind it.
    fn split(bytes: &'a [u8]) -> Result<(Pieces<'a>, &'a [u8]), EnvelopeError> {
        let truncated = EnvelopeError::Truncated;
        let (raw, rest) = RawRecord::read_from_prefix(bytes).map_err(|_| truncated)?;
        let flags =
            RecordFlags::from_bits(raw.flags).ok_or(EnvelopeError::RecordFlags(raw.flags))?;
        let (offload, rest) = if flags.contains(RecordFlags::OFFLOAD) {
            let (offload, rest) = RawOffload::read_from_prefix(rest).map_err(|_| truncated)?;
            (Some(offload), rest)
        } else {
            (None, rest)
        };
        let (segments, rest) =
            rest.split_at_checked(usize::from(raw.segments) * SEGMENT_LEN).ok_or(truncated)?;
        let (inline, rest) =
            rest.split_at_checked(usize::from(raw.inline.get())).ok_or(truncated)?;
        let segments = Segments { bytes: segments };
        Ok((Pieces { raw, flags, offload, segments, inline }, rest))
    }

    fn check(&self, context: Context) -> Result<(), EnvelopeError> {
        check_inner(self.raw.ether_type.get())?;
        if usize::from(self.raw.segments) > MAX_SEGMENTS {
            return Err(EnvelopeError::TooManySegments(self.raw.segments));
        }
        for segment in self.segments.clone() {
            let Segment { offset, len, .. } = segment;
            if len == 0 || usize::from(offset) + usize::from(len) > PAGE_SIZE {
                return Err(EnvelopeError::Segment { offset, len });
            }
        }
        self.check_sizes(context)?;
        self.check_offload(context)
    }

    /// The bytes that the frame has are the bytes that are there.
    fn check_sizes(&self, context: Context) -> Result<(), EnvelopeError> {
        let total = u32::from(self.raw.total.get());
        let inline = u32::from(self.raw.inline.get());
        let granted: u32 = self.segments.clone().map(|segment| u32::from(segment.len)).sum();
        let headers_inline = self.flags.contains(RecordFlags::HEADERS_INLINE);
        let right = if self.raw.segments == 0 {
            !headers_inline && inline == total && total > 0
        } else {
            let tag = if context.tagged { TAG_LEN as u32 } else { 0 };
            headers_inline == (inline > 0) && inline < total && granted == total - inline + tag
        };
        if right { Ok(()) } else { Err(EnvelopeError::Sizes { total, inline, granted }) }
    }

    fn check_offload(&self, context: Context) -> Result<(), EnvelopeError> {
        let needs_checksum = self.flags.contains(RecordFlags::NEEDS_CHECKSUM);
        let Some(raw) = self.offload else {
            return if needs_checksum { Err(EnvelopeError::OffloadFlags) } else { Ok(()) };
        };
        if raw.reserved != 0 {
            return Err(EnvelopeError::Reserved);
        }
        // Segmentation fills in checksums, so there is no block without one to fill in.
        if !needs_checksum {
            return Err(EnvelopeError::OffloadFlags);
        }
        let (kind, size) = (raw.gso_type, raw.gso_size.get());
        if !GSO_TYPES.contains(&kind) || (kind == 0) != (size == 0) {
            return Err(EnvelopeError::Segmentation { kind, size });
        }
        let (start, offset) = (raw.checksum_start.get(), raw.checksum_offset.get());
        let inside = u32::from(start) + u32::from(offset) + 2 <= u32::from(self.raw.total.get());
        // Counted from the frame's start it must still be a number of 16 bits.
        if !inside || start.checked_add(context.header).is_none() {
            return Err(EnvelopeError::Checksum { start, offset });
        }
        Ok(())
    }

    fn record(self, context: Context) -> FrameRecord<'a> {
        let mut offload = Offload {
            needs_checksum: self.flags.contains(RecordFlags::NEEDS_CHECKSUM),
            checksum_valid: self.flags.contains(RecordFlags::CHECKSUM_VALID),
            ..Offload::default()
        };
        if let Some(raw) = self.offload {
            offload.gso_type = raw.gso_type;
            offload.gso_size = raw.gso_size.get();
            // Checked not to overflow.
            offload.checksum_start = raw.checksum_start.get().saturating_add(context.header);
            offload.checksum_offset = raw.checksum_offset.get();
        }
        FrameRecord {
            head: FrameHead {
                ether_type: self.raw.ether_type.get(),
                total: self.raw.total.get(),
                offload,
            },
            segments: self.segments,
            inline: self.inline,
            headers_inline: self.flags.contains(RecordFlags::HEADERS_INLINE),
        }
    }
}
