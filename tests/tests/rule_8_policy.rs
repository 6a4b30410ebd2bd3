//! Rule 8: traffic rules are enforced where the guest cannot reach.

use std::collections::BTreeSet;

use xenvelope_backend::{DefaultRoute, Member, PairRoute};
use xenvelope_grant::seam::Host as _;
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::envelopes::{addresses, head, inline};
use xenvelope_tests::lab::{GuestPlan, HostileGuest, Lab, frame, mac};

fn member(network: u16, vlan: u16) -> Member {
    Member {
        networks: BTreeSet::from([network]),
        default_route: DefaultRoute::DriverDomain,
        vlan,
        ..Member::default()
    }
}

/// Two guests in one network, and a hostile one in another, or in another VLAN.
fn apart(network: u16, vlan: u16) -> (Lab, HostileGuest) {
    let mut lab = Lab::default();
    lab.manager().set_member(mac(9), member(network, vlan));
    for _ in 0..2 {
        lab.add_guest(&GuestPlan::default());
    }
    lab.connect();
    let hostile = HostileGuest::connect(&mut lab, mac(9));
    lab.all_routes(PairRoute::Switch);
    (lab, hostile)
}

/// The hostile guest ignores its table and tries every way through the driver domain's switch.
fn reaches_nobody(lab: &mut Lab, hostile: &mut HostileGuest) {
    for guest in 0..2 {
        let to = addresses(mac(guest), mac(9));
        hostile.push_envelope(&inline(to, head(5, guest as u32), &[1; 60]));
        hostile.send_netif(&frame(mac(guest), mac(9), &[1; 60]));
    }
    hostile.send_netif(&frame(MacAddress::BROADCAST, mac(9), &[1; 60]));
    lab.steps(10);
    for guest in 0..2 {
        assert!(lab.guests[guest].received.is_empty(), "guest {guest} got something");
    }
    lab.expect_delivery(0, 1, &[2; 60]);
}

/// Nor is it reached.
fn is_not_reached(lab: &mut Lab, hostile: &mut HostileGuest) {
    for destination in [mac(9), MacAddress::BROADCAST] {
        let bytes = frame(destination, mac(0), &[3; 300]);
        assert!(lab.guests[0].send(&bytes));
    }
    lab.steps(10);
    assert!(hostile.frames().is_empty());
    assert!(hostile.envelopes().is_empty());
    assert!(lab.grants(0, hostile.domain.domid()).is_empty());
}

/// Hangs on `PortConfig::ingress_vid` and the VLAN in the switch's table of guests.
#[test]
fn a_guest_in_another_vlan_that_ignores_its_table_reaches_nobody() {
    let (mut lab, mut hostile) = apart(0, 20);
    reaches_nobody(&mut lab, &mut hostile);
    is_not_reached(&mut lab, &mut hostile);
}

/// Hangs on the switch, or the backend, asking the manager's policy for each frame.
#[test]
fn a_guest_in_another_network_that_ignores_its_table_reaches_nobody() {
    let (mut lab, mut hostile) = apart(7, 0);
    reaches_nobody(&mut lab, &mut hostile);
}

/// As above, the other way.
#[test]
fn a_guest_in_another_network_is_not_reached() {
    let (mut lab, mut hostile) = apart(7, 0);
    is_not_reached(&mut lab, &mut hostile);
}

/// Hangs on the switch's port following `Manager::set_member`.
#[test]
fn a_guest_that_is_moved_to_another_vlan_while_it_runs_reaches_nobody() {
    let (mut lab, mut hostile) = apart(0, 0);
    lab.manager().set_member(mac(9), member(0, 20));
    lab.steps(10);
    reaches_nobody(&mut lab, &mut hostile);
}

/// Hangs on `may_reach` in `Backend::poll_manager`.
#[test]
fn a_table_lists_whom_policy_lets_its_guest_reach_and_nobody_else() {
    for (network, vlan) in [(7, 0), (0, 20)] {
        let (mut lab, hostile) = apart(network, vlan);
        let table = hostile.table.as_ref().expect("a table");
        for guest in 0..2 {
            assert_eq!(table.lookup(mac(guest), 0), None);
            assert_eq!(table.lookup(mac(guest), vlan), None);
        }
        lab.manager().set_member(mac(0), member(network, vlan));
        lab.steps(10);
        assert!(table.lookup(mac(0), 0).is_some());
        assert_eq!(table.lookup(mac(1), 0), None);
        lab.manager().set_member(mac(0), Member::default());
        lab.steps(10);
        assert_eq!(table.lookup(mac(0), 0), None, "a member of nothing is reached by nobody");
    }
}

/// Where a guest's memory holds the first word of an entry for that address.
fn entries_for(memory: &[u8], address: MacAddress) -> usize {
    let mut little_endian = address.0;
    little_endian.reverse();
    memory.windows(6).filter(|window| *window == little_endian || *window == address.0).count()
}

/// Hangs on one table for each frontend, granted to it alone, and on `may_reach`.
#[test]
fn a_guest_s_memory_holds_no_address_of_a_peer_that_it_may_not_reach() {
    let mut lab = Lab::default();
    for guest in 0..4 {
        lab.manager().set_member(mac(guest), member(guest as u16 / 2, 0));
    }
    for _ in 0..4 {
        lab.add_guest(&GuestPlan::default());
    }
    lab.connect();
    for route in [PairRoute::Switch, PairRoute::Direct] {
        lab.all_routes(route);
        for guest in 0..4 {
            let memory = lab.machine.readable_bytes(lab.domid(guest));
            for other in 0..4 {
                let found = entries_for(&memory, mac(other));
                if guest / 2 == other / 2 && guest != other {
                    assert!(found > 0, "guest {guest} knows {other}");
                } else if guest != other {
                    assert_eq!(found, 0, "guest {guest} knows {other}");
                }
            }
        }
        let pairs = [(0, 1), (1, 0), (2, 3), (3, 2)];
        for (from, to) in pairs {
            lab.expect_delivery(from, to, &[1; 1000]);
        }
    }
}
