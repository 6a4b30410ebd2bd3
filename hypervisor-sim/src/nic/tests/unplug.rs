//! A VF that is pulled.

use std::sync::atomic::Ordering;

use xenvelope_grant::seam::{Buffer, Instant, NicError, NicPort, Offload};

use super::hardware::{completed, received};
use super::{Host, frame};
use crate::nic::{CardPort, NicConfig};

#[test]
fn an_unplugged_vf_is_never_touched_again() {
    let host = Host::new(NicConfig { latency_ns: 1000, ..NicConfig::default() });
    let ((a, _), (b, line)) = (host.vf_and_line(0), host.vf_and_line(1));
    let (mac_a, mac_b) = (a.capabilities().mac, b.capabilities().mac);
    host.post(&a, 1, 4);
    host.post(&b, 2, 4);
    // One frame on its way to it, one in its ring.
    host.send(&a, 1, &frame(mac_b, mac_a, 60, 1));
    host.nic.run(Instant(0));
    host.send(&b, 2, &frame(mac_a, mac_b, 60, 2));
    // And one in its ring that the card was not told of.
    let mut untold = host.buffer(2, 4096);
    untold.put(0, &frame(mac_a, mac_b, 60, 3));
    b.send(untold, 0..60, Offload::default()).unwrap();
    let interrupts = line.0.load(Ordering::Relaxed);
    host.nic.unplug_vf(1).unwrap();
    assert!(!b.link());
    assert_eq!(line.0.load(Ordering::Relaxed), interrupts + 1, "the driver must hear of it");
    assert_eq!(b.in_flight(), 2, "now the driver has");
    let counted = host.nic.counters(CardPort::Vf(1));
    assert_eq!((counted.tx_frames, counted.link_down), (2, 2), "one was told of, one was not");
    let before = host.nic.counters(CardPort::Vf(1));
    let end = host.settle(Instant(100_000));
    let after = host.nic.counters(CardPort::Vf(1)) - before;
    assert_eq!(after.total(), 0, "no DMA");
    assert_eq!(after.link_down, 1);
    assert_eq!(received(&b).len(), 0);
    assert_eq!(received(&a).len(), 0);
    assert_eq!(completed(&a), 1, "the sender gets its buffer back");
    assert_eq!((b.in_flight(), completed(&b), b.in_flight()), (2, 2, 0));
    // Nothing goes in.
    assert_eq!(b.wanted().0, 0);
    assert!(b.post(host.buffer(2, 4096), 0).is_err());
    let refused = b.send(host.buffer(2, 4096), 0..60, Offload::default());
    assert_eq!(refused.err().map(|unsent| unsent.cause), Some(NicError::NoLink));
    b.kick();
    let accesses = host.memory.accesses.load(Ordering::Relaxed);
    host.settle(end);
    assert_eq!(host.memory.accesses.load(Ordering::Relaxed), accesses);
    // And then everything again.
    host.nic.plug_vf(1).unwrap();
    assert!(b.link());
    assert_eq!(b.wanted().0, 1024);
    host.post(&b, 2, 4);
    host.send(&b, 2, &frame(mac_a, mac_b, 60, 3));
    host.send(&a, 1, &frame(mac_b, mac_a, 60, 4));
    host.settle(end);
    assert_eq!(received(&a)[0].0[14], 3);
    assert_eq!(received(&b)[0].0[14], 4);
    assert_eq!((completed(&a), completed(&b)), (1, 1));
}

/// The driver may sleep through it: its old doorbells mean nothing to the new life.
#[test]
fn unplugged_and_plugged_unseen() {
    let host = Host::ideal();
    let (a, b) = (host.vf(0), host.vf(1));
    let (mac_a, mac_b) = (a.capabilities().mac, b.capabilities().mac);
    host.post(&b, 2, 4);
    for i in 0..3 {
        host.send(&a, 1, &frame(mac_b, mac_a, 60, i));
    }
    for vf in [0, 1] {
        host.nic.unplug_vf(vf).unwrap();
        host.nic.plug_vf(vf).unwrap();
    }
    let accesses = host.memory.accesses.load(Ordering::Relaxed);
    host.settle(Instant(0));
    assert_eq!(host.memory.accesses.load(Ordering::Relaxed), accesses);
    assert_eq!(completed(&a), 3);
    assert_eq!(b.wanted().0, 1024, "the posted ones were dropped");
    host.post(&b, 2, 1);
    host.send(&a, 1, &frame(mac_b, mac_a, 60, 7));
    host.settle(Instant(0));
    assert_eq!(received(&b)[0].0[14], 7);
    assert_eq!(completed(&a), 1);
}

#[test]
fn a_dropped_port_is_never_touched_again() {
    let host = Host::new(NicConfig { latency_ns: 1000, ..NicConfig::default() });
    let (a, b) = (host.vf(0), host.vf(1));
    let (mac_a, mac_b) = (a.capabilities().mac, b.capabilities().mac);
    host.post(&b, 2, 4);
    host.send(&a, 1, &frame(mac_b, mac_a, 60, 1));
    host.nic.run(Instant(0));
    drop(b);
    let before = host.nic.counters(CardPort::Vf(1));
    let end = host.settle(Instant(0));
    assert_eq!((host.nic.counters(CardPort::Vf(1)) - before).total(), 0);
    // The next domain that has it gets nothing of the one before.
    let b = host.vf(1);
    host.post(&b, 2, 4);
    host.settle(end);
    assert_eq!(received(&b).len(), 0);
    host.send(&a, 1, &frame(mac_b, mac_a, 60, 2));
    host.settle(end);
    assert_eq!(received(&b).len(), 1);
    assert_eq!(completed(&a), 2);
}
