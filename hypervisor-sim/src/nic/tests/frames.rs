//! Frames: that they arrive as they were sent, and what they cost.

use std::sync::atomic::Ordering;

use xenvelope_grant::seam::{Instant, NicError, NicPort, Offload};

use super::hardware::{completed, received};
use super::{Host, frame};
use crate::nic::{CardPort, NicConfig, NicCounters, NicThread};

const T0: Instant = Instant(0);

/// One frame from VF 0 to VF 1: what each of them was charged.
fn one(length: usize) -> (NicCounters, NicCounters) {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 1);
    let (a0, b0) = (host.nic.counters(CardPort::Vf(0)), host.nic.counters(CardPort::Vf(1)));
    let sent = frame(b.capabilities().mac, a.capabilities().mac, length, 1);
    host.send(&a, 1, &sent);
    assert_eq!(host.nic.run(T0), None);
    assert_eq!(received(&b), [(sent, Offload::default())]);
    assert_eq!(completed(&a), 1);
    (host.nic.counters(CardPort::Vf(0)) - a0, host.nic.counters(CardPort::Vf(1)) - b0)
}

#[test]
fn every_byte_of_a_frame_is_counted() {
    for length in [60, 1514] {
        let (a, b) = one(length);
        let bytes = length as u64;
        assert_eq!((a.dma_read_payload, a.dma_read_descriptors), (bytes, 16));
        assert_eq!((a.dma_write_payload, a.dma_write_descriptors), (0, 16));
        assert_eq!((b.dma_read_payload, b.dma_read_descriptors), (0, 16));
        assert_eq!((b.dma_write_payload, b.dma_write_descriptors), (bytes, 16));
        assert_eq!((a + b).total(), 2 * bytes + 64);
        assert_eq!((a.tx_frames, b.rx_frames, a.doorbells), (1, 1, 1));
        assert_eq!((a.dropped(), b.dropped()), (0, 0));
    }
}

#[test]
fn a_card_for_frames_of_64_kib_carries_them_whole() {
    let host = Host::jumbo();
    let (a, b) = (host.vf(0), host.vf(1));
    b.post(host.buffer(2, 17 * 4096), 100).ok().unwrap();
    let sent = frame(b.capabilities().mac, a.capabilities().mac, 65549, 1);
    // A type without a size asks for nothing, but costs a context.
    let offload = Offload { gso_type: 1, ..Offload::default() };
    host.send_with(&a, 1, &sent, offload);
    host.settle(T0);
    assert_eq!(received(&b), [(sent, Offload::default())]);
    let a = host.nic.counters(CardPort::Vf(0));
    assert_eq!(a.dma_read_descriptors, 6 * 16, "a context and five pieces");
    assert_eq!(a.dma_write_descriptors, 5 * 16);
}

#[test]
fn order_is_kept_over_many_rounds_of_the_rings() {
    let config = NicConfig { tx_ring: 16, rx_ring: 16, ..NicConfig::default() };
    let host = Host::new(config);
    let (a, b) = (host.vf(0), host.vf(1));
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    let mut now = T0;
    let mut expected = 0u8;
    for round in 0..20u8 {
        host.post(&b, 2, b.wanted().0);
        for i in 0..5 {
            host.send(&a, 1, &frame(to, from, 60 + usize::from(i), round * 5 + i));
        }
        now = host.settle(now);
        assert_eq!(completed(&a), 5);
        for (bytes, _) in received(&b) {
            assert_eq!(bytes[14], expected);
            expected += 1;
        }
    }
    assert_eq!(expected, 100);
    assert_eq!(a.in_flight(), 0);
}

#[test]
fn no_receive_buffer_is_a_drop_and_holds_nobody_up() {
    let host = Host::ideal();
    let (a, b, c) = (host.vf(0), host.vf(1), host.vf(2));
    host.post(&c, 3, 1);
    let from = a.capabilities().mac;
    host.send(&a, 1, &frame(b.capabilities().mac, from, 60, 1));
    host.send(&a, 1, &frame(c.capabilities().mac, from, 60, 2));
    host.settle(T0);
    assert_eq!(received(&c).len(), 1);
    assert_eq!(completed(&a), 2);
    assert_eq!(host.nic.counters(CardPort::Vf(1)).no_receive_buffer, 1);
}

#[test]
fn too_long_for_the_posted_buffer_leaves_the_buffer() {
    let host = Host::jumbo();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 1);
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    host.send(&a, 1, &frame(to, from, 4096, 1));
    host.send(&a, 1, &frame(to, from, 4032, 2));
    host.settle(T0);
    assert_eq!(received(&b).len(), 1);
    assert_eq!(host.nic.counters(CardPort::Vf(1)).too_long, 1);
}

