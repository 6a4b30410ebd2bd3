//! What a receiver refuses, the dissector marks; what it takes, the dissector does not.

use std::time::{SystemTime, UNIX_EPOCH};

use xenvelope_grant::seam::Offload;
use xenvelope_switch::envelope::{
    Addresses, DeliverHead, Done, Envelope, EnvelopeBuilder, FrameHead,
};

use super::envelopes::{DONE, HEAD, UNTAGGED, plain, segment};
use super::tshark::{Scratch, fields, numbers};

/// Where the envelope starts in an untagged frame, and its first record.
const AT: usize = 14;
const RECORD: usize = AT + 24;

fn inline() -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_inline(plain(0x9999, 30), &[9; 30]).unwrap();
    builder.finish().to_vec()
}

fn granted(head: FrameHead, offset: u16, len: u16) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_granted(head, &[segment(8, offset, len)]).unwrap();
    builder.finish().to_vec()
}

fn changed(mut bytes: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    bytes[at] = to;
    bytes
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn each_fault_is_marked_with_its_reason() {
    let done = || EnvelopeBuilder::done(UNTAGGED, 1, DONE).finish().to_vec();
    let reset = || EnvelopeBuilder::reset(UNTAGGED, 1).finish().to_vec();
    let offload = |gso_type, gso_size, checksum_offset| FrameHead {
        offload: Offload {
            needs_checksum: true,
            checksum_valid: false,
            gso_type,
            gso_size,
            checksum_start: 34,
            checksum_offset,
        },
        ..plain(0x9999, 100)
    };
    let faults = [
        (inline()[..30].to_vec(), "the envelope ends too early"),
        (changed(inline(), AT, 2), "envelope version 2 is not known"),
        (changed(inline(), AT + 1, 4), "envelope kind 4 is not known"),
        (changed(inline(), AT + 2, 200), "the envelope claims 200 bytes"),
        (changed(inline(), AT + 3, 1), "the envelope claims 318 bytes"),
        (changed(inline(), AT + 2, 23), "the envelope claims 23 bytes"),
        (changed(inline(), AT + 2, 61), "the envelope ends inside frame 1"),
        (changed(inline(), AT + 4, 0), "an envelope of its kind cannot have 0 frames"),
        (changed(inline(), AT + 4, 2), "the envelope ends before frame 2"),
        (changed(inline(), AT + 5, 8), "envelope flags 0x08 do not fit its kind"),
        (changed(inline(), AT + 7, 1), "a reserved field is not zero"),
        (changed(done(), AT + 5, 3), "envelope flags 0x03 do not fit its kind"),
        (changed(done(), AT + 12, 1), "a sequence or a nonce without frames"),
        (changed(done(), AT + 2, 47), "the envelope ends inside its done"),
        (changed(reset(), AT + 2, 25), "1 bytes are left behind the last record"),
        (granted(plain(0x88B5, 100), 0, 100), "a frame of EtherType 0x88b5 cannot travel"),
        (granted(plain(0x8100, 100), 0, 100), "a frame of EtherType 0x8100 cannot travel"),
        (granted(plain(0x9999, 2), 4095, 2), "a segment of 2 bytes at offset 4095"),
        (granted(plain(0x9999, 100), 0, 99), "a frame of 100 bytes, 0 inline and 99 granted"),
        (changed(inline(), RECORD + 3, 16), "record flags 0x10 are not known"),
        (changed(inline(), RECORD + 3, 2), "no offload block that says where"),
        (granted(offload(2, 1, 16), 0, 100), "segmentation of type 2 into 1 bytes"),
        (granted(offload(1, 1, 79), 0, 100), "a checksum at 20 + 79 of 100 bytes"),
    ];
    for (bytes, _) in &faults {
        assert!(Envelope::parse(bytes).is_err(), "{bytes:x?}");
    }
    let capture = Scratch::of(&faults.clone().map(|(bytes, _)| bytes));
    let names = ["frame.number", "_ws.expert.message"];
    let marked = fields(capture.path(), "xenvelope.malformed", &names);
    assert_eq!(marked.len(), faults.len(), "{marked:?}");
    for (row, (_, reason)) in marked.iter().zip(faults) {
        assert!(row[1].contains(reason), "frame {}: {:?}, not {reason:?}", row[0], row[1]);
    }
}

/// Marsaglia's xorshift64*: any that can be repeated will do.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// An envelope that is mostly right.
fn envelope(random: &mut Random) -> Vec<u8> {
    let tci = random.chance(3).then_some(0x0005);
    let addresses = Addresses { tci, ..UNTAGGED };
    let header = if tci.is_some() { 18 } else { 14 };
    let selective = random.next();
    let done = Done { selective, cumulative: selective as u32, ..DONE };
    match random.below(8) {
        0 => return EnvelopeBuilder::done(addresses, 5, done).finish().to_vec(),
        1 => return EnvelopeBuilder::reset(addresses, 5).finish().to_vec(),
        _ => {}
    }
    let tagged = random.chance(2);
    let head = DeliverHead { tagged, want_done: random.chance(2), ..HEAD };
    let done = random.chance(3).then_some(done);
    let mut builder = EnvelopeBuilder::deliver(addresses, head, done);
    for _ in 0..1 + random.below(4) {
        let inline = random.below(24);
        let granted = 1 + random.below(6000);
        let mut frame = plain([0x9999, 0x0800, 0x86DD][random.below(3)], 0);
        let total = match random.below(3) {
            0 => inline.max(1),
            1 => granted,
            _ => inline + granted,
        };
        // Now and then it is not.
        frame.total = if random.chance(40) { random.next() as u16 } else { total as u16 };
        if random.chance(3) {
            let gso_type = [0, 1, 4][random.below(3)];
            frame.offload = Offload {
                needs_checksum: true,
                checksum_valid: random.chance(2),
                gso_type,
                gso_size: if gso_type == 0 { 0 } else { 1448 },
                checksum_start: (header + random.below(total)) as u16,
                checksum_offset: random.below(20) as u16,
            };
        }
        let bytes = vec![7; inline.max(1)];
        let tag = if tagged { 16 } else { 0 };
        let mut left = granted + tag;
        let mut segments = Vec::new();
        while left > 0 {
            let piece = left.min(4096);
            segments.push(segment(random.next() as u32, (4096 - piece) as u16, piece as u16));
            left -= piece;
        }
        // What does not fit stays out.
        let _ = match (total == inline.max(1), total == granted) {
            (true, _) => builder.push_inline(frame, &bytes),
            (_, true) => builder.push_granted(frame, &segments),
            _ => builder.push_granted_with_headers(frame, &bytes[..inline.max(1)], &segments),
        };
    }
    builder.finish().to_vec()
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn the_dissector_and_the_receiver_refuse_the_same() {
    let seed = std::env::var("XENVELOPE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
    });
    println!("XENVELOPE_SEED={seed}");
    let mut random = Random(seed);
    let frames: Vec<Vec<u8>> = (0..4000)
        .map(|_| {
            let mut bytes = envelope(&mut random);
            // The Ethernet header stays: without its EtherType nobody takes it for an envelope.
            let start = if bytes[12] == 0x81 { 18 } else { 14 };
            for _ in 0..random.below(3) {
                let at = start + random.below(bytes.len() - start);
                bytes[at] = if random.chance(2) { random.next() as u8 } else { bytes[at] ^ 1 };
            }
            if random.chance(10) {
                bytes.truncate(start + 1 + random.below(bytes.len() - start - 1));
            }
            bytes
        })
        .collect();
    let refused: Vec<usize> = frames
        .iter()
        .zip(1..)
        .filter(|(bytes, _)| Envelope::parse(bytes).is_err())
        .map(|(_, number)| number)
        .collect();
    // Both must be tried.
    let tried = refused.len();
    assert!((400..3600).contains(&tried), "{tried} of 4000 refused, XENVELOPE_SEED={seed}");
    let capture = Scratch::of(&frames);
    let marked = numbers(capture.path(), "xenvelope.malformed");
    for number in 1..=frames.len() {
        let (ours, its) = (refused.contains(&number), marked.contains(&number));
        let bytes = &frames[number - 1];
        let parsed = Envelope::parse(bytes).map(|_| ());
        assert_eq!(ours, its, "XENVELOPE_SEED={seed}, frame {number}: {parsed:?}\n{bytes:x?}");
    }
}
