//! Peers that map what they were granted, and keep count better than we do.

use xenvelope_frontend::Config;
use xenvelope_grant::seam::{Access, Granter as _, Host as _, Share as _};
use xenvelope_grant::{GrantError, Gref, Words as _};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, GrantVersion, Machine, SharedPages};
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{FakeBackend, frame, mac};

use super::{copied, granted};

/// A guest with grants of version 1, which can be mapped, and one frame granted to a peer.
fn one_frame() -> (FakeBackend, Domain, Gref) {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V1);
    let peer = fake.other("hostile");
    for (number, peer) in [(1, &peer), (2, &fake.other("other"))] {
        let entry = Entry {
            mac: mac(number),
            vid: 0,
            peer: peer.peer(),
            channel: CHANNEL_DRIVER_DOMAIN,
            flags: EntryFlags::ENVELOPE,
        };
        fake.table.borrow_mut().insert(entry).expect("room");
    }
    fake.guest.send(&frame(mac(1), mac(0), &[0x5A; 1000]));
    fake.step();
    let gref = fake.grants(peer.domid())[0];
    (fake, peer, gref)
}

fn map(fake: &FakeBackend, by: &Domain, gref: Gref) -> SharedPages {
    by.import(fake.guest.domain.domid(), &[gref], Access::Read).expect("it is granted")
}

fn bytes(pages: &SharedPages) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    pages.copy_out(0, &mut bytes);
    bytes
}

/// The time for a done is over, and the guest has much else to send.
fn wait_in_vain(fake: &mut FakeBackend) {
    for _ in 0..100 {
        fake.table.borrow_mut().beat();
        fake.pass_ms(10);
        fake.guest.send(&frame(mac(2), mac(0), &[0xEE; 1400]));
        fake.step();
        fake.envelopes();
    }
}

/// Hangs on `GrantCheck::reduce`: the last user clears the bits.
#[test]
fn xsa_218_228_a_page_of_which_one_of_two_mappings_goes_is_still_in_use() {
    let (mut fake, peer, gref) = one_frame();
    let (one, other) = (map(&fake, &peer, gref), map(&fake, &peer, gref));
    let before = bytes(&one);
    drop(other);
    wait_in_vain(&mut fake);
    assert_eq!(fake.grants(peer.domid()), [gref], "it is kept back");
    assert_eq!(bytes(&one), before, "and not used for anybody else");
    drop(one);
    wait_in_vain(&mut fake);
    assert!(fake.grants(peer.domid()).is_empty());
}

/// As above.
#[test]
fn xsa_230_a_copy_that_ends_leaves_a_mapping_in_use() {
    let (mut fake, peer, gref) = one_frame();
    let mapped = map(&fake, &peer, gref);
    let before = bytes(&mapped);
    assert!(fake.steal(&peer, gref, 64, 100).is_some());
    wait_in_vain(&mut fake);
    assert_eq!(fake.grants(peer.domid()), [gref]);
    assert_eq!(bytes(&mapped), before);
    drop(mapped);
    wait_in_vain(&mut fake);
    assert!(fake.grants(peer.domid()).is_empty());
}

/// Hangs on `ForeignPages::unmap`, which takes what it unmaps out of its list.
#[test]
fn xsa_224_what_is_unmapped_twice_for_a_device_stays_mapped_for_the_processor() {
    let machine = Machine::new(Costs::ideal());
    let (driver, guest) = (machine.create_domain("driver", 64), machine.create_domain("guest", 64));
    let (out, segment) = granted(&guest, &driver, 5, Access::Write);
    let device = driver.foreign_pages(guest.domid()).expect("the guest");
    let mut addresses = Vec::new();
    device.map(&[segment.gref], |mapped| addresses.push(mapped.expect("granted")));
    let processor = driver.import(guest.domid(), &[segment.gref], Access::Write).expect("granted");
    device.unmap(&addresses);
    device.unmap(&addresses);
    let out = guest.recycle(out).expect_err("the processor has it mapped").0;
    drop(processor);
    guest.recycle(out).expect("nobody has");
}

/// Hangs on `MAX_MAPPED` in `Domain::import`, which looks at the number first.
#[test]
fn xsa_380_who_asks_for_more_mappings_than_anybody_may_have_gets_none() {
    let machine = Machine::new(Costs::ideal());
    let (owner, peer) = (machine.create_domain("owner", 64), machine.create_domain("hostile", 64));
    let (out, segment) = granted(&owner, &peer, 5, Access::Write);
    let refs = vec![segment.gref; 1024 * 256 + 1];
    let refused = peer.import(owner.domid(), &refs, Access::Read);
    assert_eq!(refused.err(), Some(GrantError::NoSpace));
    assert_eq!(peer.mapped_pages(), 0);
    owner.revoke(out).expect("nothing is left mapped");
}

/// Hangs on `MAX_PINS` in `GrantCheck::acquire`.
#[test]
fn xsa_380_who_maps_one_page_again_and_again_is_stopped() {
    let machine = Machine::new(Costs::ideal());
    let (owner, peer) = (machine.create_domain("owner", 64), machine.create_domain("hostile", 64));
    let (out, segment) = granted(&owner, &peer, 5, Access::Write);
    let again = || peer.import(owner.domid(), &[segment.gref], Access::Read);
    let maps: Vec<_> = (0..128).map(|_| again().expect("below the limit")).collect();
    assert_eq!(again().err(), Some(GrantError::General));
    assert_eq!(copied(&peer, owner.domid(), segment), Err(GrantError::General));
    drop(maps);
    owner.revoke(out).expect("nothing is left mapped");
}
