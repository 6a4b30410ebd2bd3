//! What the card's switch enforces.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Instant, NicPort, Offload};

use super::hardware::{completed, received};
use super::{Host, Port, frame};
use crate::nic::{CardError, CardPort, Dma, Mac, Nic, NicConfig};

const T0: Instant = Instant(0);
const ALL: Mac = [0xFF; 6];
const STRANGER: Mac = [2, 9, 9, 9, 9, 9];

fn mac(port: &Port) -> Mac {
    port.capabilities().mac
}

#[test]
fn anti_spoof_on_and_off() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 2);
    let forged = frame(mac(&b), STRANGER, 60, 1);
    host.send(&a, 1, &forged);
    host.settle(T0);
    assert_eq!(received(&b).len(), 0);
    assert_eq!(completed(&a), 1);
    assert_eq!(host.nic.counters(CardPort::Vf(0)).spoofed, 1);
    host.nic.pf_control().set_anti_spoof(false);
    host.send(&a, 1, &forged);
    host.settle(T0);
    assert_eq!(received(&b).len(), 1);
}

#[test]
fn different_vlans_do_not_meet() {
    let host = Host::ideal();
    let control = host.nic.pf_control();
    let (pf, a, b, c) = (host.pf(), host.vf(0), host.vf(1), host.vf(2));
    control.set_vf_vlan(0, 5).unwrap();
    control.set_vf_vlan(1, 6).unwrap();
    control.set_vf_vlan(2, 5).unwrap();
    assert_eq!(control.set_vf_vlan(0, 4095), Err(CardError::BadVlan));
    for (port, domain) in [(&pf, 0), (&a, 1), (&b, 2), (&c, 3)] {
        host.post(port, domain, 8);
    }
    let wire = host.nic.wire().unwrap();
    host.send(&a, 1, &frame(mac(&b), mac(&a), 60, 1));
    host.send(&a, 1, &frame(mac(&c), mac(&a), 60, 2));
    host.send(&a, 1, &frame(ALL, mac(&a), 60, 3));
    host.settle(T0);
    assert_eq!(received(&b).len(), 0);
    let at_c = received(&c);
    assert_eq!(at_c.len(), 2);
    assert_eq!(at_c[0].0, frame(mac(&c), mac(&a), 60, 2), "no tag");
    // The wire and the PF are trunks.
    let tagged = |mut frame: Vec<u8>| {
        frame.splice(12..12, [0x81, 0, 0, 5]);
        frame
    };
    let broadcast = tagged(frame(ALL, mac(&a), 60, 3));
    assert_eq!(wire.receive(), Some(tagged(frame(mac(&b), mac(&a), 60, 1))));
    assert_eq!(wire.receive(), Some(broadcast.clone()));
    assert_eq!(received(&pf)[0].0, broadcast);
    // And so are they inwards.
    let answer = frame(mac(&a), STRANGER, 60, 4);
    wire.send(&tagged(answer.clone())).unwrap();
    wire.send(&answer).unwrap();
    host.send(&pf, 0, &tagged(answer.clone()));
    host.settle(T0);
    let at_a = received(&a);
    assert_eq!(at_a.len(), 2);
    assert!(at_a.iter().all(|(bytes, _)| *bytes == answer));
    assert_eq!(received(&pf).len(), 1, "untagged, it is for nobody: the promiscuous PF");
    // A VF makes no tags of its own.
    host.send(&c, 3, &tagged(frame(mac(&a), mac(&c), 60, 5)));
    host.settle(T0);
    assert_eq!(host.nic.counters(CardPort::Vf(2)).vlan, 1);
}

