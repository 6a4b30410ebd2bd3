//! The card in the simulated host.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Buffer, Events, Granter, Host, Instant, NicPort, Offload, PortId};

use super::frame;
use crate::machine::{Costs, Domain, Machine};
use crate::nic::{CardPort, DomainPort, Nic, NicConfig, NicThread};

fn post(domain: &Domain, port: &DomainPort, bytes: usize) {
    let buffer = domain.take(None, bytes).unwrap();
    assert!(port.post(buffer, 0).is_ok());
}

fn send(domain: &Domain, port: &DomainPort, frame: &[u8]) {
    let mut buffer = domain.take(None, frame.len()).unwrap();
    buffer.stack_bytes_mut()[..frame.len()].copy_from_slice(frame);
    assert!(port.send(buffer, 0..frame.len(), Offload::default()).is_ok());
    port.kick();
}

#[test]
fn guests_exchange_frames_and_sleep_in_between() {
    let machine = Machine::new(Costs::published());
    let (a, b) = (machine.create_domain("a", 1024), machine.create_domain("b", 1024));
    let config = NicConfig { max_frame: 65553, ..NicConfig::with_costs(&machine.costs()) };
    let nic = Nic::new(config).unwrap();
    let thread = NicThread::on(nic.clone(), &machine).unwrap();
    let port_a = nic.assign(CardPort::Vf(0), &a).unwrap();
    let port_b = nic.assign(CardPort::Vf(1), &b).unwrap();
    let (mac_a, mac_b) = (port_a.capabilities().mac, port_b.capabilities().mac);
    let wait = |domain: &Domain, port: &DomainPort| loop {
        port.unmask();
        if let Some(arrival) = port.receive() {
            break arrival;
        }
        let mut events = [PortId(0); 4];
        domain.wait(&mut events, Instant::FAR_FUTURE);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            post(&b, &port_b, 65536);
            for _ in 0..100 {
                let arrival = wait(&b, &port_b);
                let mut bytes = arrival.buffer.stack_bytes()[arrival.frame].to_vec();
                bytes[..6].copy_from_slice(&mac_a);
                bytes[6..12].copy_from_slice(&mac_b);
                post(&b, &port_b, 65536);
                send(&b, &port_b, &bytes);
                while port_b.completed().is_some() {}
            }
        });
        for round in 0..100u8 {
            post(&a, &port_a, 65536);
            let length = if round % 2 == 0 { 60 } else { 60000 };
            // The other side may not have posted its buffer yet.
            while nic.counters(CardPort::Vf(1)).doorbells == 0 {
                std::thread::yield_now();
            }
            let mut sent = frame(mac_b, mac_a, length, round);
            send(&a, &port_a, &sent);
            let arrival = wait(&a, &port_a);
            sent[..6].copy_from_slice(&mac_a);
            sent[6..12].copy_from_slice(&mac_b);
            assert_eq!(arrival.buffer.stack_bytes()[arrival.frame], sent);
            while port_a.completed().is_some() {}
        }
    });
    drop(thread);
    assert_eq!(nic.total_counters().dropped(), 0);
}

#[test]
fn a_port_that_outlives_its_domain_reaches_nothing_of_the_next() {
    let machine = Machine::new(Costs::ideal());
    let (a, b) = (machine.create_domain("a", 256), machine.create_domain("b", 256));
    let nic = Nic::new(NicConfig::with_costs(&machine.costs())).unwrap();
    let port_a = nic.assign(CardPort::Vf(0), &a).unwrap();
    let port_b = nic.assign(CardPort::Vf(1), &b).unwrap();
    post(&b, &port_b, 4096);
    let id: DomId = b.domid();
    machine.destroy(id);
    let next = machine.create_domain_with_id("next", id, 256);
    send(&a, &port_a, &frame(port_b.capabilities().mac, port_a.capabilities().mac, 60, 0xAA));
    while nic.run(Instant(0)).is_some() {}
    assert_eq!(nic.counters(CardPort::Vf(1)).dma_fault, 1);
    assert_eq!(nic.counters(CardPort::Vf(1)).total(), 0);
    assert!(machine.readable_bytes(next.domid()).iter().all(|&byte| byte == 0));
}
