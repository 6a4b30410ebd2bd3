//! Writing an envelope, without allocating.

use thiserror::Error;
use xenvelope_grant::seam::{MAX_SEGMENTS, Mechanism, Offload, Segment};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::layout::{
    DONE_LEN, EnvelopeFlags, HEAD_LEN, KIND_DELIVER, KIND_DONE, KIND_RESET, OFFLOAD_LEN,
    RECORD_LEN, RawDone, RawHead, RawOffload, RawRecord, RawSegment, RecordFlags, SEGMENT_LEN,
    VERSION,
};
use super::{Addresses, DeliverHead, Done, ETHER_TYPE, FrameHead, MAX_ENVELOPE, MIN_FRAME};
use crate::ethernet::{EthernetHeader, TAGGED_LEN};

/// The frame does not fit into the envelope any more, or it is an envelope without frames (done,
/// reset). The envelope is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the frame does not fit into the envelope")]
pub struct EnvelopeFull;

/// More bytes than an Ethernet header is longer than a record, and fewer than are before the first.
const BEFORE: usize = 16;
const _: () = assert!(TAGGED_LEN - RECORD_LEN <= BEFORE && BEFORE <= HEAD_LEN);

/// Writes one envelope.
///
/// It checks for room and nothing else: a frame head or a segment that
/// [`Envelope::parse`](super::Envelope::parse) refuses is written as it is.
#[derive(Clone, Debug)]
pub struct EnvelopeBuilder {
    bytes: [u8; MAX_ENVELOPE],
    /// How many of `bytes` are written.
    len: usize,
    /// Bytes of the Ethernet header.
    header: usize,
    head: RawHeadFields,
}

/// What the head will say; written by `finish`, when the length is known.
#[derive(Clone, Copy, Debug)]
struct RawHeadFields {
    kind: u8,
    frames: u8,
    flags: EnvelopeFlags,
    epoch: u32,
    sequence: u32,
    nonce: u64,
}

impl Default for EnvelopeBuilder {
    /// Room for an envelope: see [`EnvelopeBuilder::deliver_next`].
    fn default() -> Self {
        let head = RawHeadFields::without_frames(KIND_DELIVER, 0);
        EnvelopeBuilder { bytes: [0; MAX_ENVELOPE], len: 0, header: 0, head }
    }
}

impl EnvelopeBuilder {
    /// An envelope that carries frames, and perhaps a done for those that came the other way.
    /// It needs at least one frame.
    pub fn deliver(addresses: Addresses, head: DeliverHead, done: Option<Done>) -> EnvelopeBuilder {
        EnvelopeBuilder::new(addresses, RawHeadFields::of(head), done)
    }

    /// As [`EnvelopeBuilder::deliver`], in the place of an envelope that is not needed any more.
    #[inline]
    pub fn deliver_next(&mut self, addresses: Addresses, head: DeliverHead, done: Option<Done>) {
        self.begin(addresses, RawHeadFields::of(head), done);
    }

    /// An envelope that only says what is done. `epoch` is our own with this peer.
    pub fn done(addresses: Addresses, epoch: u32, done: Done) -> EnvelopeBuilder {
        EnvelopeBuilder::new(addresses, RawHeadFields::without_frames(KIND_DONE, epoch), Some(done))
    }

    /// An envelope that says that we know nothing of what went before `epoch`, our own with this
    /// peer.
    pub fn reset(addresses: Addresses, epoch: u32) -> EnvelopeBuilder {
        EnvelopeBuilder::new(addresses, RawHeadFields::without_frames(KIND_RESET, epoch), None)
    }

    fn new(addresses: Addresses, head: RawHeadFields, done: Option<Done>) -> EnvelopeBuilder {
        let mut builder = EnvelopeBuilder::default();
        builder.begin(addresses, head, done);
        builder
    }

    #[inline]
    fn begin(&mut self, addresses: Addresses, head: RawHeadFields, done: Option<Done>) {
        let Addresses { destination, source, tci } = addresses;
        let ethernet = EthernetHeader { destination, source, tci, ether_type: ETHER_TYPE };
        self.header = ethernet.write(&mut self.bytes);
        self.len = self.header + HEAD_LEN;
        self.head = head;
        if let Some(done) = done {
            self.head.flags |= EnvelopeFlags::HAS_DONE;
            self.append(
                RawDone {
                    epoch: U32::new(done.epoch),
                    cumulative: U32::new(done.cumulative),
                    selective: U64::new(done.selective),
                    nonce: U64::new(done.nonce),
                }
                .as_bytes(),
            );
        }
    }

