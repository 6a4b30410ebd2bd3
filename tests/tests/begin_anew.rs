//! Connections that begin anew: after another owner of the device, after either side went away
//! and came back, after the toolstack took the device and made it again.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason, Link};
use xenvelope_grant::seam::{Change, Host as _, Store as _};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_grant::{DomId, Gref};
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{
    FakeBackend, GuestPlan, HostileGuest, Lab, frame, mac, make_vif, remove_vif,
};

fn both_ways(lab: &mut Lab) {
    for length in [60, 1000] {
        lab.expect_delivery(0, 1, &vec![1; length]);
        lab.expect_delivery(1, 0, &vec![2; length]);
    }
}

/// Hangs on `Handshake::new`.
#[test]
fn an_agent_that_was_killed_begins_anew_and_gets_its_frames() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    for route in [PairRoute::Switch, PairRoute::Direct, PairRoute::Bridge] {
        lab.all_routes(route);
        lab.steps(100);
        both_ways(&mut lab);
        lab.restart_agent(0, Config::default());
        assert_eq!(lab.guests[0].frontend.link(), Link::Down);
        lab.connect();
        lab.steps(100);
        lab.guests[0].take_received();
        both_ways(&mut lab);
        assert_eq!(lab.guests[0].counters().connections, 1);
    }
    // All that was granted to the dead agent's peers is forgotten, too.
    lab.pass_ms(1000);
    assert_eq!(lab.guests[1].frontend.outstanding(), 0);
}

/// Hangs on `Control::tidy`: Linux' netback would look for rings below `queue-0`, and bind
/// `event-channel-tx`.
#[test]
fn what_another_driver_left_in_the_store_is_gone_before_we_connect() {
    let mut lab = Lab::default();
    lab.add_guest(&GuestPlan::default());
    let domain = lab.guests[0].domain.clone();
    let front = Directory::new("device/vif/0").expect("a path");
    let reader = Some(DomId::DOM0);
    let mut keys = Transaction::new();
    keys.write(&front, key::MULTI_QUEUE_NUM_QUEUES, 2, reader)
        .write(&front, key::EVENT_CHANNEL_TX, 7, reader)
        .write(&front, key::EVENT_CHANNEL_RX, 8, reader)
        .write(&front, key::FEATURE_NO_CSUM_OFFLOAD, 1, reader)
        .write(&front, key::VF_LINK, 1, reader)
        .state(&front, XenbusState::Closed, reader);
    for queue in ["queue-0", "queue-1"] {
        let queue = front.child(queue).expect("a path");
        keys.write(&queue, key::TX_RING_REF, 9, reader);
    }
    keys.commit(&domain).expect("its own directory");
    lab.connect();
    let mut names = [0; 1024];
    let names = domain.list(front.path(), &mut names).expect("its own directory");
    for name in [
        key::MULTI_QUEUE_NUM_QUEUES,
        key::EVENT_CHANNEL_TX,
        key::EVENT_CHANNEL_RX,
        key::FEATURE_NO_CSUM_OFFLOAD,
        key::VF_LINK,
        "queue-0",
        "queue-1",
    ] {
        assert!(!names.split('\0').any(|other| other == name), "{name} is left");
    }
    for name in [key::MAC, key::BACKEND, key::EVENT_CHANNEL, key::FEATURE_GSO_TCPV6] {
        assert!(names.split('\0').any(|other| other == name), "{name} is missing");
    }
}

/// Hangs on the watch of our own directory, and on `Device::Gone`.
#[test]
fn a_device_that_is_taken_away_and_made_again_is_used_again() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Direct);
    lab.steps(100);
    both_ways(&mut lab);
    let domid = lab.domid(0);
    for _ in 0..3 {
        remove_vif(&lab.dom0, domid);
        lab.steps(10);
        assert_eq!(lab.guests[0].frontend.link(), Link::Closed);
        lab.pass_ms(5000);
        let state = lab
            .dom0
            .read(&format!("/local/domain/{domid}/device/vif/0/state"), &mut [0; 8])
            .map(|_| ());
        assert!(state.is_err(), "nobody writes into a device that is gone");
        make_vif(&lab.dom0, domid, mac(0));
        lab.connect();
        lab.steps(100);
        both_ways(&mut lab);
    }
}

/// Hangs on `Frontend::follow_states` knowing a device of which it did not see that it was gone.
#[test]
fn a_device_that_is_made_again_between_two_looks_is_another() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let domid = lab.domid(0);
    remove_vif(&lab.dom0, domid);
    make_vif(&lab.dom0, domid, mac(0));
    lab.steps(20);
    lab.connect();
    both_ways(&mut lab);
    assert_eq!(lab.guests[0].counters().connections, 2);
}

/// Hangs on `Control::reopen`.
#[test]
fn a_device_that_comes_back_with_another_backend_follows_that() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let guest = fake.guest.domain.domid();
    let path = format!("/local/domain/{guest}/device/vif/0");
    fake.dom0.commit(&[Change::Remove { path: &path }]).expect("the toolstack may write");
    fake.step();
    assert_eq!(fake.guest.frontend.link(), Link::Closed);
    make_vif(&fake.dom0, guest, mac(5));
    let elsewhere =
        Directory::new(&format!("/local/domain/0/backend/other/{guest}/0")).expect("path");
    let reader = Some(guest);
    let mut keys = Transaction::new();
    keys.write(&fake.front, key::BACKEND, elsewhere.path(), reader)
        .state(&elsewhere, XenbusState::Initialising, reader)
        .commit(&fake.dom0)
        .expect("the toolstack may write");
    fake.step();
    assert_eq!(fake.states().0, XenbusState::Initialising, "the other one is not there yet");
    let mut keys = Transaction::new();
    keys.state(&elsewhere, XenbusState::InitWait, reader).commit(&fake.dom0).expect("it may");
    fake.step();
    assert_eq!(fake.states().0, XenbusState::Connected);
    assert_eq!(fake.guest.frontend.mac(), mac(5));
}

