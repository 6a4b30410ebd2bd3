//! Frames that the card cuts.

use xenvelope_grant::seam::{Instant, NicError, NicPort, Offload};

use super::hardware::{completed, received};
use super::{Host, frame};
use crate::nic::{CardPort, Mac, NicConfig};

const T0: Instant = Instant(0);
const V4: Offload = Offload {
    needs_checksum: true,
    checksum_valid: false,
    gso_type: 1,
    gso_size: 1448,
    checksum_start: 34,
    checksum_offset: 16,
};
const V6: Offload = Offload { gso_type: 4, gso_size: 1428, checksum_start: 54, ..V4 };
/// ACK, PSH, FIN and CWR.
const FLAGS: u8 = 0x10 | 0x08 | 0x01 | 0x80;
const SEQUENCE: u32 = 0xFFFF_F000;

/// A TCP header with a timestamp option, and payload up to `length`.
fn tcp(frame: &mut Vec<u8>, length: usize) {
    frame.extend_from_slice(&[0x30, 0x39, 0, 80]);
    frame.extend_from_slice(&SEQUENCE.to_be_bytes());
    frame.extend_from_slice(&[1, 2, 3, 4, 0x80, FLAGS, 0xFF, 0xFF, 0x12, 0x34, 0, 0]);
    frame.extend_from_slice(&[1, 1, 8, 10, 1, 1, 1, 1, 2, 2, 2, 2]);
    let from = frame.len();
    frame.extend((from..length).map(|at| (at % 251) as u8));
}

fn over_ipv4(to: Mac, from: Mac, length: usize) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.extend_from_slice(&[0x08, 0x00]);
    let total = ((length - 14) as u16).to_be_bytes();
    frame.extend_from_slice(&[0x45, 0, total[0], total[1], 0xFF, 0xFE, 0x40, 0]);
    frame.extend_from_slice(&[64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    tcp(&mut frame, length);
    frame
}

fn over_ipv6(to: Mac, from: Mac, length: usize) -> Vec<u8> {
    let mut frame = [to, from].concat();
    let payload = ((length - 54) as u16).to_be_bytes();
    frame.extend_from_slice(&[0x86, 0xDD, 0x60, 0, 0, 0, payload[0], payload[1], 6, 64]);
    frame.extend_from_slice(&[0x20; 16]);
    frame.extend_from_slice(&[0x30; 16]);
    tcp(&mut frame, length);
    frame
}

/// The sum of all big-endian words, folded: written for reading, not for speed.
fn ones_sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0))).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Checks all pieces of `whole` against it.
fn check(whole: &[u8], pieces: &[(Vec<u8>, Offload)], transport: usize, size: usize) {
    let payload = transport + 32;
    assert_eq!(pieces.len(), (whole.len() - payload).div_ceil(size));
    let mut seen = Vec::new();
    for (i, (piece, offload)) in pieces.iter().enumerate() {
        let last = i + 1 == pieces.len();
        assert_eq!(*offload, Offload { checksum_valid: true, ..Offload::default() });
        assert!(piece.len() == payload + size || last);
        assert_eq!(piece[..14], whole[..14]);
        let tcp = &piece[transport..];
        let length = (tcp.len() as u16).to_be_bytes();
        let addresses = if transport == 34 {
            assert_eq!(usize::from(u16_at(piece, 16)), piece.len() - 14);
            assert_eq!(u16_at(piece, 18), 0xFFFEu16.wrapping_add(i as u16));
            assert_eq!(ones_sum(&[&piece[14..34]]), 0xFFFF);
            &piece[26..34]
        } else {
            assert_eq!(usize::from(u16_at(piece, 18)), piece.len() - 54);
            &piece[22..54]
        };
        assert_eq!(ones_sum(&[addresses, &[0, 6], &length, tcp]), 0xFFFF, "piece {i}");
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        assert_eq!(sequence, SEQUENCE.wrapping_add((i * size) as u32));
        let mut flags = 0x10;
        if i == 0 {
            flags |= 0x80;
        }
        if last {
            flags |= 0x09;
        }
        assert_eq!(tcp[13], flags);
        assert_eq!(tcp[8..13], whole[transport + 8..transport + 13]);
        assert_eq!(tcp[18..32], whole[transport + 18..transport + 32]);
        seen.extend_from_slice(&tcp[32..]);
    }
    assert!(seen == whole[payload..], "the payload, in its order");
}

