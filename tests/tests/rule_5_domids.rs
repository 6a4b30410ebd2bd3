//! Rule 5: a domid that is reused gets nothing that was meant for its predecessor.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Link;
use xenvelope_grant::seam::Host as _;
use xenvelope_tests::lab::{GuestPlan, HostileGuest, Lab, mac, steal};

/// Guest 1 is destroyed with frames for it granted, and the driver domain and guest 0 have the
/// time `ms` to notice.
fn destroyed(ms: u64) -> Lab {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Switch);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.steps(500);
    lab.guests[1].asleep = true;
    for _ in 0..10 {
        lab.send(0, 1, &[0xA7; 1000]);
    }
    lab.steps(3);
    assert_eq!(lab.grants(0, lab.domid(1)).len(), 10);
    let domid = lab.domid(1);
    lab.machine.destroy(domid);
    xenvelope_tests::lab::remove_vif(&lab.dom0, domid);
    lab.pass_ms(ms);
    lab.steps(10);
    lab
}

/// Nothing that guest 0 has granted can be read by the successor of guest 1.
fn successor_gets_nothing(lab: &mut Lab) {
    let grants = lab.grants(0, lab.domid(1));
    lab.replace_guest(1, &GuestPlan::default());
    let (owner, successor) = (lab.domid(0), &lab.guests[1].domain);
    let stolen = grants.iter().filter(|grant| steal(successor, owner, grant.0, 32, 100).is_some());
    assert_eq!(stolen.count(), 0);
    lab.connect();
    assert!(lab.guests[1].received.is_empty());
    lab.expect_delivery(0, 1, &[3; 1000]);
    lab.expect_delivery(1, 0, &[3; 1000]);
}

/// Hangs on `Frontend::expire`.
#[test]
fn a_successor_gets_nothing_of_what_was_granted_to_its_predecessor_when_the_time_is_out() {
    successor_gets_nothing(&mut destroyed(600));
}

/// Hangs on the sender looking whether the peer of what is outstanding is still in its table.
#[test]
fn a_successor_gets_nothing_once_its_predecessor_has_left_the_table() {
    successor_gets_nothing(&mut destroyed(50));
}

/// Hangs on the incarnation in `Backend::create`.
#[test]
fn a_successor_has_another_incarnation_in_the_tables_of_others() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let observer = HostileGuest::connect(&mut lab, mac(9));
    let table = observer.table.as_ref().expect("a table");
    let before = table.lookup(mac(1), 0).expect("an entry").peer;
    let domid = lab.domid(1);
    lab.machine.destroy(domid);
    xenvelope_tests::lab::remove_vif(&lab.dom0, domid);
    lab.guests[1].asleep = true;
    lab.steps(10);
    assert_eq!(table.lookup(mac(1), 0), None);
    lab.replace_guest(1, &GuestPlan::default());
    lab.connect();
    let after = table.lookup(mac(1), 0).expect("an entry").peer;
    assert_eq!(before.domid, after.domid);
    assert_ne!(before.incarnation, after.incarnation);
    lab.expect_delivery(0, 1, &[3; 1000]);
    lab.expect_delivery(1, 0, &[3; 1000]);
}

/// Hangs on `PeerState` being keyed by incarnation: what the predecessor broke is its own.
#[test]
fn a_successor_is_not_punished_for_what_its_predecessor_did() {
    use xenvelope_tests::lab::envelopes::{addresses, done, opened};
    let mut lab = Lab::with_guests(1, &GuestPlan::default());
    lab.all_routes(PairRoute::Switch);
    let mut hostile = HostileGuest::connect(&mut lab, mac(9));
    let bytes = xenvelope_tests::lab::frame(mac(9), mac(0), &[1; 1000]);
    lab.guests[0].send(&bytes);
    lab.steps(5);
    let envelopes = hostile.envelopes();
    let (head, _) = envelopes.iter().find_map(|bytes| opened(bytes)).expect("an envelope");
    hostile.push_envelope(&done(addresses(mac(0), mac(9)), head.epoch, 9999, 1));
    lab.steps(10);
    assert_eq!(lab.guests[0].counters().bad_dones, 1);
    let domid = hostile.domain.domid();
    lab.machine.destroy(domid);
    xenvelope_tests::lab::remove_vif(&lab.dom0, domid);
    drop(hostile);
    lab.steps(10);
    let successor = HostileGuest::connect(&mut lab, mac(9));
    assert_eq!(successor.domain.domid(), domid);
    let mut successor = successor;
    lab.guests[0].send(&bytes);
    lab.steps(5);
    let envelopes = successor.envelopes();
    assert!(envelopes.iter().any(|bytes| opened(bytes).is_some()), "it gets its envelope");
}

/// Hangs on the control plane noticing that a frontend begins anew.
#[test]
fn a_guest_that_is_replaced_between_two_looks_of_the_driver_domain_is_another() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let observer = HostileGuest::connect(&mut lab, mac(9));
    let table = observer.table.as_ref().expect("a table");
    let before = table.lookup(mac(1), 0).expect("an entry").peer;
    lab.replace_guest(1, &GuestPlan::default());
    lab.steps(100);
    let after = table.lookup(mac(1), 0).map(|entry| entry.peer);
    assert_ne!(after, Some(before), "the table still leads to the predecessor's domid");
    assert_eq!(lab.guests[1].frontend.link(), Link::Up, "the successor connects");
}

/// Hangs on the control plane looking for interfaces that are gone when a directory above them
/// is removed.
#[test]
fn a_guest_whose_whole_directory_the_toolstack_removes_leaves_the_tables() {
    use xenvelope_grant::seam::{Change, Store as _};
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let observer = HostileGuest::connect(&mut lab, mac(9));
    let domid = lab.domid(1);
    lab.machine.destroy(domid);
    lab.guests[1].asleep = true;
    let path = format!("/local/domain/0/backend/vif/{domid}");
    lab.dom0.commit(&[Change::Remove { path: &path }]).expect("the toolstack may write");
    lab.steps(10);
    assert_eq!(observer.table.as_ref().expect("a table").lookup(mac(1), 0), None);
}
