//! Cards of all types: who may use which port, and where frames go.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Instant, NicPort};

use super::hardware::{Host, frame, received};
use crate::nic::{
    CardError, CardPort, ConfigError, Functions, Nic, NicConfig, NicKind, Translation,
};

const T0: Instant = Instant(0);
const STRANGER: [u8; 6] = [2, 9, 9, 9, 9, 9];
const ALL: [u8; 6] = [0xFF; 6];

fn host(kind: NicKind, change: impl FnOnce(&mut NicConfig)) -> Host {
    let mut config = NicConfig { kind, latency_ns: 0, iommu_miss_ns: 0, ..NicConfig::default() };
    if kind == NicKind::Plain {
        config.vfs = 0;
    }
    change(&mut config);
    Host::new(config)
}

#[test]
fn a_plain_card_gives_everything_to_the_driver_domain() {
    let with_vfs = NicConfig { kind: NicKind::Plain, vfs: 2, ..NicConfig::default() };
    assert_eq!(Nic::new(with_vfs).err(), Some(ConfigError::PlainWithVfs(2)));
    let host = host(NicKind::Plain, |_| {});
    let (pf, wire) = (host.pf(), host.nic.wire().unwrap());
    host.post(&pf, 0, 4);
    assert_eq!(host.refused(0, 1), Some(CardError::NoSuchVf(0)));
    for to in [STRANGER, ALL] {
        wire.send(&frame(to, STRANGER, 60, 1)).unwrap();
        host.send(&pf, 0, &frame(to, STRANGER, 60, 2));
    }
    host.settle(T0);
    assert_eq!(received(&pf).len(), 2);
    assert_eq!(wire.receive(), Some(frame(STRANGER, STRANGER, 60, 2)));
    assert_eq!(wire.receive(), Some(frame(ALL, STRANGER, 60, 2)));
}

/// Type 2: what a VF sends to another goes out and does not come back; from outside each is
/// reached. The same frames on a card with a switch arrive.
#[test]
fn without_a_switch_no_frame_goes_from_one_vf_to_another() {
    for kind in [NicKind::DirectIo, NicKind::Switching] {
        let host = host(kind, |_| {});
        let (pf, a, b) = (host.pf(), host.vf(0), host.vf(1));
        let wire = host.nic.wire().unwrap();
        host.post(&pf, 0, 8);
        host.post(&a, 1, 8);
        host.post(&b, 2, 8);
        let (mac_a, mac_b) = (a.capabilities().mac, b.capabilities().mac);
        host.send(&a, 1, &frame(mac_b, mac_a, 60, 1));
        host.send(&a, 1, &frame(ALL, mac_a, 60, 2));
        host.send(&pf, 0, &frame(mac_b, STRANGER, 60, 3));
        host.settle(T0);
        let out = std::iter::from_fn(|| wire.receive()).count();
        let (at_b, at_pf) = (received(&b).len(), received(&pf).len());
        match kind {
            NicKind::Switching => assert_eq!((out, at_b, at_pf), (1, 3, 1)),
            _ => assert_eq!((out, at_b, at_pf), (3, 0, 0)),
        }
        wire.send(&frame(mac_b, STRANGER, 60, 4)).unwrap();
        wire.send(&frame(STRANGER, STRANGER, 60, 5)).unwrap();
        host.settle(T0);
        let at_b: Vec<_> = received(&b).into_iter().map(|(bytes, _)| bytes).collect();
        assert_eq!(at_b, [frame(mac_b, STRANGER, 60, 4)]);
        assert_eq!(received(&pf).len(), 1, "what nobody has is the PF's");
        assert_eq!(received(&a).len(), 0);
        assert_eq!(host.nic.ledger().frames_missing(), 0);
    }
}

