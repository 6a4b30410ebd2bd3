//! Lives of domains, and their devices.

use xenvelope_grant::GrantError;
use xenvelope_grant::seam::{Access, CallFailed, Host, Hypervisor};

use super::super::{CreateError, DmaFault};
use super::*;

#[test]
fn a_domain_is_a_whole_hypervisor_to_its_drivers_on_any_thread() {
    fn hypervisor<H: Hypervisor + Clone + Send + Sync>() {}
    fn shared<T: Send + Sync>() {}
    hypervisor::<Domain>();
    shared::<(FrameBuffer, super::super::SharedPages, super::super::Port)>();
    shared::<(super::super::GrantedBuffer, super::super::PageArea, super::super::DevicePort)>();
}

#[test]
fn ids_count_from_zero_and_the_lowest_free_one_is_used_again_in_another_life() {
    let machine = Machine::new(Costs::ideal());
    let [zero, one, two] = ["a", "b", "c"].map(|name| machine.create_domain(name, 1));
    assert_eq!([&zero, &one, &two].map(|domain| domain.domid().0), [0, 1, 2]);
    assert!(machine.destroy(one.domid()));
    assert!(!machine.destroy(one.domid()));
    let next = machine.create_domain("d", 1);
    assert_eq!(next.domid(), one.domid());
    assert_ne!(next.peer(), one.peer());
    assert!(next.incarnation() > two.incarnation());
    assert!(next.is_alive() && !one.is_alive());
}

#[test]
fn impossible_domains_are_refused() {
    let machine = Machine::new(Costs::ideal());
    let options = DomainOptions::new("one", 1);
    let with_id = |id| DomainOptions { domid: Some(DomId(id)), ..options.clone() };
    machine.create(&with_id(3)).expect("free");
    assert_eq!(machine.create(&with_id(3)).err(), Some(CreateError::InUse(DomId(3))));
    let reserved = with_id(DomId::FIRST_RESERVED);
    assert_eq!(machine.create(&reserved).err(), Some(CreateError::BadId));
    let no_table = DomainOptions { grant_frames: 0, ..options.clone() };
    assert_eq!(machine.create(&no_table).err(), Some(CreateError::BadSize));
    let empty = DomainOptions { pages: 0, ..options };
    assert!(machine.create(&empty).is_err());
}

#[test]
fn a_dead_domains_grants_are_refused_and_it_can_do_nothing_itself() {
    let (machine, one, other) = two(GrantVersion::V2);
    let granted = one.grant(filled(&one, 1, 0), other.peer(), 0..1, Access::Read);
    let out = granted.expect("references");
    let segment = one.segments(&out)[0];
    machine.destroy(one.domid());
    let late = fetch(&other, one.domid(), segment);
    assert_eq!(late, Err(GrantError::BadDomain.status()));
    let call = one.copy(&mut [], &mut []);
    assert_eq!(call, Err(CallFailed));
    // Its successor has a table of its own.
    let next = machine.create_domain_with_id("next", one.domid(), 16);
    assert_eq!(fetch(&other, next.domid(), segment), Err(GrantError::General.status()));
    one.revoke(out).expect("its memory is still its own");
}

#[test]
fn a_device_reaches_its_domains_memory_and_faults_everywhere_else() {
    let (machine, one, other) = two(GrantVersion::V2);
    let mut buffer = filled(&one, 3 * 4096, 0);
    let address = buffer.dma_address() + 4090;
    let bytes: Vec<u8> = (0..100).collect();
    machine.dma_write(one.domid(), address, &bytes).expect("inside");
    assert_eq!(&buffer.stack_bytes_mut()[4090..4190], bytes);
    let mut out = vec![0; 100];
    machine.dma_read(one.domid(), address, &mut out).expect("inside");
    assert_eq!(out, bytes);
    let end = 256 * 4096;
    assert_eq!(machine.dma_read(one.domid(), end - 1, &mut [0; 2]), Err(DmaFault::Outside));
    assert_eq!(machine.dma_write(one.domid(), u64::MAX, &[0]), Err(DmaFault::Outside));
    assert_eq!(machine.dma_read(DomId(9), 0, &mut [0; 1]), Err(DmaFault::Gone));
    let same = other.device_window();
    same.read(address, &mut out).expect("the same address, another domain's memory");
    assert!(out.iter().all(|byte| *byte == 0));
}

#[test]
fn a_device_of_a_dead_domain_reaches_nothing_of_its_successor() {
    let (machine, one, _other) = two(GrantVersion::V2);
    let window = one.device_window();
    machine.destroy(one.domid());
    let next = machine.create_domain_with_id("next", one.domid(), 16);
    assert_eq!(window.write(0, &[1]), Err(DmaFault::Gone));
    machine.dma_write(next.domid(), 0, &[2]).expect("its own device");
}

#[test]
fn memory_runs_out_with_an_error_and_comes_back() {
    let machine = Machine::new(Costs::ideal());
    let small = machine.create_domain("small", 20);
    let one = small.take(None, 18 * 4096).expect("18 pages");
    let rest = [small.take(None, 1).expect("one"), small.take(None, 1).expect("two")];
    assert!(small.take(None, 1).is_err());
    assert!(small.take(None, 21 * 4096).is_err());
    drop((one, rest));
    assert!(small.take(None, 17 * 4096).is_ok());
}

#[test]
fn random_numbers_do_not_repeat_and_time_goes_on() {
    let (_machine, one, _other) = two(GrantVersion::V2);
    let drawn: std::collections::HashSet<_> = (0..1000).map(|_| one.random()).collect();
    assert_eq!(drawn.len(), 1000);
    let start = one.now();
    while one.now() == start {}
    assert_eq!(one.epoch(), 1);
}