    /// How many bytes after its Ethernet header a frame may have to be certain to fit inline
    /// into an envelope of its own: whatever its VLAN and offload, and with a done. Less than what
    /// would fit: from here on granting costs both sides less than one more copy by each.
    pub const fn inline_limit() -> usize {
        const LIMIT: usize = 174;
        const {
            assert!(
                LIMIT + TAGGED_LEN + HEAD_LEN + DONE_LEN + RECORD_LEN + OFFLOAD_LEN <= MAX_ENVELOPE
            );
        }
        LIMIT
    }

    /// Whether one more frame fits that has so many segments and so many inline bytes.
    #[inline]
    pub fn room_for(&self, segments: usize, inline: usize, offload: &Offload) -> bool {
        let offload = if needs_block(offload) { OFFLOAD_LEN } else { 0 };
        self.head.kind == KIND_DELIVER
            && self.head.frames < u8::MAX
            && segments <= MAX_SEGMENTS
            && inline <= MAX_ENVELOPE
            && self.len + RECORD_LEN + offload + segments * SEGMENT_LEN + inline <= MAX_ENVELOPE
    }

    /// Adds a frame all of whose bytes are granted (after the tag, if the envelope is tagged).
    /// There is at least one segment.
    ///
    /// # Errors
    /// [`EnvelopeFull`] if it does not fit.
    pub fn push_granted(
        &mut self,
        head: FrameHead,
        segments: &[Segment],
    ) -> Result<(), EnvelopeFull> {
        self.push(head, segments, &[], RecordFlags::empty())
    }

    /// Adds a frame whose first bytes after the Ethernet header are `headers`, and whose other
    /// bytes are granted (after the tag, if the envelope is tagged). Neither may be empty.
    ///
    /// # Errors
    /// [`EnvelopeFull`] if it does not fit.
    pub fn push_granted_with_headers(
        &mut self,
        head: FrameHead,
        headers: &[u8],
        segments: &[Segment],
    ) -> Result<(), EnvelopeFull> {
        self.push(head, segments, headers, RecordFlags::HEADERS_INLINE)
    }

    /// Adds a frame whose bytes after the Ethernet header are `payload`, `head.total` of them.
    ///
    /// # Errors
    /// [`EnvelopeFull`] if it does not fit.
    #[inline]
    pub fn push_inline(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), EnvelopeFull> {
        self.push(head, &[], payload, RecordFlags::empty())
    }

    /// Whether a frame of `length` bytes, Ethernet header included, fits for
    /// [`EnvelopeBuilder::build_inline`].
    #[inline]
    pub fn has_room_in_place(&self, length: usize) -> bool {
        self.head.kind == KIND_DELIVER
            && self.head.frames < u8::MAX
            && length > self.header
            && length <= MAX_ENVELOPE
            && self.len - self.header + RECORD_LEN + length <= MAX_ENVELOPE
    }

    /// Has a frame of `length` bytes, Ethernet header included, built where it will travel, and adds
    /// it if `build` says what it is. Its header must be one that [`Addresses`] of the envelope
    /// have, and is not kept; nor is anything if `build` gives no head. `build` finds there what
    /// was there last. None, and nothing is built, if it does not fit. It is for frames without an
    /// offload block.
    #[inline]
    pub fn build_inline<R>(
        &mut self,
        length: usize,
        build: impl FnOnce(&mut [u8]) -> (Option<FrameHead>, R),
    ) -> Option<R> {
        if !self.has_room_in_place(length) {
            return None;
        }
        let payload = length - self.header;
        let (record, end) = (self.len, self.len + RECORD_LEN + payload);
        // The frame's header lies where the record will be, and a little before that.
        let before: [u8; BEFORE] = *self.bytes.get(..record)?.last_chunk()?;
        let start = record + RECORD_LEN - self.header;
        let (head, result) = build(self.bytes.get_mut(start..end)?);
        *self.bytes.get_mut(..record)?.last_chunk_mut()? = before;
        if let Some(head) = head {
            let mut flags = RecordFlags::empty();
            flags.set(RecordFlags::CHECKSUM_VALID, head.offload.checksum_valid);
            self.append(RawRecord::inline(head, payload, flags).as_bytes());
            self.len = end;
            self.head.frames += 1;
        }
        Some(result)
    }

