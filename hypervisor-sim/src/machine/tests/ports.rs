//! Event channels between domains, and devices' interrupts.

use std::time::Duration;

use xenvelope_grant::seam::{EventError, Events, Host, Instant, PortId};

use super::*;

fn pending(domain: &Domain) -> Vec<u32> {
    let mut out = [PortId(0); 16];
    let found = domain.wait(&mut out, domain.now());
    out[..found].iter().map(|port| port.0).collect()
}

#[test]
fn an_event_reaches_the_other_end_once_and_costs_one_hypercall() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let here = one.listen(other.domid()).expect("a port");
    let there = other.connect(one.domid(), one.id(&here).0).expect("open for it");
    assert_eq!(pending(&other), [other.id(&there).0], "Xen's pretended event at the bind");
    let before = other.counters();
    other.notify(&there);
    other.notify(&there);
    let spent = other.counters() - before;
    assert_eq!((spent.events_sent, spent.hypercalls), (2, 2));
    assert_eq!(pending(&one), [one.id(&here).0]);
    other.notify(&there);
    assert_eq!(pending(&one), [] as [u32; 0], "masked");
    one.unmask(&here);
    assert_eq!(pending(&one), [one.id(&here).0]);
    assert_eq!(one.counters().events_received, 2);
}

#[test]
fn only_the_named_domain_connects_and_only_once() {
    let (machine, one, other) = two(GrantVersion::V2);
    let third = machine.create_domain("third", 16);
    let here = one.listen(other.domid()).expect("a port");
    let port = one.id(&here).0;
    let refused = |domain: &Domain, peer, port| domain.connect(peer, port).err();
    assert_eq!(refused(&third, one.domid(), port), Some(EventError::NotOpen));
    assert_eq!(refused(&other, one.domid(), port + 1), Some(EventError::NotOpen));
    assert_eq!(refused(&other, one.domid(), 0), Some(EventError::NotOpen));
    assert_eq!(refused(&other, one.domid(), u32::MAX), Some(EventError::NotOpen));
    assert_eq!(refused(&other, DomId(50), port), Some(EventError::NoDomain));
    let _there = other.connect(one.domid(), port).expect("open for it");
    assert_eq!(refused(&other, one.domid(), port), Some(EventError::NotOpen));
}

#[test]
fn a_closed_peer_hears_nothing_and_may_connect_again() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let here = one.listen(other.domid()).expect("a port");
    let there = other.connect(one.domid(), one.id(&here).0).expect("open for it");
    assert_eq!(here.peer(), Some(other.domid()));
    drop(there);
    one.notify(&here);
    assert_eq!(here.peer(), None);
    let again = other.connect(one.domid(), one.id(&here).0).expect("fell back to unbound");
    pending(&other);
    other.unmask(&again);
    one.notify(&here);
    assert_eq!(pending(&other), [other.id(&again).0]);
}

#[test]
fn a_domain_that_ends_closes_its_ports_and_says_so() {
    let (machine, one, other) = two(GrantVersion::V2);
    let here = one.listen(other.domid()).expect("a port");
    let there = other.connect(one.domid(), one.id(&here).0).expect("open for it");
    machine.destroy(other.domid());
    assert_eq!(pending(&one), [one.id(&here).0]);
    one.notify(&here);
    other.notify(&there);
    assert_eq!(here.peer(), None);
    assert_eq!(other.listen(one.domid()).err(), Some(EventError::NoDomain));
    let next = machine.create_domain_with_id("next", other.domid(), 16);
    assert_eq!(pending(&next), [] as [u32; 0]);
    drop(there);
}

#[test]
fn ports_run_out_at_xens_limit_and_numbers_are_used_again_without_old_events() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let mut ports: Vec<_> = std::iter::from_fn(|| one.listen(other.domid()).ok()).collect();
    assert_eq!(ports.len(), 4095);
    assert_eq!(one.listen(other.domid()).err(), Some(EventError::NoPort));
    let last = ports.pop().expect("a port");
    let number = one.id(&last);
    let there = other.connect(one.domid(), number.0).expect("open for it");
    other.notify(&there);
    drop(last);
    let again = one.listen(other.domid()).expect("a port is free");
    assert_eq!(one.id(&again), number);
    other.notify(&there);
    assert_eq!(pending(&one), [] as [u32; 0], "the old channel does not reach the new port");
}

#[test]
fn a_device_raises_its_port_from_any_thread_and_nobody_connects_to_it() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let port = Arc::new(one.device_port().expect("a port"));
    assert_eq!(other.connect(one.domid(), port.id().0).err(), Some(EventError::NotOpen));
    let device = Arc::clone(&port);
    let thread = std::thread::spawn(move || device.raise());
    let mut out = [PortId(0); 2];
    let found = one.wait(&mut out, one.now() + Duration::from_secs(60));
    assert_eq!((found, out[0]), (1, port.id()));
    thread.join().expect("no panic");
    port.raise();
    assert_eq!(pending(&one), [] as [u32; 0]);
    port.unmask();
    assert_eq!(pending(&one), [port.id().0]);
    assert_eq!(one.counters().events_sent, 0);
}

#[test]
fn waiting_ends_at_the_deadline() {
    let (_machine, one, _other) = two(GrantVersion::V2);
    pending(&one);
    let until = one.now() + Duration::from_millis(5);
    assert_eq!(one.wait(&mut [PortId(0); 1], until), 0);
    assert!(one.now() >= until && until < Instant::FAR_FUTURE);
}
