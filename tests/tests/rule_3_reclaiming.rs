//! Rule 3: grants are always reclaimed, and a page goes elsewhere only after a successful
//! revoke; a peer that pins pages costs at most its quota, and nobody else anything. (The driver
//! domain as such a peer: `hostile/backend_to_frontend/xsa_396.rs`.)

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_grant::seam::{Access, Host as _, Share as _};
use xenvelope_grant::{Gref, Words as _};
use xenvelope_hypervisor_sim::machine::{Domain, GrantVersion, SharedPages};
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{FakeBackend, GuestPlan, Lab, frame, mac};

fn entry(number: usize, domain: &Domain) -> Entry {
    Entry {
        mac: mac(number),
        vid: 0,
        peer: domain.peer(),
        channel: CHANNEL_DRIVER_DOMAIN,
        flags: EntryFlags::ENVELOPE,
    }
}

/// Hangs on `Frontend::expire`.
#[test]
fn what_a_lost_envelope_granted_is_taken_back_after_the_time_out() {
    let mut lab = Lab::with_guests(2, &GuestPlan { vf: true, ..GuestPlan::default() });
    lab.all_routes(PairRoute::NicEnvelope);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.steps(500);
    assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    let vf = lab.guests[1].vf.expect("a VF");
    lab.guests[1].asleep = true;
    lab.nic.unplug_vf(vf).expect("a VF");
    for _ in 0..10 {
        lab.send(0, 1, &[2; 1000]);
    }
    lab.steps(5);
    let to = lab.domid(1);
    assert_eq!(lab.guests[0].frontend.outstanding(), 10);
    assert_eq!(lab.grants(0, to).len(), 10);
    lab.pass_ms(400);
    assert_eq!(lab.grants(0, to).len(), 10, "not before the time is out");
    lab.pass_ms(200);
    assert_eq!(lab.guests[0].counters().timed_out, 10);
    assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    assert!(lab.grants(0, to).is_empty());
}

/// Hangs on the quota in `Frontend::open_envelope`.
#[test]
fn a_peer_that_never_says_done_costs_its_quota_and_others_get_their_frames() {
    const QUOTA: usize = 24;
    let config = Config { peer_quota: QUOTA, ..Config::default() };
    let mut lab = Lab::with_guests(3, &GuestPlan { config, ..GuestPlan::default() });
    lab.all_routes(PairRoute::Switch);
    lab.guests[1].asleep = true;
    for round in 0..50 {
        for _ in 0..5 {
            lab.send(0, 1, &[1; 1000]);
        }
        lab.send(0, 2, &[round; 1000]);
        lab.steps(2);
        let cost = lab.grants(0, lab.domid(1)).len();
        // An envelope that was begun within the quota is filled: 16 frames at most.
        assert!(cost <= QUOTA + 16, "{cost} grants");
    }
    assert!(lab.guests[0].counters().dropped_for(DropReason::PeerFull) > 0);
    assert_eq!(lab.guests[2].received.len(), 50);
}

/// As above, to the letter: the quota bounds the frames, not the envelopes.
#[test]
fn a_peer_that_never_says_done_costs_no_frame_more_than_its_quota() {
    let config = Config { peer_quota: 4, ..Config::default() };
    let mut fake = FakeBackend::new(config, GrantVersion::V2);
    let peer = fake.other("peer");
    fake.table.borrow_mut().insert(entry(1, &peer)).expect("room");
    for _ in 0..12 {
        fake.guest.send(&frame(mac(1), mac(0), &[1; 1000]));
    }
    fake.step();
    assert!(fake.grants(peer.domid()).len() <= 4, "{}", fake.grants(peer.domid()).len());
}

/// A guest with version 1 grants, and a peer that has mapped every page that was granted to it:
/// the time is out, and nothing could be taken back.
fn pinned(frames: u8) -> (FakeBackend, Domain, Vec<(Gref, SharedPages)>) {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V1);
    let (peer, other) = (fake.other("peer"), fake.other("other"));
    fake.table.borrow_mut().insert(entry(1, &peer)).expect("room");
    fake.table.borrow_mut().insert(entry(2, &other)).expect("room");
    for index in 0..frames {
        fake.guest.send(&frame(mac(1), mac(0), &[0x10 + index; 1000]));
    }
    fake.step();
    let owner = fake.guest.domain.domid();
    let grants = fake.grants(peer.domid());
    assert_eq!(grants.len(), usize::from(frames));
    let map = |gref: Gref| {
        (gref, peer.import(owner, &[gref], Access::Read).expect("version 1 can be mapped"))
    };
    let maps = grants.into_iter().map(map).collect();
    for _ in 0..60 {
        fake.table.borrow_mut().beat();
        fake.pass_ms(10);
    }
    (fake, peer, maps)
}

fn page(pages: &SharedPages) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    pages.copy_out(0, &mut bytes);
    bytes
}

/// Hangs on `PeerState::take_back`, which keeps what could not be revoked among the pinned.
#[test]
fn a_page_that_a_peer_holds_on_to_is_not_used_for_anybody_else() {
    let (mut fake, peer, maps) = pinned(4);
    assert_eq!(fake.guest.counters().timed_out, 4);
    assert_eq!(fake.guest.frontend.outstanding(), 4, "they still count against the quota");
    let before: Vec<Vec<u8>> = maps.iter().map(|(_, pages)| page(pages)).collect();
    for round in 0..200 {
        for _ in 0..3 {
            fake.guest.send(&frame(mac(2), mac(0), &[0xEE; 1400]));
            fake.guest.send(&frame(mac(3), mac(0), &[0xEE; 1400]));
        }
        fake.step();
        fake.envelopes();
        fake.netif_frames();
        if round % 10 == 0 {
            fake.table.borrow_mut().beat();
            fake.pass_ms(60);
        }
    }
    let after: Vec<Vec<u8>> = maps.iter().map(|(_, pages)| page(pages)).collect();
    assert_eq!(before, after);
    assert_eq!(fake.grants(peer.domid()).len(), 4);
}

/// Hangs on `PeerState::retry_pinned`.
#[test]
fn pages_come_back_when_the_peer_lets_go_of_them() {
    let (mut fake, _, maps) = pinned(3);
    drop(maps);
    fake.pass_ms(100);
    assert_eq!(fake.guest.frontend.outstanding(), 0);
}

/// Hangs on `PeerState::retry_pinned` trying each of them, in whatever order they are let go.
#[test]
fn a_page_comes_back_whichever_others_the_peer_holds_on_to() {
    for let_go in 0..5 {
        let (mut fake, _, mut maps) = pinned(5);
        drop(maps.remove(let_go));
        fake.pass_ms(200);
        assert_eq!(fake.guest.frontend.outstanding(), 4, "number {let_go} was let go");
    }
}
