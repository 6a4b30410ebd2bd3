//! The bytes, written down. If one of these changes, so must the version.

use xenvelope_grant::seam::Offload;

use super::super::{Addresses, Body, DeliverHead, Done, Envelope, EnvelopeBuilder, FrameHead, Tag};
use super::{DONE, UNTAGGED, plain, segment};

const HEAD: DeliverHead = DeliverHead {
    epoch: 7,
    sequence: 0xA1A2_A3A4,
    nonce: 0xB1B2_B3B4_B5B6_B7B8,
    tagged: false,
    want_done: false,
};

#[test]
fn a_granted_frame() {
    let mut builder = EnvelopeBuilder::deliver(
        UNTAGGED,
        DeliverHead { tagged: true, want_done: true, ..HEAD },
        None,
    );
    let offload = Offload {
        needs_checksum: true,
        checksum_valid: true,
        gso_type: 1,
        gso_size: 1448,
        checksum_start: 34,
        checksum_offset: 16,
    };
    let frame = FrameHead { ether_type: 0x0800, total: 5000, offload };
    builder.push_granted(frame, &[segment(0x1234, 0x40, 4032), segment(9, 0, 984)]).unwrap();
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0xBB, 0x02, 0, 0, 0, 0, 0xAA, 0x88, 0xB5,
        1, 1, 0x38, 0, 1, 0x05, 0, 0, // 56 bytes, 1 frame, TAGGED and WANT_DONE
        7, 0, 0, 0, 0xA4, 0xA3, 0xA2, 0xA1,
        0xB8, 0xB7, 0xB6, 0xB5, 0xB4, 0xB3, 0xB2, 0xB1,
        0x00, 0x08, 2, 0x07, 0x88, 0x13, 0, 0, // 2 segments, 5000 bytes
        1, 0, 0xA8, 0x05, 20, 0, 16, 0, // summing starts 20 bytes after the Ethernet header
        0x34, 0x12, 0, 0, 0x40, 0, 0xC0, 0x0F,
        9, 0, 0, 0, 0, 0, 0xD8, 0x03,
    ];
    assert_eq!(builder.finish(), expected);
    let envelope = Envelope::parse(&expected).unwrap();
    let Body::Deliver(deliver) = envelope.body else { panic!("{envelope:?}") };
    assert_eq!(deliver.frames.clone().next().unwrap().head, frame);
}

#[test]
fn an_inline_frame() {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_inline(plain(0x0806, 5), b"hello").unwrap();
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0xBB, 0x02, 0, 0, 0, 0, 0xAA, 0x88, 0xB5,
        1, 1, 0x25, 0, 1, 0, 0, 0,
        7, 0, 0, 0, 0xA4, 0xA3, 0xA2, 0xA1,
        0xB8, 0xB7, 0xB6, 0xB5, 0xB4, 0xB3, 0xB2, 0xB1,
        0x06, 0x08, 0, 0, 5, 0, 5, 0,
        b'h', b'e', b'l', b'l', b'o',
        0, 0, 0, 0, 0, 0, 0, 0, 0, // padding to 60 bytes
    ];
    assert_eq!(builder.finish(), expected);
}

#[test]
fn a_frame_with_a_done_and_headers_inline() {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, Some(DONE));
    builder.push_granted_with_headers(plain(0x86DD, 104), b"head", &[segment(8, 4, 100)]).unwrap();
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0xBB, 0x02, 0, 0, 0, 0, 0xAA, 0x88, 0xB5,
        1, 1, 0x44, 0, 1, 0x02, 0, 0,
        7, 0, 0, 0, 0xA4, 0xA3, 0xA2, 0xA1,
        0xB8, 0xB7, 0xB6, 0xB5, 0xB4, 0xB3, 0xB2, 0xB1,
        0x04, 0x03, 0x02, 0x01, 0x14, 0x13, 0x12, 0x11,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
        0xDD, 0x86, 1, 0x08, 104, 0, 4, 0,
        8, 0, 0, 0, 4, 0, 100, 0,
        b'h', b'e', b'a', b'd',
    ];
    assert_eq!(builder.finish(), expected);
}