#[test]
fn an_address_belongs_to_one_port() {
    let host = Host::ideal();
    let control = host.nic.pf_control();
    let mut of_vf_1 = host.nic.config().pf_mac;
    of_vf_1[5] += 2;
    assert_eq!(control.set_vf_mac(0, of_vf_1), Err(CardError::MacInUse));
    assert_eq!(control.set_vf_mac(1, of_vf_1), Ok(()), "its own");
    assert_eq!(control.set_vf_mac(8, STRANGER), Err(CardError::NoSuchVf(8)));
    assert_eq!(control.set_vf_mac(0, ALL), Err(CardError::BadMac));
    assert_eq!(control.add_pf_filter(of_vf_1, 0), Err(CardError::MacInUse));
    control.add_pf_filter(STRANGER, 7).unwrap();
    assert_eq!(control.set_vf_mac(0, STRANGER), Err(CardError::MacInUse));
    control.remove_pf_filter(STRANGER, 7);
    control.set_vf_mac(0, STRANGER).unwrap();
    // While the VF is unplugged its guest may be behind the PF.
    host.nic.unplug_vf(0).unwrap();
    control.add_pf_filter(STRANGER, 0).unwrap();
    assert_eq!(host.nic.plug_vf(0), Err(CardError::MacInUse));
    control.remove_pf_filter(STRANGER, 0);
    assert_eq!(host.nic.plug_vf(0), Ok(()));
}

#[test]
fn a_broadcast_reaches_everybody_but_its_sender() {
    let host = Host::ideal();
    let (pf, a, b, c) = (host.pf(), host.vf(0), host.vf(1), host.vf(2));
    for (port, domain) in [(&pf, 0), (&a, 1), (&b, 2), (&c, 3)] {
        host.post(port, domain, 8);
    }
    let wire = host.nic.wire().unwrap();
    let sent = frame(ALL, mac(&a), 60, 1);
    host.send(&a, 1, &sent);
    host.settle(T0);
    assert_eq!(received(&a).len(), 0);
    for port in [&pf, &b, &c] {
        assert_eq!(received(port).len(), 1);
    }
    assert_eq!(wire.receive(), Some(sent));
    assert_eq!(completed(&a), 1);
    host.send(&pf, 0, &frame(ALL, STRANGER, 60, 1));
    host.settle(T0);
    assert_eq!(received(&pf).len(), 0);
    assert_eq!(received(&a).len(), 1);
    wire.receive().unwrap();
    wire.send(&frame(ALL, STRANGER, 60, 2)).unwrap();
    host.settle(T0);
    for port in [&pf, &a] {
        assert_eq!(received(port).len(), 1);
    }
    assert_eq!(wire.receive(), None);
}

#[test]
fn what_nobody_owns_is_beyond_the_wire() {
    let host = Host::ideal();
    let (pf, a) = (host.pf(), host.vf(0));
    host.post(&pf, 0, 4);
    let sent = frame(STRANGER, mac(&a), 60, 1);
    host.send(&a, 1, &sent);
    host.settle(T0);
    assert_eq!(host.nic.counters(CardPort::Vf(0)).no_destination, 1, "no wire");
    let wire = host.nic.wire().unwrap();
    assert_eq!(host.nic.wire().err(), Some(CardError::WireInUse));
    host.send(&a, 1, &sent);
    host.settle(T0);
    assert_eq!(wire.receive(), Some(sent.clone()));
    assert_eq!(received(&pf).len(), 0);
    host.nic.pf_control().add_pf_filter(STRANGER, 0).unwrap();
    host.send(&a, 1, &sent);
    host.settle(T0);
    assert_eq!(wire.receive(), None);
    assert_eq!(received(&pf).len(), 1);
    host.nic.pf_control().set_pf_promiscuous(false);
    wire.send(&frame([2, 8, 8, 8, 8, 8], STRANGER, 60, 1)).unwrap();
    host.settle(T0);
    assert_eq!(received(&pf).len(), 0);
    assert_eq!(host.nic.counters(CardPort::Wire).no_destination, 1);
}

#[test]
fn ports_run_out() {
    let host = Host::new(NicConfig { vfs: 2, ..NicConfig::default() });
    assert_eq!(host.nic.allocate_vf(), Ok(0));
    let a = host.vf(0);
    assert_eq!(host.nic.allocate_vf(), Ok(1));
    let _b = host.vf(1);
    assert_eq!(host.nic.allocate_vf(), Err(CardError::NoVfLeft));
    drop(a);
    assert_eq!(host.nic.allocate_vf(), Ok(0));
}

