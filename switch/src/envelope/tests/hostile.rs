//! Envelopes of senders who lie.

use std::vec::Vec;

use proptest::prelude::*;
use xenvelope_grant::seam::{Offload, Segment};

use super::super::{
    Body, DeliverHead, Envelope, EnvelopeBuilder, EnvelopeError, FrameHead, is_envelope,
};
use super::round_trip::{addresses, deliver_head, done, frame};
use super::{DONE, UNTAGGED, plain, segment};
use crate::ethernet::ether_type::IPV4;

const HEAD: DeliverHead =
    DeliverHead { epoch: 1, sequence: 2, nonce: 3, tagged: false, want_done: false };

/// Where the envelope starts in an untagged frame, and its first record.
const AT: usize = 14;
const RECORD: usize = AT + 24;

fn error(bytes: &[u8]) -> EnvelopeError {
    Envelope::parse(bytes).unwrap_err()
}

fn inline() -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_inline(plain(IPV4, 30), &[9; 30]).unwrap();
    builder.finish().to_vec()
}

fn granted(head: FrameHead, segments: &[Segment]) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_granted(head, segments).unwrap();
    builder.finish().to_vec()
}

fn changed(mut bytes: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    bytes[at] = to;
    bytes
}

#[test]
fn a_head_that_is_wrong_is_refused() {
    assert!(Envelope::parse(&inline()).is_ok());
    assert_eq!(
        error(&inline()[..10]),
        EnvelopeError::Frame(crate::FrameError::TooShort { len: 10 })
    );
    assert_eq!(error(&changed(inline(), 13, 0)), EnvelopeError::NotAnEnvelope(0x8800));
    assert_eq!(error(&inline()[..30]), EnvelopeError::Truncated);
    assert_eq!(error(&changed(inline(), AT, 2)), EnvelopeError::Version(2));
    assert_eq!(error(&changed(inline(), AT + 1, 0)), EnvelopeError::Kind(0));
    assert_eq!(error(&changed(inline(), AT + 1, 4)), EnvelopeError::Kind(4));
    assert_eq!(error(&changed(inline(), AT + 3, 1)), EnvelopeError::Length(0x13E));
    assert_eq!(error(&changed(inline(), AT + 2, 200)), EnvelopeError::Length(200));
    assert_eq!(error(&changed(inline(), AT + 2, 23)), EnvelopeError::Truncated);
    assert_eq!(error(&changed(inline(), AT + 2, 61)), EnvelopeError::Truncated);
    assert_eq!(error(&changed(inline(), AT + 4, 0)), EnvelopeError::FrameCount(0));
    assert_eq!(error(&changed(inline(), AT + 4, 2)), EnvelopeError::Truncated);
    assert_eq!(error(&changed(inline(), AT + 5, 8)), EnvelopeError::Flags(8));
    assert_eq!(error(&changed(inline(), AT + 7, 1)), EnvelopeError::Reserved);
}

#[test]
fn a_done_or_reset_that_is_wrong_is_refused() {
    let done = || EnvelopeBuilder::done(UNTAGGED, 1, DONE).finish().to_vec();
    let reset = || EnvelopeBuilder::reset(UNTAGGED, 1).finish().to_vec();
    assert_eq!(error(&changed(done(), AT + 5, 0)), EnvelopeError::Flags(0));
    assert_eq!(error(&changed(done(), AT + 5, 3)), EnvelopeError::Flags(3));
    assert_eq!(error(&changed(done(), AT + 4, 1)), EnvelopeError::FrameCount(1));
    assert_eq!(error(&changed(done(), AT + 12, 1)), EnvelopeError::Reserved);
    assert_eq!(error(&changed(done(), AT + 2, 47)), EnvelopeError::Truncated);
    assert_eq!(error(&changed(reset(), AT + 5, 2)), EnvelopeError::Flags(2));
    assert_eq!(error(&changed(reset(), AT + 16, 1)), EnvelopeError::Reserved);
    assert_eq!(error(&changed(reset(), AT + 2, 25)), EnvelopeError::Trailing(1));
}

#[test]
fn an_envelope_in_an_envelope_is_refused() {
    let bytes = granted(plain(0x88B5, 100), &[segment(8, 0, 100)]);
    assert_eq!(error(&bytes), EnvelopeError::InnerType(0x88B5));
}