#[test]
fn a_frame_of_64_kib_is_cut() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 64);
    assert_eq!(b.wanted().1, 1518);
    let before = host.nic.ledger();
    let whole = over_ipv4(b.capabilities().mac, a.capabilities().mac, 65549);
    host.send_with(&a, 1, &whole, V4);
    host.settle(T0);
    let pieces = received(&b);
    check(&whole, &pieces, 34, 1448);
    assert_eq!((pieces.len(), completed(&a)), (46, 1));
    // In once, out 46 times with 45 headers of 66 bytes more.
    let (sender, receiver) =
        (host.nic.counters(CardPort::Vf(0)), host.nic.counters(CardPort::Vf(1)));
    assert_eq!((sender.dma_read_payload, sender.dma_read_descriptors), (65549, 6 * 16));
    assert_eq!((sender.dma_write_payload, sender.dma_write_descriptors), (0, 5 * 16));
    assert_eq!(receiver.dma_write_payload, 65549 + 45 * 66);
    assert_eq!(receiver.dma_write_descriptors, 46 * 16);
    // 64 buffers were told of by doorbells at the latest when all were posted; the card fetches
    // 16 descriptors at a time.
    assert_eq!(receiver.dma_read_descriptors, 48 * 16);
    let sum = host.nic.ledger() - before;
    assert_eq!(sum.total(), 2 * 65549 + 45 * 66 + (6 + 5 + 46 + 48) * 16);
    assert_eq!((sum.tx_frames, sum.segmented_extra, sum.rx_frames), (1, 45, 46));
    assert_eq!(sum.frames_missing(), 0);
}

#[test]
fn ipv6_is_cut() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 64);
    let whole = over_ipv6(b.capabilities().mac, a.capabilities().mac, 40000);
    host.send_with(&a, 1, &whole, V6);
    host.settle(T0);
    check(&whole, &received(&b), 54, 1428);
}

#[test]
fn short_frames_and_padding() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 64);
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    let whole = over_ipv4(to, from, 66 + 100);
    let mut padded = whole.clone();
    padded.extend_from_slice(&[0xEE; 50]);
    host.send_with(&a, 1, &padded, V4);
    // A driver of the 82576 leaves the lengths to the card.
    let mut open = over_ipv4(to, from, 66 + 3000);
    open[16..18].fill(0);
    host.send_with(&a, 1, &open, Offload { needs_checksum: false, ..V4 });
    host.settle(T0);
    let pieces = received(&b);
    check(&whole, &pieces[..1], 34, 1448);
    check(&open, &pieces[1..], 34, 1448);
    // Nothing but headers is one frame.
    let bare = over_ipv4(to, from, 66);
    host.send_with(&a, 1, &bare, V4);
    host.settle(T0);
    assert_eq!(received(&b)[0].0.len(), 66);
}

/// What is cut and what is not keeps its order, while another port's frames go in between; on
/// the trunks each piece has its tag.
#[test]
fn order_is_kept() {
    let host = Host::new(NicConfig { bus_gbit: Some(10.0), ..NicConfig::default() });
    host.nic.pf_control().set_vf_vlan(0, 5).unwrap();
    let (a, c, d) = (host.vf(0), host.vf(2), host.vf(3));
    host.post(&d, 4, 64);
    let wire = host.nic.wire().unwrap();
    let (from, outside) = (a.capabilities().mac, [2, 9, 9, 9, 9, 9]);
    let whole = over_ipv4(outside, from, 50_000);
    for round in 0..3 {
        host.send(&a, 1, &frame(outside, from, 60, round));
        host.send_with(&a, 1, &whole, V4);
        host.send(&c, 3, &frame(d.capabilities().mac, c.capabilities().mac, 60, round));
    }
    let mut now = T0;
    let mut last_of_others = None;
    while let Some(next) = host.nic.run(now) {
        now = next;
        if !received(&d).is_empty() {
            last_of_others = Some(now);
        }
    }
    assert!(last_of_others.unwrap() < now, "they do not wait for all of it");
    let mut out: Vec<Vec<u8>> = std::iter::from_fn(|| wire.receive()).collect();
    for bytes in &mut out {
        let tag: Vec<u8> = bytes.drain(12..16).collect();
        assert_eq!(tag, [0x81, 0, 0, 5]);
    }
    assert_eq!(out.len(), 3 * 36);
    for (round, frames) in out.chunks(36).enumerate() {
        assert_eq!(frames[0], frame(outside, from, 60, round as u8));
        let valid = Offload { checksum_valid: true, ..Offload::default() };
        let pieces: Vec<_> = frames[1..].iter().map(|bytes| (bytes.clone(), valid)).collect();
        check(&whole, &pieces, 34, 1448);
    }
    assert_eq!(completed(&a), 6);
    assert_eq!(host.nic.ledger().frames_missing(), 0);
}

/// A change to a frame and to what is asked for it.
type Spoil = fn(&mut Vec<u8>, &mut Offload);