#[test]
fn a_domain_without_memory_faults_alone() {
    let host = Host::ideal();
    let (a, b, c) = (host.vf(0), host.vf(1), host.vf(2));
    host.post(&b, 2, 4);
    host.post(&c, 3, 4);
    host.send(&a, 1, &frame(mac(&b), mac(&a), 60, 1));
    host.settle(T0);
    host.memory.end(DomId(2));
    host.send(&a, 1, &frame(mac(&b), mac(&a), 60, 2));
    host.send(&a, 1, &frame(mac(&c), mac(&a), 60, 3));
    host.settle(T0);
    assert_eq!(received(&c).len(), 1);
    assert_eq!(completed(&a), 3);
    assert_eq!(host.nic.counters(CardPort::Vf(1)).dma_fault, 1);
    // A sender without memory loses its link: the card cannot read its ring.
    host.send(&c, 3, &frame(mac(&a), mac(&c), 60, 3));
    host.memory.end(DomId(3));
    host.settle(T0);
    assert!(!c.link());
    assert_eq!(host.nic.counters(CardPort::Vf(2)).dma_fault, 1);
}

#[test]
fn impossible_cards_are_refused() {
    let with = |config| Nic::new(config).err();
    let plain = NicConfig::default;
    assert_eq!(with(plain()), None);
    for gbit in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(with(NicConfig { bus_gbit: Some(gbit), ..plain() }).is_some());
    }
    assert!(with(NicConfig { vfs: 61, ..plain() }).is_some());
    assert!(with(NicConfig { tx_ring: 100, ..plain() }).is_some());
    assert!(with(NicConfig { max_frame: 70000, ..plain() }).is_some());
    assert!(with(NicConfig { iotlb_entries: 0, ..plain() }).is_some());
}

/// Whatever lies in a port's rings, its own frames are all that suffers.
#[test]
fn nonsense_in_the_rings_hurts_nobody_else() {
    let host = Host::ideal();
    // The first allocation: the rings of VF 0 lie at address 0.
    let (a, b, c) = (host.vf(0), host.vf(1), host.vf(2));
    let (mac_a, mac_b, mac_c) = (mac(&a), mac(&b), mac(&c));
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..1000 {
        host.nic.plug_vf(0).unwrap();
        let burst = random() % 8 + 1;
        for _ in 0..burst {
            let buffer = host.at(1, 256 << 10, 4096);
            a.send(buffer, 0..60, Offload::default()).unwrap();
            let buffer = host.at(1, 260 << 10, 4096);
            drop(a.post(buffer, 0));
        }
        for at in (0..host.nic.config().ring_bytes() as u64).step_by(8) {
            // Small numbers make descriptors that are nearly right.
            let word = random() >> (random() % 64);
            host.memory.write(DomId(1), at, &word.to_le_bytes()).unwrap();
        }
        a.kick();
        drop(b.post(host.at(2, 264 << 10, 4096), 0));
        let sent = frame(mac_b, mac_c, 60, random() as u8);
        c.send(host.holding(3, 268 << 10, &sent), 0..60, Offload::default()).unwrap();
        c.send(host.holding(3, 272 << 10, &frame(mac_a, mac_c, 60, 0)), 0..60, Offload::default())
            .unwrap();
        c.kick();
        host.settle(T0);
        assert!(received(&b).iter().any(|(bytes, _)| *bytes == sent));
        assert_eq!(completed(&c), 2);
        while a.receive().is_some() {}
        completed(&a);
    }
    let sum = host.nic.ledger();
    assert_eq!((sum.frames_missing(), sum.envelopes_missing()), (0, 0));
    let counted = host.nic.counters(CardPort::Vf(0));
    assert!(counted.malformed > 0 && counted.spoofed + counted.too_long + counted.dma_fault > 0);
}
