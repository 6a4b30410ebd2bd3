//! What takes how long.

use xenvelope_grant::seam::{Instant, NicPort};

use super::hardware::received;
use super::{Host, frame};
use crate::nic::{CardPort, NicConfig};

#[test]
fn nothing_arrives_before_bus_and_card_have_had_their_time() {
    // 8 Gbit/s: a byte takes a nanosecond.
    let config = NicConfig {
        bus_gbit: Some(8.0),
        latency_ns: 500,
        iommu_miss_ns: 0,
        ..NicConfig::default()
    };
    let host = Host::new(config);
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 1);
    host.send(&a, 1, &frame(b.capabilities().mac, a.capabilities().mac, 1000, 1));
    // In: descriptor and frame. Out: frame and write-back. The receive descriptor is fetched
    // while the frame is written.
    let due = Instant(10_000 + 16 + 1000 + 1000 + 16 + 500);
    assert_eq!(host.nic.run(Instant(10_000)), Some(due));
    assert_eq!(host.nic.run(Instant(due.0 - 1)), Some(due));
    assert_eq!(received(&b).len(), 0);
    assert!(a.completed().is_none(), "complete only when it is with the receiver");
    assert_eq!(host.nic.run(due), None);
    assert_eq!(received(&b).len(), 1);
    assert!(a.completed().is_some());
}

#[test]
fn the_bus_limits_the_rate() {
    let config = NicConfig {
        bus_gbit: Some(10.0),
        latency_ns: 1000,
        iommu_miss_ns: 0,
        ..NicConfig::default()
    };
    let host = Host::new(config);
    let (a, b, c, d) = (host.vf(0), host.vf(1), host.vf(2), host.vf(3));
    host.post(&b, 2, 256);
    host.post(&d, 4, 256);
    for i in 0..200 {
        host.send(&a, 1, &frame(b.capabilities().mac, a.capabilities().mac, 1234, i));
        host.send(&c, 3, &frame(d.capabilities().mac, c.capabilities().mac, 1234, i));
    }
    let mut now = Instant(5000);
    let mut half = None;
    while let Some(next) = host.nic.run(now) {
        now = next;
        let counted = |vf| host.nic.counters(CardPort::Vf(vf)).rx_frames;
        if half.is_none() && counted(1) >= 100 {
            half = Some((counted(1), counted(3)));
        }
    }
    // 400 frames of 1234 bytes and 16 for the descriptor, in each direction: 1 us each. The
    // directions overlap but for the first frame.
    let took = now.since(Instant(5000)).as_nanos() as u64;
    assert!((400_000..420_000).contains(&took), "{took}");
    assert_eq!((received(&b).len(), received(&d).len()), (200, 200));
    let (b, d) = half.unwrap();
    assert!(b.abs_diff(d) <= 1, "ports take turns: {b} and {d}");
}

#[test]
fn a_late_run_loses_no_bus_time() {
    let config =
        NicConfig { bus_gbit: Some(8.0), latency_ns: 0, iommu_miss_ns: 0, ..NicConfig::default() };
    let host = Host::new(config);
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 64);
    for i in 0..50 {
        host.send(&a, 1, &frame(b.capabilities().mac, a.capabilities().mac, 984, i));
    }
    host.nic.run(Instant(0));
    // 50 frames take 50 us and some; the card was not run all the time, but had work.
    host.nic.run(Instant(60_000));
    host.nic.run(Instant(60_000));
    assert_eq!(received(&b).len(), 50);
}

#[test]
fn a_translation_that_is_not_known_costs_time() {
    let config = NicConfig { latency_ns: 0, iommu_miss_ns: 100, ..NicConfig::default() };
    let host = Host::new(config);
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 2);
    let (to, from) = (b.capabilities().mac, a.capabilities().mac);
    host.send(&a, 1, &frame(to, from, 60, 1));
    let first = host.settle(Instant(0));
    let misses = |vf| host.nic.counters(CardPort::Vf(vf)).iotlb_misses;
    assert_eq!(misses(0), 2, "ring and frame");
    assert_eq!(misses(1), 2, "ring and buffer");
    assert!(first >= Instant(300), "{first:?}");
    host.send(&a, 1, &frame(to, from, 60, 1));
    host.settle(Instant(10_000));
    assert_eq!(misses(0), 3, "another frame in another page, the same ring");
    assert_eq!(misses(1), 3);
}

#[test]
fn a_card_without_work_sleeps() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    host.nic.run(Instant(0));
    assert!(!host.nic.rung());
    assert_eq!(host.nic.run(Instant(1)), None);
    host.send(&a, 1, &frame(b.capabilities().mac, a.capabilities().mac, 60, 1));
    assert!(host.nic.rung());
}