#[test]
fn a_frame_cannot_hop_into_a_vlan_that_no_switch_has_seen() {
    for tag in [0x8100, 0x88A8] {
        let bytes = granted(plain(tag, 100), &[segment(8, 0, 100)]);
        assert_eq!(error(&bytes), EnvelopeError::InnerType(tag));
    }
}

#[test]
fn a_segment_that_leaves_its_page_is_refused() {
    for (offset, len) in [(0, 0), (4096, 1), (4095, 2), (0, 4097), (u16::MAX, u16::MAX)] {
        let bytes = granted(plain(IPV4, len.max(1)), &[segment(8, offset, len)]);
        assert_eq!(error(&bytes), EnvelopeError::Segment { offset, len });
    }
    let bytes = granted(plain(IPV4, 1), &[segment(8, 4095, 1)]);
    assert!(Envelope::parse(&bytes).is_ok());
}

#[test]
fn more_segments_than_a_frame_can_need_are_refused() {
    let bytes = granted(plain(IPV4, 17), &[segment(8, 0, 1); 17]);
    assert!(Envelope::parse(&bytes).is_ok());
    // 200 bytes of envelope, and one segment more.
    let mut bytes = changed(bytes, RECORD + 2, 18);
    bytes[AT + 2] += 8;
    bytes.extend_from_slice(&[8, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(error(&bytes), EnvelopeError::TooManySegments(18));
}

#[test]
fn a_size_that_is_not_what_is_there_is_refused() {
    for (total, granted_len) in [(100, 99), (99, 100), (0, 16), (84, 100)] {
        let bytes = granted(plain(IPV4, total), &[segment(8, 0, granted_len)]);
        assert!(matches!(error(&bytes), EnvelopeError::Sizes { .. }));
    }
    // An inline frame that claims more, or none of its bytes, or that only its headers are here.
    assert!(matches!(error(&changed(inline(), RECORD + 4, 31)), EnvelopeError::Sizes { .. }));
    assert!(matches!(error(&changed(inline(), RECORD + 3, 8)), EnvelopeError::Sizes { .. }));
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_inline(plain(IPV4, 0), &[]).unwrap();
    assert!(matches!(error(builder.finish()), EnvelopeError::Sizes { .. }));
}

#[test]
fn granted_data_without_its_tag_is_refused() {
    let tagged = DeliverHead { tagged: true, ..HEAD };
    for (len, right) in [(100, false), (115, false), (116, true), (117, false)] {
        let mut builder = EnvelopeBuilder::deliver(UNTAGGED, tagged, None);
        builder.push_granted(plain(IPV4, 100), &[segment(8, 0, len)]).unwrap();
        assert_eq!(Envelope::parse(builder.finish()).is_ok(), right, "{len}");
    }
    // Headers inline, and nothing granted but the tag.
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, tagged, None);
    builder.push_granted_with_headers(plain(IPV4, 4), b"head", &[segment(8, 0, 16)]).unwrap();
    assert!(matches!(error(builder.finish()), EnvelopeError::Sizes { .. }));
}

#[test]
fn headers_that_are_missing_or_not_announced_are_refused() {
    let bytes = changed(granted(plain(IPV4, 100), &[segment(8, 0, 100)]), RECORD + 3, 8);
    assert!(matches!(error(&bytes), EnvelopeError::Sizes { .. }));
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_granted_with_headers(plain(IPV4, 104), b"head", &[segment(8, 0, 100)]).unwrap();
    let bytes = changed(builder.finish().to_vec(), RECORD + 3, 0);
    assert!(matches!(error(&bytes), EnvelopeError::Sizes { .. }));
}

#[test]
fn offload_that_leaves_the_frame_is_refused() {
    let good = Offload {
        needs_checksum: true,
        checksum_valid: false,
        gso_type: 4,
        gso_size: 1000,
        checksum_start: 14 + 20,
        checksum_offset: 78,
    };
    let parse = |offload: Offload| {
        let head = FrameHead { ether_type: IPV4, total: 100, offload };
        Envelope::parse(&granted(head, &[segment(8, 0, 100)])).map(|_| ())
    };
    assert_eq!(parse(good), Ok(()));
    for (start, offset) in [(34, 79), (13, 6), (0, 6), (14 + 99, 0), (20, u16::MAX), (u16::MAX, 0)]
    {
        let offload = Offload { checksum_start: start, checksum_offset: offset, ..good };
        assert!(matches!(parse(offload), Err(EnvelopeError::Checksum { .. })), "{start} {offset}");
    }
    for (kind, size) in [(0, 1), (1, 0), (4, 0), (2, 1), (3, 1), (5, 1), (0x81, 1)] {
        let offload = Offload { gso_type: kind, gso_size: size, ..good };
        assert_eq!(parse(offload), Err(EnvelopeError::Segmentation { kind, size }));
    }
    let no_checksum = Offload { needs_checksum: false, ..good };
    assert_eq!(parse(no_checksum), Err(EnvelopeError::OffloadFlags));
    // A checksum to fill in, and no block that says where.
    assert_eq!(error(&changed(inline(), RECORD + 3, 2)), EnvelopeError::OffloadFlags);
    assert_eq!(error(&changed(inline(), RECORD + 3, 16)), EnvelopeError::RecordFlags(16));
}

#[test]
fn padding_is_not_read() {
    let mut bytes = EnvelopeBuilder::reset(UNTAGGED, 1).finish().to_vec();
    bytes.resize(2000, 0xFF);
    bytes[38..].fill(0xFF);
    assert!(matches!(Envelope::parse(&bytes).unwrap().body, Body::Reset { epoch: 1 }));
}

#[test]
fn only_the_ether_type_makes_an_envelope() {
    assert!(is_envelope(&inline()) && !is_envelope(&changed(inline(), 12, 8)));
    assert!(!is_envelope(&[]) && !is_envelope(&inline()[..13]));
    let mut tagged = inline()[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0, 0, 10, 0x88, 0xB5]);
    assert!(is_envelope(&tagged) && !is_envelope(&tagged[..17]));
}