/// Floods that reach the guests by the driver domain too must not reach them by their VFs.
#[test]
fn floods_reach_the_ports_that_take_them() {
    let host = host(NicKind::DirectIo, |_| {});
    let (pf, a, b) = (host.pf(), host.vf(0), host.vf(1));
    let wire = host.nic.wire().unwrap();
    for (port, domain) in [(&pf, 0), (&a, 1), (&b, 2)] {
        host.post(port, domain, 2);
    }
    host.nic.pf_control().set_vf_floods(1, false).unwrap();
    wire.send(&frame(ALL, STRANGER, 60, 1)).unwrap();
    host.settle(T0);
    assert_eq!([&pf, &a, &b].map(|port| received(port).len()), [1, 1, 0]);
}

/// Nothing translates: a guest's port would reach all memory. The driver domain's do.
#[test]
fn a_card_whose_addresses_nobody_translates_is_not_for_guests() {
    for kind in [NicKind::DirectIo, NicKind::Switching] {
        let host = host(kind, |config| config.translation = Translation::None);
        assert_eq!(host.refused(0, 1), Some(CardError::NoTranslation), "before there is a PF");
        let _pf = host.pf();
        assert_eq!(host.refused(0, 1), Some(CardError::NoTranslation));
        assert_eq!(host.refused(0, 0), None, "the driver domain");
    }
}

#[test]
fn the_queues_of_a_multi_queue_card_are_the_driver_domains() {
    let host = host(NicKind::MultiQueue, |_| {});
    let _pf = host.pf();
    assert_eq!(host.refused(0, 1), Some(CardError::NotForGuests));
    assert_eq!(host.refused(0, 0), None);
}

/// A context is for the domain that it was lent to; a function for whom the toolstack says.
#[test]
fn a_context_is_used_by_whom_it_was_lent_to() {
    let functions = host(NicKind::Switching, |_| {});
    let lend = |host: &Host, to| host.nic.pf_control().lend_context(0, to);
    assert_eq!(lend(&functions, Some(DomId(1))), Err(CardError::NoContexts));
    assert_eq!(functions.refused(0, 1), None);

    let contexts = host(NicKind::Switching, |config| config.functions = Functions::Contexts);
    assert_eq!(contexts.refused(0, 1), Some(CardError::NotLent));
    lend(&contexts, Some(DomId(2))).unwrap();
    assert_eq!(contexts.nic.allocate_vf(), Ok(1), "the first is lent");
    assert_eq!(contexts.refused(0, 1), Some(CardError::NotLent));
    assert_eq!(contexts.refused(0, 2), None);
    lend(&contexts, None).unwrap();
    assert_eq!(contexts.refused(0, 2), Some(CardError::NotLent));
}

/// An IOMMU is asked over the bus for what the IOTLB does not know; a table in the card is not.
#[test]
fn only_an_iommu_is_asked_over_the_bus() {
    for translation in [Translation::Iommu, Translation::Nic] {
        let host = host(NicKind::Switching, |config| config.translation = translation);
        let (a, b) = (host.vf(0), host.vf(1));
        host.post(&b, 2, 1);
        host.send(&a, 1, &frame(b.capabilities().mac, a.capabilities().mac, 60, 1));
        host.settle(T0);
        assert_eq!(received(&b).len(), 1);
        let misses = host.nic.total_counters().iotlb_misses;
        assert_eq!(misses > 0, translation == Translation::Iommu, "{misses} misses");
    }
}

/// Either refuses what is not the domain's: the frame is lost, counted, and nobody else's.
#[test]
fn whoever_translates_faults_are_counted() {
    for translation in [Translation::Iommu, Translation::Nic] {
        let host = host(NicKind::Switching, |config| config.translation = translation);
        let (a, b, c) = (host.vf(0), host.vf(1), host.vf(2));
        assert!(b.post(host.at(2, 1 << 40, 4096), 0).is_ok());
        host.post(&c, 3, 1);
        for to in [&b, &c] {
            host.send(&a, 1, &frame(to.capabilities().mac, a.capabilities().mac, 60, 1));
        }
        host.settle(T0);
        assert_eq!((received(&b).len(), received(&c).len()), (0, 1));
        assert_eq!(host.nic.counters(CardPort::Vf(1)).dma_fault, 1);
        assert_eq!(host.nic.counters(CardPort::Vf(2)).dma_fault, 0);
        assert_eq!(host.nic.ledger().frames_missing(), 0);
    }
}