/// Hangs on `Step::Resting`.
#[test]
fn a_driver_domain_that_closes_us_and_comes_back_finds_us_after_a_rest() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    for rest_ms in [1000, 2000, 4000] {
        fake.say(XenbusState::Closing);
        fake.step();
        assert_eq!(fake.guest.frontend.link(), Link::Closed);
        assert_eq!(fake.states().0, XenbusState::Closed);
        fake.say(XenbusState::Closed);
        fake.step();
        fake.pass_ms(rest_ms - 100);
        assert_eq!(fake.states().0, XenbusState::Closed, "it rests");
        fake.pass_ms(200);
        assert_eq!(fake.states().0, XenbusState::Initialising);
        fake.say(XenbusState::InitWait);
        fake.step();
        assert_eq!(fake.states().0, XenbusState::Connected);
        fake.say(XenbusState::Connected);
        fake.step();
        assert_eq!(fake.guest.frontend.link(), Link::Up);
    }
    assert_eq!(fake.guest.counters().connections, 4);
}

/// Hangs on `Frontend::fail` telling the handshake.
#[test]
fn a_driver_domain_that_breaks_the_protocol_gets_another_chance_with_other_rings() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let before = fake.front.word(&fake.dom0, key::TX_RING_REF).expect("a reference");
    HostileGuest::overrun(fake.rx.words(), 8);
    fake.step();
    fake.step();
    assert_eq!(fake.guest.frontend.link(), Link::Closed);
    assert_eq!(fake.states().0, XenbusState::Closing);
    fake.say(XenbusState::Closed);
    fake.pass_ms(1100);
    fake.say(XenbusState::InitWait);
    fake.step();
    assert_eq!(fake.states().0, XenbusState::Connected);
    let after = fake.front.word(&fake.dom0, key::TX_RING_REF).expect("a reference");
    assert_ne!(before, after, "what the other side still maps is not used again");
}

/// Hangs on `Frontend::close`.
#[test]
fn who_says_goodbye_does_not_begin_anew() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    fake.guest.frontend.close();
    assert_eq!(fake.states().0, XenbusState::Closing);
    fake.say(XenbusState::Closed);
    fake.pass_ms(60_000);
    assert_eq!(fake.states().0, XenbusState::Closed);
    assert_eq!(fake.guest.frontend.link(), Link::Closed);
}

fn one_to(fake: &mut FakeBackend) -> (usize, u32) {
    fake.guest.send(&frame(mac(1), mac(0), &[1; 300]));
    // Longer than it may wait for what went another way.
    fake.pass_ms(60);
    (fake.envelopes().len(), fake.netif_frames())
}

fn with_entry(fake: &mut FakeBackend, peer: xenvelope_grant::Peer) {
    let (channel, flags) = (CHANNEL_DRIVER_DOMAIN, EntryFlags::ENVELOPE);
    let entry = Entry { mac: mac(1), vid: 0, peer, channel, flags };
    fake.table.borrow_mut().insert(entry).expect("room");
}

/// Hangs on `Frontend::follow_table`.
#[test]
fn a_manager_that_was_restarted_finds_its_new_table_believed() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let peer = fake.other("peer").peer();
    with_entry(&mut fake, peer);
    assert_eq!(one_to(&mut fake), (1, 0));
    fake.new_table();
    fake.pass_ms(60);
    assert_eq!(fake.guest.frontend.link(), Link::Up);
    // It knows nobody yet.
    fake.pass_ms(600);
    assert_eq!(one_to(&mut fake), (0, 1));
    with_entry(&mut fake, peer);
    fake.pass_ms(60);
    assert_eq!(one_to(&mut fake), (1, 0));
    // The same references again are the same table.
    let refs = xenvelope_grant::seam::Shared::refs(fake.table.borrow().words()).to_vec();
    fake.name_table(&refs);
    fake.step();
    assert_eq!(fake.guest.counters().tables_attached, 2);
    assert_eq!(fake.guest.counters().connections, 1, "the connection stayed");
}

/// Hangs on `follow_table` counting what `follow` must not fail for.
#[test]
fn references_that_lead_nowhere_cost_the_table_and_not_the_connection() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let peer = fake.other("peer").peer();
    with_entry(&mut fake, peer);
    fake.name_table(&[Gref(0x00FF_0000)]);
    fake.step();
    assert_eq!(fake.guest.frontend.link(), Link::Up);
    assert_eq!(fake.guest.counters().tables_refused, 1);
    assert_eq!(one_to(&mut fake), (0, 1));
    // It is tried again without being told, and when there is another.
    fake.pass_ms(3500);
    assert_eq!(fake.guest.counters().tables_refused, 4);
    fake.new_table();
    with_entry(&mut fake, peer);
    fake.step();
    assert_eq!(one_to(&mut fake), (1, 0));
    assert_eq!(fake.guest.counters().dropped_for(DropReason::NoPath), 0);
}