    #[inline]
    fn push(
        &mut self,
        head: FrameHead,
        segments: &[Segment],
        inline: &[u8],
        mut flags: RecordFlags,
    ) -> Result<(), EnvelopeFull> {
        let offload = &head.offload;
        if !self.room_for(segments.len(), inline.len(), offload) {
            return Err(EnvelopeFull);
        }
        flags.set(RecordFlags::OFFLOAD, needs_block(offload));
        flags.set(RecordFlags::NEEDS_CHECKSUM, offload.needs_checksum);
        flags.set(RecordFlags::CHECKSUM_VALID, offload.checksum_valid);
        let record = RawRecord::inline(head, inline.len(), flags);
        // There is room, so the number is small.
        self.append(RawRecord { segments: segments.len() as u8, ..record }.as_bytes());
        if needs_block(offload) {
            self.append(
                RawOffload {
                    gso_type: offload.gso_type,
                    reserved: 0,
                    gso_size: U16::new(offload.gso_size),
                    // An Ethernet header has 14 or 18 bytes. A checksum that starts inside it
                    // wraps to one that ends outside the frame, and is refused.
                    checksum_start: U16::new(
                        offload.checksum_start.wrapping_sub(self.header as u16),
                    ),
                    checksum_offset: U16::new(offload.checksum_offset),
                }
                .as_bytes(),
            );
        }
        for segment in segments {
            self.append(
                RawSegment {
                    gref: U32::new(segment.gref.0),
                    offset: U16::new(segment.offset),
                    len: U16::new(segment.len),
                }
                .as_bytes(),
            );
        }
        self.append(inline);
        self.head.frames += 1;
        Ok(())
    }

    /// How many frames were added.
    pub fn frames(&self) -> usize {
        usize::from(self.head.frames)
    }

    /// Asks the receiver for a done soon. Only envelopes that carry frames can ask.
    pub fn want_done(&mut self) {
        if self.head.kind == KIND_DELIVER {
            self.head.flags |= EnvelopeFlags::WANT_DONE;
        }
    }

    /// Says by which mechanism the right to read what it grants reaches its receiver. With
    /// [`Mechanism::Transitive`] a done is for the driver domain itself.
    #[inline]
    pub fn mark(&mut self, mechanism: Mechanism) {
        self.head.flags -= EnvelopeFlags::KEYED | EnvelopeFlags::PASSED_ON;
        self.head.flags |= match mechanism {
            Mechanism::Destination => EnvelopeFlags::empty(),
            Mechanism::Transitive => EnvelopeFlags::PASSED_ON,
            Mechanism::Keyed => EnvelopeFlags::KEYED,
        };
    }

    /// The envelope as an Ethernet frame: 60 to [`MAX_ENVELOPE`] bytes. More frames may be added
    /// afterwards, and it be finished again.
    #[inline]
    pub fn finish(&mut self) -> &[u8] {
        let head = RawHead {
            version: VERSION,
            kind: self.head.kind,
            // At most MAX_ENVELOPE.
            length: U16::new((self.len - self.header) as u16),
            frames: self.head.frames,
            flags: self.head.flags.bits(),
            reserved: U16::new(0),
            epoch: U32::new(self.head.epoch),
            sequence: U32::new(self.head.sequence),
            nonce: U64::new(self.head.nonce),
        };
        self.bytes[self.header..self.header + HEAD_LEN].copy_from_slice(head.as_bytes());
        if self.len < MIN_FRAME {
            // What another envelope has left there is nobody's to see.
            self.bytes[self.len..MIN_FRAME].fill(0);
        }
        &self.bytes[..self.len.max(MIN_FRAME)]
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

impl RawHeadFields {
    #[inline]
    fn of(head: DeliverHead) -> RawHeadFields {
        let mut flags = EnvelopeFlags::empty();
        flags.set(EnvelopeFlags::TAGGED, head.tagged);
        flags.set(EnvelopeFlags::WANT_DONE, head.want_done);
        RawHeadFields {
            kind: KIND_DELIVER,
            frames: 0,
            flags,
            epoch: head.epoch,
            sequence: head.sequence,
            nonce: head.nonce,
        }
    }

    fn without_frames(kind: u8, epoch: u32) -> RawHeadFields {
        let flags = EnvelopeFlags::empty();
        RawHeadFields { kind, frames: 0, flags, epoch, sequence: 0, nonce: 0 }
    }
}

impl RawRecord {
    /// Of a frame with so many bytes inline, which the envelope has room for, and no segments.
    #[inline]
    fn inline(head: FrameHead, inline: usize, flags: RecordFlags) -> RawRecord {
        RawRecord {
            ether_type: U16::new(head.ether_type),
            segments: 0,
            flags: flags.bits(),
            total: U16::new(head.total),
            inline: U16::new(inline as u16),
        }
    }
}

/// A checksum that is known to be right is a flag alone; the rest takes a block.
fn needs_block(offload: &Offload) -> bool {
    offload.needs_checksum || offload.gso_type != 0
}
