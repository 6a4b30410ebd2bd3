//! What netif carries: what the other side offers, and frames as Linux' netback delivers them.

use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_grant::netif::{RxFlags, RxResponse, TxFlags};
use xenvelope_grant::seam::{Buffer as _, Offload};
use xenvelope_grant::xenbus::key;
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::MacAddress;
use xenvelope_switch::ethernet::ether_type::{ARP, IPV4, IPV6};
use xenvelope_tests::lab::{FakeBackend, mac};

fn tcp_frame(ether_type: u16, destination: MacAddress, source: MacAddress, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
    bytes[..6].copy_from_slice(&destination.0);
    bytes[6..12].copy_from_slice(&source.0);
    bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
    (bytes[14], bytes[20], bytes[23]) =
        if ether_type == IPV6 { (0x60, 6, 0) } else { (0x45, 0, 6) };
    bytes
}

fn blank(ether_type: u16, gso_size: u16) -> Offload {
    let (gso_type, checksum_start) = if ether_type == IPV6 { (4, 54) } else { (1, 34) };
    Offload {
        needs_checksum: true,
        gso_type: if gso_size > 0 { gso_type } else { 0 },
        gso_size,
        checksum_start,
        checksum_offset: 16,
        ..Offload::default()
    }
}

fn send(fake: &mut FakeBackend, ether_type: u16, len: usize, offload: Offload) -> bool {
    let bytes = tcp_frame(ether_type, mac(1), mac(0), len);
    let frontend = &mut fake.guest.frontend;
    let mut buffer = frontend.buffer(len).expect("memory");
    buffer.stack_bytes_mut()[FRAME_AT..FRAME_AT + len].copy_from_slice(&bytes);
    frontend.send(buffer, FRAME_AT..FRAME_AT + len, offload);
    let before = frontend.counters().sent_by.netif_frames;
    fake.step();
    fake.guest.counters().sent_by.netif_frames > before
}

/// Hangs on `NetifOffloads::can_take`.
#[test]
fn what_the_driver_domain_does_not_offer_is_dropped_and_counted() {
    let all = [
        key::FEATURE_SG,
        key::FEATURE_GSO_TCPV4,
        key::FEATURE_GSO_TCPV6,
        key::FEATURE_IPV6_CSUM_OFFLOAD,
    ];
    // Frames, and the features that each of them needs.
    let (v4, v6) = (IPV4, IPV6);
    let frames: [(u16, usize, Offload, &[usize]); 7] = [
        (v4, 1514, Offload::default(), &[]),
        (v4, 1514, blank(v4, 0), &[]),
        (v4, 9014, Offload::default(), &[0]),
        (v4, 9014, blank(v4, 1448), &[0, 1]),
        (v6, 9014, blank(v6, 1428), &[0, 2, 3]),
        (v6, 1514, blank(v6, 0), &[3]),
        (v6, 1514, Offload::default(), &[]),
    ];
    for offered in 0..16 {
        let has = |feature: usize| offered >> feature & 1 == 1;
        let features: Vec<&str> = (0..4).filter(|feature| has(*feature)).map(|f| all[f]).collect();
        let mut fake = FakeBackend::offering(Config::default(), GrantVersion::V2, &features);
        let offloads = fake.guest.frontend.netif_offloads().expect("a connection");
        assert_eq!(
            [
                offloads.scatter_gather,
                offloads.gso_tcpv4,
                offloads.gso_tcpv6,
                offloads.checksum_ipv6
            ],
            [has(0), has(1), has(2), has(3)]
        );
        let mut dropped = 0;
        for (ether_type, len, offload, needs) in frames {
            let taken = send(&mut fake, ether_type, len, offload);
            assert_eq!(taken, needs.iter().all(|need| has(*need)), "{len}, {needs:?} {features:?}");
            dropped += u64::from(!taken);
        }
        assert_eq!(fake.guest.counters().dropped_for(DropReason::CannotTake), dropped);
        assert_eq!(fake.guest.counters().dropped(), dropped);
    }
}

