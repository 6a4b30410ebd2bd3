//! Rule 8: which VLANs' tags a guest may put on its frames is policy, and enforced outside of it.

use std::collections::BTreeSet;

use xenvelope_backend::{Member, PairRoute};
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::{GuestPlan, Lab, frame_tagged, mac};

fn member(tagged: &[u16]) -> Member {
    Member {
        networks: BTreeSet::from([0]),
        tagged: tagged.iter().copied().collect(),
        ..Member::default()
    }
}

/// Guests 0 and 1 may use VLANs 5 and 6, guest 2 may use 5 and 7, guest 3 none.
fn lab(vf: bool) -> Lab {
    let mut lab = Lab::default();
    for (guest, tagged) in [(0, &[5, 6][..]), (1, &[5, 6]), (2, &[5, 7]), (3, &[])] {
        lab.manager().set_member(mac(guest), member(tagged));
        lab.add_guest(&GuestPlan { vf, ..GuestPlan::default() });
    }
    lab.connect();
    lab
}

fn tagged(from: usize, to: MacAddress, tci: u16, length: usize) -> Vec<u8> {
    frame_tagged(to, mac(from), Some(tci), &vec![7; length])
}

/// What each guest has received since this was last asked.
fn received(lab: &mut Lab) -> Vec<Vec<Vec<u8>>> {
    lab.steps(10);
    lab.guests.iter_mut().map(|guest| guest.take_received()).collect()
}

const ROUTES: [PairRoute; 4] =
    [PairRoute::Bridge, PairRoute::Switch, PairRoute::Direct, PairRoute::NicEnvelope];

/// Hangs on the tables' entries for each VLAN, and on the switch's port being a trunk.
#[test]
fn a_tag_that_both_may_use_arrives_with_its_frame_on_every_route() {
    for vf in [false, true] {
        for route in ROUTES {
            let mut lab = lab(vf);
            lab.all_routes(route);
            for length in [60, 1400] {
                for (from, to, vid) in [(0, 1, 5), (1, 0, 6), (0, 2, 5), (2, 1, 5)] {
                    let bytes = tagged(from, mac(to), vid, length);
                    assert!(lab.guests[from].send(&bytes));
                    let got = received(&mut lab);
                    for (guest, got) in got.iter().enumerate() {
                        let wanted = if guest == to { std::slice::from_ref(&bytes) } else { &[] };
                        assert_eq!(got, wanted, "{route:?}, VF {vf}: {vid} {from} → {to}: {guest}");
                    }
                }
                lab.expect_delivery(0, 1, &vec![2; length]);
                received(&mut lab);
            }
        }
    }
}

/// Hangs on the switch's ports, and on the tables having entries for what both may use only.
#[test]
fn a_tag_that_one_side_may_not_use_reaches_nobody() {
    for route in ROUTES {
        let mut lab = lab(false);
        lab.all_routes(route);
        for length in [60, 1400] {
            // A VLAN of the receiver's only, of the sender's only, of nobody's.
            for (from, to, vid) in [(0, 2, 7), (0, 2, 6), (0, 3, 5), (3, 0, 5), (0, 1, 9)] {
                assert!(lab.guests[from].send(&tagged(from, mac(to), vid, length)));
                let got = received(&mut lab);
                assert!(got.iter().all(Vec::is_empty), "{route:?}: {vid} {from} → {to}");
            }
        }
    }
}

/// Hangs on the switch's VLANs when it floods.
#[test]
fn a_broadcast_with_a_tag_reaches_the_guests_of_that_vlan() {
    for vf in [false, true] {
        let mut lab = lab(vf);
        for (vid, members) in [(5, &[1, 2][..]), (6, &[1]), (7, &[])] {
            let bytes = tagged(0, MacAddress::BROADCAST, vid, 60);
            assert!(lab.guests[0].send(&bytes));
            for (guest, got) in received(&mut lab).iter().enumerate() {
                let wanted = usize::from(members.contains(&guest));
                assert_eq!(got, &vec![bytes.clone(); wanted], "VF {vf}: VLAN {vid}, guest {guest}");
            }
        }
    }
}

/// Hangs on the switch comparing the VLAN of a tag and not its priority.
#[test]
fn the_priority_in_a_tag_is_the_sender_s_own_affair() {
    let mut lab = lab(false);
    lab.all_routes(PairRoute::Switch);
    let bytes = tagged(0, mac(1), 3 << 13 | 5, 1400);
    assert!(lab.guests[0].send(&bytes));
    assert_eq!(received(&mut lab)[1], [bytes]);
}

/// Hangs on `Manager::port_vlan` being asked again when policy changes.
#[test]
fn a_tag_that_policy_takes_back_reaches_nobody_any_more() {
    for route in [PairRoute::Switch, PairRoute::Bridge] {
        let mut lab = lab(false);
        lab.all_routes(route);
        lab.manager().set_member(mac(1), member(&[6]));
        lab.steps(10);
        assert!(lab.guests[0].send(&tagged(0, mac(1), 5, 1400)));
        assert!(received(&mut lab).iter().all(Vec::is_empty));
        assert!(lab.guests[0].send(&tagged(0, mac(1), 6, 1400)));
        assert_eq!(received(&mut lab)[1].len(), 1);
    }
}
