//! Rule 1: a page is granted only to the domain that the table maps the destination to now,
//! never writable, and it holds no byte that was not meant for that destination.

use std::rc::Rc;

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Config;
use xenvelope_frontend::transmit::PAYLOAD_AT;
use xenvelope_grant::entry::GrantFlags;
use xenvelope_grant::seam::{Access, Host as _, Share as _};
use xenvelope_grant::{DomId, Words as _};
use xenvelope_hypervisor_sim::machine::{Domain, GrantVersion};
use xenvelope_switch::envelope::TAG_LEN;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{FakeBackend, GuestPlan, Lab, envelopes, frame, mac, steal};

fn entry(number: usize, domain: &Domain) -> Entry {
    Entry {
        mac: mac(number),
        vid: 0,
        peer: domain.peer(),
        channel: CHANNEL_DRIVER_DOMAIN,
        flags: EntryFlags::ENVELOPE,
    }
}

/// Hangs on `Access::Read`, the peer and the range that `Frontend::envelope` grants, and on the
/// sub-page entry that the granter makes of it.
#[test]
fn a_frame_is_granted_read_only_to_its_destination_alone_and_no_byte_around_it() {
    let mut lab = Lab::with_guests(3, &GuestPlan::default());
    lab.all_routes(PairRoute::Switch);
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[0x5A; 1000]);
    lab.steps(3);
    let (sender, receiver) = (lab.domid(0), lab.domid(1));
    let grants = lab.grants(0, receiver);
    assert_eq!(grants.len(), 1);
    let (gref, flags) = grants[0];
    assert_eq!(flags, GrantFlags::PERMIT_ACCESS | GrantFlags::READONLY | GrantFlags::SUB_PAGE);
    assert!(lab.grants(0, lab.domid(2)).is_empty());
    let at = PAYLOAD_AT as u16;
    let thief = |guest: usize, at, len| steal(&lab.guests[guest].domain, sender, gref, at, len);
    assert_eq!(thief(1, at, 1000), Some(vec![0x5A; 1000]));
    assert!(thief(1, at - TAG_LEN as u16, TAG_LEN as u16).is_some(), "the envelope's tag");
    assert_eq!(thief(1, at - TAG_LEN as u16 - 1, 1), None, "the byte before that");
    assert_eq!(thief(1, at + 1000, 1), None, "the byte after it");
    assert_eq!(thief(2, at, 1000), None, "another guest");
    assert_eq!(steal(&lab.dom0, sender, gref, at, 1000), None, "the driver domain");
    let mapped = lab.guests[1].domain.import(sender, &[gref], Access::Read);
    assert!(mapped.is_err(), "a sub-page grant can only be copied");
}

/// Hangs on `Access::Read` in the netif transmitter.
#[test]
fn a_frame_to_the_driver_domain_is_granted_read_only() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V1);
    let before = fake.grants(DomId::DOM0);
    fake.guest.send(&frame(mac(1), mac(0), &[1; 500]));
    fake.step();
    let scan = fake.machine.scan_grants(fake.guest.domain.domid());
    let new = scan.iter().filter(|(gref, to, _)| *to == DomId::DOM0 && !before.contains(gref));
    let flags: Vec<u16> = new.map(|(.., flags)| *flags).collect();
    assert_eq!(flags, [(GrantFlags::PERMIT_ACCESS | GrantFlags::READONLY).bits()]);
}

/// Hangs on `Frontend::changed`, the second look after the grant.
#[test]
fn a_frame_whose_entry_goes_or_changes_owner_while_it_is_granted_is_not_left_granted() {
    for becomes_another in [false, true] {
        let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
        let (old, new) = (fake.other("old"), fake.other("new"));
        fake.table.borrow_mut().insert(entry(1, &old)).expect("room");
        let (table, successor) = (Rc::clone(&fake.table), entry(1, &new));
        fake.guest.hooks.after_grant(move || {
            if becomes_another {
                table.borrow_mut().insert(successor).expect("room");
            } else {
                table.borrow_mut().remove(mac(1), 0);
            }
        });
        fake.guest.send(&frame(mac(1), mac(0), &[1; 500]));
        fake.step();
        assert_eq!(fake.guest.counters().changed_underway, 1);
        assert!(fake.grants(old.domid()).is_empty() && fake.grants(new.domid()).is_empty());
        assert!(fake.envelopes().is_empty());
    }
}

/// Everything that a domain can see of the pages that the guest grants to it.
fn all_that_can_be_seen(fake: &FakeBackend, thief: &Domain) -> Vec<u8> {
    let mut seen = Vec::new();
    for gref in fake.grants(thief.domid()) {
        seen.extend((0..4096).filter_map(|at| fake.steal(thief, gref, at, 1)).flatten());
        let owner = fake.guest.domain.domid();
        if let Ok(mapped) = thief.import(owner, &[gref], Access::Read) {
            let mut page = vec![0; 4096];
            mapped.copy_out(0, &mut page);
            seen.extend(page);
        }
    }
    seen
}

/// Hangs, in version 2, on the sub-page entry, and in version 1 on the zeroing in
/// `Granter::grant`.
#[test]
fn a_peer_sees_nothing_of_a_longer_frame_that_the_page_held_for_another() {
    const SECRET: u8 = 0xA7;
    for version in [GrantVersion::V1, GrantVersion::V2] {
        let mut fake = FakeBackend::new(Config::default(), version);
        let (first, second) = (fake.other("first"), fake.other("second"));
        fake.table.borrow_mut().insert(entry(1, &first)).expect("room");
        fake.table.borrow_mut().insert(entry(2, &second)).expect("room");
        fake.guest.send(&frame(mac(1), mac(0), &[SECRET; 3000]));
        fake.step();
        assert!(all_that_can_be_seen(&fake, &first).contains(&SECRET), "{version:?}");
        for envelope in fake.envelopes() {
            fake.push_envelope(&envelopes::done_for(&envelope).expect("frames"));
        }
        fake.step();
        assert_eq!(fake.guest.frontend.outstanding(), 0);
        for _ in 0..4 {
            fake.guest.send(&frame(mac(2), mac(0), &[1; 300]));
        }
        fake.step();
        let mut seen = all_that_can_be_seen(&fake, &second);
        // Tags are meant for it, and random.
        for envelope in fake.envelopes() {
            let tag = envelopes::opened(&envelope).expect("frames").0.tag().to_bytes();
            while let Some(at) = seen.windows(TAG_LEN).position(|bytes| *bytes == tag) {
                seen.drain(at..at + TAG_LEN);
            }
        }
        assert!(seen.iter().filter(|byte| **byte == 1).count() >= 4 * 300, "{version:?}");
        assert!(!seen.contains(&SECRET), "{version:?}");
    }
}