/// Linux' netback drops a frame of more than 18 fragments, and closes us for 20.
#[test]
fn the_longest_frame_takes_fewer_slots_than_every_backend_must_take() {
    let mut fake = FakeBackend::offering(
        Config::default(),
        GrantVersion::V2,
        &["feature-sg", "feature-gso-tcpv4"],
    );
    assert!(send(&mut fake, IPV4, 65535, blank(IPV4, 1448)));
    let slots = fake.tx.pending().expect("a ring");
    let first = fake.tx.pop();
    let flags = TxFlags::from_bits_retain(first.flags);
    assert!(flags.contains(TxFlags::EXTRA_INFO | TxFlags::MORE_DATA | TxFlags::CSUM_BLANK));
    assert_eq!(first.size, 65535, "the first says the whole size");
    assert!(slots <= 18, "{slots} slots");
    // One byte more cannot be said.
    assert!(!send(&mut fake, IPV4, 65536, blank(IPV4, 1448)));
    assert_eq!(fake.guest.counters().dropped_for(DropReason::CannotTake), 1);
}

/// An extra info, in the place of a response: any bytes.
fn extra(fake: &mut FakeBackend, kind: u8, more: bool, size: u16, gso_type: u16) {
    let _ = fake.rx.pop();
    let id = u16::from(kind) | u16::from(more) << 8;
    let response = RxResponse { id, offset: size, flags: gso_type, status: -1 };
    let _ = fake.rx.push(&response);
}

fn received(fake: &mut FakeBackend) -> Vec<(Vec<u8>, Offload)> {
    let _ = fake.rx.publish();
    let now = fake.now;
    let frontend = &mut fake.guest.frontend;
    frontend.poll(now);
    let mut frames = Vec::new();
    while let Some(frame) = frontend.receive(|bytes, offload| (bytes.to_vec(), offload)) {
        frames.push(frame);
    }
    frontend.flush(now);
    frames
}

/// Hangs on `Receiver::receive`: extra infos after the first fragment, whatever they hold.
#[test]
fn frames_that_are_to_be_cut_arrive_with_their_state() {
    for (ether_type, netif_kind) in [(IPV4, 1), (IPV6, 2)] {
        for hash in [false, true] {
            let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
            // Through all of the ring, and over its end.
            for round in 0..60 {
                let bytes = tcp_frame(ether_type, mac(0), mac(1), 12_000 + round);
                let flags = RxFlags::CSUM_BLANK | RxFlags::DATA_VALIDATED;
                let first = flags | RxFlags::MORE_DATA | RxFlags::EXTRA_INFO;
                fake.answer(0, &bytes[..4096], first.bits());
                extra(&mut fake, 1, hash, 1428, netif_kind);
                if hash {
                    extra(&mut fake, 4, false, 0xffff, 0xffff);
                }
                fake.answer(0, &bytes[4096..8192], RxFlags::MORE_DATA.bits());
                fake.answer(0, &bytes[8192..], 0);
                let frames = received(&mut fake);
                let expected = Offload { checksum_valid: true, ..blank(ether_type, 1428) };
                assert_eq!(frames.len(), 1, "round {round}");
                assert!(frames[0].0 == bytes);
                assert_eq!(frames[0].1, expected);
            }
            assert_eq!(fake.guest.counters().dropped(), 0);
        }
    }
}

/// Hangs on `Receiver::place`.
#[test]
fn fragments_that_fill_no_page_and_begin_anywhere_arrive_in_one_piece() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let bytes = tcp_frame(IPV4, mac(0), mac(1), 5000);
    let more = RxFlags::MORE_DATA.bits();
    fake.answer(100, &bytes[..66], more);
    fake.answer(4095, &bytes[66..67], more);
    fake.answer(0, &bytes[67..4000], more);
    fake.answer(96, &bytes[4000..], 0);
    fake.answer(2, &bytes[..60], RxFlags::CSUM_BLANK.bits());
    let frames = received(&mut fake);
    assert!(frames[0].0 == bytes);
    assert_eq!(frames[0].1, Offload::default());
    assert!(frames[1].0 == bytes[..60]);
    assert_eq!((frames[1].1.checksum_start, frames[1].1.checksum_offset), (34, 16));
    assert_eq!(fake.guest.counters().received_by.netif_frames, 2);
}

/// Hangs on `place_checksum`: a card or a kernel would refuse it.
#[test]
fn a_blank_checksum_in_what_has_none_is_not_passed_on() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let bytes = tcp_frame(ARP, mac(0), mac(1), 60);
    fake.answer(0, &bytes, RxFlags::CSUM_BLANK.bits());
    let frames = received(&mut fake);
    assert!(frames[0].0 == bytes);
    assert_eq!(frames[0].1, Offload { checksum_valid: true, ..Offload::default() });
}