/// Goes through all that an envelope gives, and checks what it promises.
fn walk(bytes: &[u8]) {
    let Ok(envelope) = Envelope::parse(bytes) else {
        return;
    };
    let Body::Deliver(deliver) = envelope.body else {
        return;
    };
    assert!(deliver.frames.len() > 0);
    assert_eq!(deliver.frames.clone().count(), deliver.frames.len());
    for record in deliver.frames {
        let total = usize::from(record.head.total);
        assert_eq!(record.segments.clone().count(), record.segments.len());
        let granted: usize = record
            .segments
            .clone()
            .map(|segment| {
                assert!(segment.len > 0 && segment.offset + segment.len <= 4096);
                usize::from(segment.len)
            })
            .sum();
        let tag = if deliver.head.tagged && granted > 0 { 16 } else { 0 };
        assert_eq!(record.inline.len() + granted, total + tag);
        let offload = record.head.offload;
        if offload.needs_checksum {
            let end = usize::from(offload.checksum_start) + usize::from(offload.checksum_offset);
            assert!(usize::from(offload.checksum_start) >= envelope.header.len());
            assert!(end + 2 <= envelope.header.len() + total);
        } else {
            let checksum_valid = offload.checksum_valid;
            assert_eq!(offload, Offload { checksum_valid, ..Offload::default() });
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes: Vec<u8>, as_envelope: bool) {
        if as_envelope && bytes.len() > 20 {
            bytes[12..16].copy_from_slice(&[0x88, 0xB5, 1, 1]);
        }
        is_envelope(&bytes);
        walk(&bytes);
    }

    #[test]
    fn a_valid_envelope_that_was_changed_does_no_harm(
        mut addresses in addresses(),
        head in deliver_head(),
        done in proptest::option::of(done()),
        frames in proptest::collection::vec(frame(14, true), 1..6),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
        cuts: bool,
    ) {
        addresses.tci = None;
        let mut builder =
            EnvelopeBuilder::deliver(addresses, DeliverHead { tagged: true, ..head }, done);
        for frame in &frames {
            // What does not fit stays out.
            let _ = frame.push(&mut builder);
        }
        let mut bytes = builder.finish().to_vec();
        walk(&bytes);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        walk(&bytes);
    }
}