#[test]
fn a_full_ring_refuses_and_its_completions_interrupt() {
    let config = NicConfig { tx_ring: 16, max_frame: 1514, ..NicConfig::default() };
    let host = Host::new(config);
    let ((a, line), b) = (host.vf_and_line(0), host.vf(1));
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    let before = line.0.load(Ordering::Relaxed);
    for i in 0..12 {
        host.send(&a, 1, &frame(to, from, 60, i));
    }
    host.settle(T0);
    assert_eq!(line.0.load(Ordering::Relaxed), before, "nobody asked");
    for i in 0..4 {
        host.send(&a, 1, &frame(to, from, 60, i));
    }
    let refused = a.send(host.buffer(1, 4096), 0..60, Offload::default());
    assert_eq!(refused.err().map(|unsent| unsent.cause), Some(NicError::Full));
    assert!(line.0.load(Ordering::Relaxed) > before, "what is complete can be reaped");
    assert_eq!(completed(&a), 12);
    let before = line.0.load(Ordering::Relaxed);
    for i in 0..9 {
        host.send(&a, 1, &frame(to, from, 60, i));
    }
    host.settle(Instant(10_000));
    assert_eq!(line.0.load(Ordering::Relaxed), before + 1, "once a batch");
    assert_eq!(completed(&a), 13);
    let refused = a.send(host.buffer(1, 4096), 0..1515, Offload::default());
    assert_eq!(refused.err().map(|unsent| unsent.cause), Some(NicError::TooLong));
}

/// 28 bytes of TCP segment over IPv4; its checksum comes out as the RFC says it must: the sum
/// over pseudo-header and segment is all ones.
#[test]
fn the_checksum_of_ipv4_tcp_is_filled_in() {
    let host = Host::ideal();
    let (a, b, c) = (host.vf(0), host.vf(1), host.vf(2));
    host.post(&b, 2, 2);
    let mut sent = frame(b.capabilities().mac, a.capabilities().mac, 62, 9);
    sent[12..14].copy_from_slice(&[0x08, 0x00]);
    let header = [0x45, 0, 0, 48, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    sent[14..34].copy_from_slice(&header);
    sent[46..48].copy_from_slice(&[0x50, 0x10]);
    // The pseudo-header's sum, not complemented: addresses, protocol 6, length 28.
    let pseudo: u32 = 0x0A00 + 0x0001 + 0x0A00 + 0x0002 + 6 + 28;
    sent[50..52].copy_from_slice(&(pseudo as u16).to_be_bytes());
    let offload = Offload {
        needs_checksum: true,
        checksum_start: 34,
        checksum_offset: 16,
        ..Offload::default()
    };
    host.send_with(&a, 1, &sent, offload);
    host.settle(T0);
    let arrived = received(&b);
    let (bytes, state) = &arrived[0];
    assert_eq!(*state, Offload { checksum_valid: true, ..Offload::default() });
    let words = bytes[34..62].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = pseudo + words.sum::<u32>();
    assert_eq!((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
    assert_eq!(bytes[..50], sent[..50]);
    assert_eq!(bytes[52..], sent[52..]);

    // What arrives with a checksum of the sender's own is checked, right or wrong.
    let mut own = bytes.clone();
    own[0..6].copy_from_slice(&c.capabilities().mac);
    host.post(&c, 3, 2);
    host.send(&a, 1, &own);
    own[61] ^= 1;
    host.send(&a, 1, &own);
    host.settle(T0);
    let valid: Vec<bool> = received(&c).iter().map(|(_, state)| state.checksum_valid).collect();
    assert_eq!(valid, [true, false]);
}

#[test]
fn a_checksum_outside_of_the_frame_is_refused() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 1);
    let sent = frame(b.capabilities().mac, a.capabilities().mac, 60, 9);
    let offload = Offload {
        needs_checksum: true,
        checksum_start: 58,
        checksum_offset: 1,
        ..Offload::default()
    };
    host.send_with(&a, 1, &sent, offload);
    host.settle(T0);
    assert_eq!(received(&b).len(), 0);
    assert_eq!(completed(&a), 1);
    assert_eq!(host.nic.counters(CardPort::Vf(0)).malformed, 1);
}

#[test]
fn a_thread_runs_the_card() {
    let host = Host::new(NicConfig { tx_ring: 64, ..NicConfig::default() });
    let start = std::time::Instant::now();
    let clock = move || Instant(start.elapsed().as_nanos() as u64);
    let thread = NicThread::spawn(host.nic.clone(), clock).unwrap();
    let (a, b) = (host.vf(0), host.vf(1));
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    for round in 0..50u8 {
        if round % 10 == 0 {
            // Long enough for the thread to fall asleep.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        host.post(&b, 2, 1);
        host.send(&a, 1, &frame(to, from, 60, round));
        let arrived = loop {
            if let Some(arrived) = received(&b).pop() {
                break arrived;
            }
            std::thread::yield_now();
        };
        assert_eq!(arrived.0[14], round);
        while a.completed().is_none() {
            std::thread::yield_now();
        }
    }
    drop(thread);
}