#[test]
fn nonsense_is_dropped() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 128);
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    let v4: [Spoil; 13] = [
        |frame, _| frame[23] = 17,
        |frame, _| frame[12..14].copy_from_slice(&[0x88, 0xB6]),
        |frame, _| frame[14] = 0x44,
        |frame, _| frame[14] = 0x65,
        |frame, _| frame[20] = 0x20,
        |frame, _| frame[46] = 0x40,
        |frame, _| frame[16..18].copy_from_slice(&5001u16.to_be_bytes()),
        |frame, _| frame[16..18].copy_from_slice(&51u16.to_be_bytes()),
        |frame, _| frame.truncate(30),
        |frame, _| frame.truncate(14),
        |frame, _| frame.truncate(60),
        |_, offload| offload.checksum_start = 36,
        |_, offload| offload.gso_type = 4,
    ];
    for (i, spoil) in v4.iter().enumerate() {
        let (mut bytes, mut offload) = (over_ipv4(to, from, 5014), V4);
        spoil(&mut bytes, &mut offload);
        host.send_with(&a, 1, &bytes, offload);
        host.settle(T0);
        let counted = host.nic.counters(CardPort::Vf(0));
        assert_eq!((counted.segmentation, counted.dropped()), (i as u64 + 1, i as u64 + 1), "{i}");
    }
    let v6: [Spoil; 4] = [
        |frame, _| frame[20] = 0,
        |frame, _| frame[14] = 0x40,
        |frame, _| frame[18..20].copy_from_slice(&6000u16.to_be_bytes()),
        |_, offload| offload.gso_type = 1,
    ];
    for spoil in v6 {
        let (mut bytes, mut offload) = (over_ipv6(to, from, 5014), V6);
        spoil(&mut bytes, &mut offload);
        host.send_with(&a, 1, &bytes, offload);
    }
    host.settle(T0);
    assert_eq!(host.nic.counters(CardPort::Vf(0)).segmentation, 17);
    // Pieces that no network carries; a type that nobody knows.
    let whole = over_ipv4(to, from, 5014);
    host.send_with(&a, 1, &whole, Offload { gso_size: 1453, ..V4 });
    host.send_with(&a, 1, &whole[..1500], Offload { gso_type: 3, ..V4 });
    host.settle(T0);
    let counted = host.nic.counters(CardPort::Vf(0));
    assert_eq!((counted.too_long, counted.malformed), (1, 1));
    assert_eq!((received(&b).len(), completed(&a)), (0, 19));
    // The driver refuses what is too long, cut or not.
    let refused = |length, offload| {
        let refused = a.send(host.buffer(1, 65600), 0..length, offload);
        refused.err().map(|unsent| unsent.cause)
    };
    assert_eq!(refused(65554, V4), Some(NicError::TooLong));
    assert_eq!(refused(1519, Offload::default()), Some(NicError::TooLong));
    assert_eq!(refused(1519, Offload { gso_size: 0, ..V4 }), Some(NicError::TooLong));
    assert_eq!(host.nic.ledger().frames_missing(), 0);
}

/// The smallest pieces of the longest frame: more than there is packet memory for. Nobody else
/// waits for them, the memory does not grow, and the port can be taken away in the middle.
#[test]
fn sixty_thousand_pieces() {
    let host = Host::new(NicConfig { bus_gbit: Some(10.0), ..NicConfig::default() });
    let (a, b, c) = (host.vf(0), host.vf(1), host.vf(2));
    host.post(&b, 2, 8);
    let wire = host.nic.wire().unwrap();
    let (from, outside) = (a.capabilities().mac, [2, 9, 9, 9, 9, 9]);
    let whole = over_ipv4(outside, from, 65549);
    host.send_with(&a, 1, &whole, Offload { gso_size: 1, ..V4 });
    host.send(&c, 3, &frame(b.capabilities().mac, c.capabilities().mac, 60, 1));
    let mut now = T0;
    while let Some(next) = host.nic.run(now) {
        now = next;
        while wire.receive_with(&mut |_| {}) {}
        if host.nic.counters(CardPort::Wire).rx_frames > 30_000 {
            break;
        }
    }
    host.nic.unplug_vf(0).unwrap();
    while let Some(next) = host.nic.run(now) {
        now = next;
        while wire.receive_with(&mut |_| {}) {}
    }
    assert_eq!((received(&b).len(), completed(&a)), (1, 1));
    let sum = host.nic.ledger();
    assert_eq!(sum.segmented_extra, 65549 - 66 - 1);
    assert!(sum.link_down > 30_000, "{sum:?}");
    assert_eq!(sum.frames_missing(), 0);
}
