//! Envelopes as the builder writes them: the golden vectors of `xenvelope_switch::envelope`.

use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Offload, Segment};
use xenvelope_switch::MacAddress;
use xenvelope_switch::envelope::{Addresses, DeliverHead, Done, EnvelopeBuilder, FrameHead};

use super::tshark::{Scratch, fields};

pub const UNTAGGED: Addresses = Addresses {
    destination: MacAddress([0x02, 0, 0, 0, 0, 0xBB]),
    source: MacAddress([0x02, 0, 0, 0, 0, 0xAA]),
    tci: None,
};

pub const DONE: Done = Done {
    epoch: 0x0102_0304,
    cumulative: 0x1112_1314,
    selective: 0x2122_2324_2526_2728,
    nonce: 0x3132_3334_3536_3738,
};

pub const HEAD: DeliverHead = DeliverHead {
    epoch: 7,
    sequence: 0xA1A2_A3A4,
    nonce: 0xB1B2_B3B4_B5B6_B7B8,
    tagged: false,
    want_done: false,
};

pub fn plain(ether_type: u16, total: u16) -> FrameHead {
    FrameHead { ether_type, total, offload: Offload::default() }
}

pub fn segment(gref: u32, offset: u16, len: u16) -> Segment {
    Segment { gref: Gref(gref), offset, len }
}

/// A UDP datagram over IPv4 from port 1000 to port 2000, with 4 bytes of payload.
const DATAGRAM: [u8; 32] = [
    0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    0x03, 0xE8, 0x07, 0xD0, 0, 12, 0, 0, b'x', b'e', b'n', b'!',
];

fn granted() -> Vec<u8> {
    let head = DeliverHead { tagged: true, want_done: true, ..HEAD };
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, head, None);
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
    builder.finish().to_vec()
}

fn inline_twice() -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_inline(plain(0x0800, 32), &DATAGRAM).unwrap();
    builder.push_inline(plain(0x9999, 5), b"hello").unwrap();
    builder.finish().to_vec()
}

fn headers_inline_and_done() -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, Some(DONE));
    builder.push_granted_with_headers(plain(0x86DD, 104), b"head", &[segment(8, 4, 100)]).unwrap();
    builder.finish().to_vec()
}

fn in_a_vlan() -> Vec<u8> {
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
    builder.finish().to_vec()
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn every_field_is_where_it_belongs() {
    let capture = Scratch::of(&[
        granted(),
        inline_twice(),
        headers_inline_and_done(),
        EnvelopeBuilder::done(UNTAGGED, 7, DONE).finish().to_vec(),
        EnvelopeBuilder::reset(UNTAGGED, 0xC1C2_C3C4).finish().to_vec(),
        in_a_vlan(),
    ]);
    let of = |names: &[&str]| fields(capture.path(), "xenvelope", names);

    let head = of(&[
        "xenvelope.version",
        "xenvelope.kind",
        "xenvelope.length",
        "xenvelope.frames",
        "xenvelope.epoch",
        "xenvelope.sequence",
        "xenvelope.nonce",
    ]);
    let deliver = |length: &str, frames: &str| {
        ["1", "1", length, frames, "0x00000007", "2711790500", "0xb1b2b3b4b5b6b7b8"]
            .map(str::to_owned)
            .to_vec()
    };
    assert_eq!(head[0], deliver("56", "1"));
    assert_eq!(head[1], deliver("77", "2"));
    assert_eq!(head[2], deliver("68", "1"));
    assert_eq!(head[3], ["1", "2", "48", "0", "0x00000007", "0", "0x0000000000000000"]);
    assert_eq!(head[4], ["1", "3", "24", "0", "0xc1c2c3c4", "0", "0x0000000000000000"]);
    assert_eq!(head[5], deliver("48", "1"));

    let flags = of(&[
        "xenvelope.flags",
        "xenvelope.flags.tagged",
        "xenvelope.flags.has_done",
        "xenvelope.flags.want_done",
    ]);
    assert_eq!(flags[0], ["0x05", "1", "0", "1"]);
    assert_eq!(flags[2], ["0x02", "0", "1", "0"]);
    assert_eq!(flags[4], ["0x00", "0", "0", "0"]);

    let done = of(&[
        "xenvelope.done.epoch",
        "xenvelope.done.cumulative",
        "xenvelope.done.selective",
        "xenvelope.done.nonce",
        "xenvelope.done.newest",
    ]);
    // 62 is the highest bit of the selective part.
    let newest = DONE.newest().to_string();
    assert_eq!(newest, (0x1112_1314 + 62).to_string());
    for row in [2, 3] {
        let expected =
            ["0x01020304", "286397204", "0x2122232425262728", "0x3132333435363738", &newest];
        assert_eq!(done[row], expected);
    }
    assert_eq!(done[0], [""; 5]);

    let records = of(&[
        "xenvelope.frame.type",
        "xenvelope.frame.segments",
        "xenvelope.frame.flags",
        "xenvelope.frame.total",
        "xenvelope.frame.inline_length",
        "xenvelope.frame.inline",
    ]);
    assert_eq!(records[0], ["0x0800", "2", "0x07", "5000", "0", ""]);
    assert_eq!(records[1][..5], ["0x0800,0x9999", "0,0", "0x00,0x00", "32,5", "32,5"]);
    assert!(records[1][5].ends_with(",68656c6c6f"), "{}", records[1][5]);
    assert_eq!(records[2], ["0x86dd", "1", "0x08", "104", "4", "68656164"]);
    assert_eq!(records[4], [""; 6]);
    assert_eq!(records[5], ["0x0800", "1", "0x03", "1000", "0", ""]);

    let segments =
        of(&["xenvelope.segment.gref", "xenvelope.segment.offset", "xenvelope.segment.length"]);
    assert_eq!(segments[0], ["4660,9", "64,0", "4032,984"]);
    assert_eq!(segments[1], [""; 3]);
    assert_eq!(segments[2], ["8", "4", "100"]);

    let offload = of(&[
        "xenvelope.offload.gso_type",
        "xenvelope.offload.gso_size",
        "xenvelope.offload.checksum_start",
        "xenvelope.offload.checksum_offset",
    ]);
    assert_eq!(offload[0], ["1", "1448", "20", "16"]);
    assert_eq!(offload[2], [""; 4]);
    assert_eq!(offload[5], ["0", "0", "20", "6"]);

    assert_eq!(of(&["vlan.id"])[5], ["10"]);
    assert!(fields(capture.path(), "xenvelope.malformed", &["frame.number"]).is_empty());
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn an_inline_frame_is_found_by_what_is_in_it() {
    let capture = Scratch::of(&[granted(), inline_twice()]);
    let found = fields(
        capture.path(),
        "xenvelope && udp.dstport == 2000",
        &["frame.number", "ip.src", "_ws.col.Protocol", "_ws.col.Info"],
    );
    let info = "Envelope: deliver 2711790500, 2 frames";
    assert_eq!(found, [["2", "10.0.0.1", "Xenvelope", info]]);
}