#[test]
fn a_done_alone() {
    let mut builder = EnvelopeBuilder::done(UNTAGGED, 7, DONE);
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0xBB, 0x02, 0, 0, 0, 0, 0xAA, 0x88, 0xB5,
        1, 2, 0x30, 0, 0, 0x02, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0x04, 0x03, 0x02, 0x01, 0x14, 0x13, 0x12, 0x11,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
    ];
    assert_eq!(builder.finish(), expected);
}

#[test]
fn a_reset() {
    let mut builder = EnvelopeBuilder::reset(UNTAGGED, 0xC1C2_C3C4);
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0xBB, 0x02, 0, 0, 0, 0, 0xAA, 0x88, 0xB5,
        1, 3, 0x18, 0, 0, 0, 0, 0,
        0xC4, 0xC3, 0xC2, 0xC1, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // padding
    ];
    assert_eq!(builder.finish(), expected);
}

#[test]
fn a_frame_in_a_vlan() {
    let addresses = Addresses { tci: Some(0x600A), ..UNTAGGED };
    let offload = Offload {
        needs_checksum: true,
        checksum_start: 38,
        checksum_offset: 6,
        ..Offload::default()
    };
    let mut builder = EnvelopeBuilder::deliver(addresses, HEAD, None);
    let frame = FrameHead { ether_type: 0x0800, total: 1000, offload };
    builder.push_granted(frame, &[segment(8, 0, 1000)]).unwrap();
    #[rustfmt::skip]
    let expected = [
        0x02, 0, 0, 0, 0, 0xBB, 0x02, 0, 0, 0, 0, 0xAA, 0x81, 0x00, 0x60, 0x0A, 0x88, 0xB5,
        1, 1, 0x30, 0, 1, 0, 0, 0,
        7, 0, 0, 0, 0xA4, 0xA3, 0xA2, 0xA1,
        0xB8, 0xB7, 0xB6, 0xB5, 0xB4, 0xB3, 0xB2, 0xB1,
        0x00, 0x08, 1, 0x03, 0xE8, 0x03, 0, 0,
        0, 0, 0, 0, 20, 0, 6, 0,
        8, 0, 0, 0, 0, 0, 0xE8, 0x03,
    ];
    assert_eq!(builder.finish(), expected);

    // A switch takes the tag off at an access port: the checksum stays where it is.
    let mut untagged = expected[..12].to_vec();
    untagged.extend_from_slice(&expected[16..]);
    let envelope = Envelope::parse(&untagged).unwrap();
    let Body::Deliver(mut deliver) = envelope.body else { panic!("{envelope:?}") };
    assert_eq!(deliver.frames.next().unwrap().head.offload.checksum_start, 34);
}

#[test]
fn a_tag() {
    let tag = HEAD.tag();
    let bytes =
        [7, 0, 0, 0, 0xA4, 0xA3, 0xA2, 0xA1, 0xB8, 0xB7, 0xB6, 0xB5, 0xB4, 0xB3, 0xB2, 0xB1];
    assert_eq!(tag.to_bytes(), bytes);
    assert_eq!(Tag::from_bytes(bytes), tag);
    for byte in 0..bytes.len() {
        let mut other = bytes;
        other[byte] ^= 1;
        assert!(tag.matches(&bytes) && !tag.matches(&other));
    }
}

#[test]
fn a_done_covers_what_is_finished_across_the_wrap() {
    let done = Done { epoch: 1, cumulative: u32::MAX, selective: 0b101, nonce: 0 };
    assert!(done.covers(u32::MAX - 1) && done.covers(u32::MAX - 1000));
    assert!(!done.covers(u32::MAX));
    assert!(done.covers(0) && !done.covers(1) && done.covers(2) && !done.covers(3));
    assert!(!done.covers(63) && !done.covers(64) && !done.covers(1000));
    assert_eq!(done.newest(), 2);

    let all = Done { selective: u64::MAX, ..done };
    assert!(all.covers(63) && !all.covers(64));
    assert_eq!(all.newest(), 63);
    assert_eq!(Done { cumulative: 0, selective: 0, ..done }.newest(), u32::MAX);
}
