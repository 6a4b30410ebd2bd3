//! Acts against event channels.

use xenvelope_frontend::Link;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{
    Access, EventError, Events as _, Host as _, Instant, PortId, Share as _, Shared as _,
};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, Machine, Port};
use xenvelope_tests::lab::{GuestPlan, Lab, mac, make_vif};

use crate::neighbours::go_on;

/// Ports of a domain, without port 0, which is none.
const PORTS: usize = 4095;

fn pending(domain: &Domain) -> Vec<u32> {
    let mut ports = [PortId(0); 8];
    let count = domain.wait(&mut ports, Instant(0));
    ports[..count].iter().map(|port| port.0).collect()
}

/// All ports that a domain has left.
fn all_ports(of: &Domain) -> Vec<Port> {
    let mut ports = Vec::new();
    while let Ok(port) = of.listen(DomId::DOM0) {
        ports.push(port);
        assert!(ports.len() <= PORTS, "ports without end");
    }
    ports
}

/// What the driver domain says to a guest that names this port.
fn connects_with(lab: &mut Lab, number: usize, port: u32) -> XenbusState {
    let domain = lab.machine.create_domain("hostile", 256);
    let guest = domain.domid();
    make_vif(&lab.dom0, guest, mac(number));
    let front = Directory::new(&format!("/local/domain/{guest}/device/vif/0")).expect("path");
    let back = Directory::new(&format!("/local/domain/0/backend/vif/{guest}/0")).expect("path");
    lab.run_until("the backend's InitWait", |_| back.state(&domain) == XenbusState::InitWait);
    let export = || domain.export(DomId::DOM0, 1, Access::Write).expect("memory");
    let (tx, rx, reader) = (export(), export(), Some(DomId::DOM0));
    let mut keys = Transaction::new();
    keys.write(&front, key::TX_RING_REF, tx.refs()[0].0, reader)
        .write(&front, key::RX_RING_REF, rx.refs()[0].0, reader)
        .write(&front, key::EVENT_CHANNEL, port, reader)
        .write(&front, key::REQUEST_RX_COPY, 1, reader)
        .state(&front, XenbusState::Connected, reader)
        .commit(&domain)
        .expect("its own directory");
    lab.steps(20);
    back.state(&domain)
}

/// Hangs on `PortTable::get`.
#[test]
fn xsa_221_a_guest_that_names_a_port_that_is_none_is_not_connected() {
    let (mut lab, hostile) = Lab::switched();
    // None at all, one that nobody opened, beyond all, and a port's number of another guest.
    let others = hostile.domain.id(&hostile.port).0;
    for (number, port) in (10..).zip([0, 77, 4096, u32::MAX, others + 1]) {
        let state = connects_with(&mut lab, number, port);
        assert_ne!(state, XenbusState::Connected, "port {port}");
        go_on(&mut lab);
    }
    assert!(!hostile.is_closed(), "whose number was named has nothing to do with it");
}

/// Hangs on `Events::connect` comparing for whom a port was opened.
#[test]
fn xsa_221_a_port_that_was_opened_for_another_is_not_to_be_had() {
    let machine = Machine::new(Costs::ideal());
    let [one, other, thief] = ["one", "other", "thief"].map(|name| machine.create_domain(name, 64));
    let port = one.listen(other.domid()).expect("a port");
    let number = one.id(&port).0;
    assert_eq!(thief.connect(one.domid(), number).err(), Some(EventError::NotOpen));
    let theirs = other.connect(one.domid(), number).expect("it was opened for it");
    assert_eq!(other.connect(one.domid(), number).err(), Some(EventError::NotOpen), "twice");
    pending(&one);
    other.notify(&theirs);
    one.unmask(&port);
    assert_eq!(pending(&one), [number]);
}

/// Hangs on `PORTS` in `PortTable::allocate`.
#[test]
fn xsa_342_a_guest_that_opens_ports_without_end_has_an_end_and_is_alone_with_it() {
    let (mut lab, hostile) = Lab::switched();
    let ports = all_ports(&hostile.domain);
    assert_eq!(ports.len(), PORTS - 1, "it had one");
    go_on(&mut lab);
    drop(ports);
    hostile.domain.listen(DomId::DOM0).expect("they came back");
}

/// Hangs on the same, and on `Frontend::act` taking the error.
#[test]
fn xsa_496_who_has_no_port_left_is_not_connected_and_does_not_fall_over() {
    let (mut lab, _hostile) = Lab::switched();
    let late = lab.add_guest(&GuestPlan::default());
    let ports = all_ports(&lab.guests[late].domain);
    lab.steps(100);
    assert_ne!(lab.guests[late].frontend.link(), Link::Up);
    go_on(&mut lab);
    drop(ports);
    // The driver domain has none left now.
    let ports = all_ports(&lab.dom0);
    let state = connects_with(&mut lab, 20, 1);
    assert_ne!(state, XenbusState::Connected);
    go_on(&mut lab);
    drop(ports);
}

/// Hangs on `EventQueue::clear` when a port is closed.
#[test]
fn xsa_343_344_505_a_port_that_is_closed_under_an_event_has_none_in_its_next_use() {
    let machine = Machine::new(Costs::ideal());
    let [victim, hostile, other] =
        ["victim", "hostile", "other"].map(|name| machine.create_domain(name, 64));
    let port = victim.listen(hostile.domid()).expect("a port");
    let number = victim.id(&port).0;
    let theirs = hostile.connect(victim.domid(), number).expect("it is open");
    hostile.notify(&theirs);
    drop(port);
    let port = victim.listen(other.domid()).expect("a port");
    assert_eq!(victim.id(&port).0, number, "the number is used again");
    hostile.notify(&theirs);
    assert!(pending(&victim).is_empty(), "what came was for the port before");
    let ours = other.connect(victim.domid(), number).expect("it is open");
    other.notify(&ours);
    assert_eq!(pending(&victim), [number], "and its own come");
}

/// Hangs on `EventQueue::unmask` looking at what is pending.
#[test]
fn xsa_340_358_359_an_event_that_comes_while_its_port_is_masked_is_not_lost() {
    let machine = Machine::new(Costs::ideal());
    let [one, other] = ["one", "other"].map(|name| machine.create_domain(name, 64));
    let port = one.listen(other.domid()).expect("a port");
    let theirs = other.connect(one.domid(), one.id(&port).0).expect("it is open");
    for _ in 0..100 {
        other.notify(&theirs);
        assert_eq!(pending(&one).len(), 1);
        // Reported, so masked. The next one comes before we are ready.
        other.notify(&theirs);
        assert!(pending(&one).is_empty());
        one.unmask(&port);
        assert_eq!(pending(&one).len(), 1);
        one.unmask(&port);
    }
}
