//! What a guest, the world outside, and somebody hostile in either may do.

mod model;

use std::vec;
use std::vec::Vec;

use super::{Destination, Discard, Forward, PortConfig, PortError, PortId, Switch, Vlan};
use crate::ethernet::{EthernetHeader, MacAddress, ether_type};

const UPLINK: PortId = PortId(0);
const ALICE: PortId = PortId(1);
const BOB: PortId = PortId(2);
const CAROL: PortId = PortId(3);
const TRUNK: PortId = PortId(4);

fn mac(number: u8) -> MacAddress {
    MacAddress([0x02, 0, 0, 0, 0, number])
}

/// Nobody here has it.
const STRANGER: MacAddress = MacAddress([0x02, 0, 0, 0, 1, 0]);

fn guest(number: u8, vlan: Vlan) -> PortConfig {
    PortConfig::Guest { macs: vec![mac(number)], vlan }
}

/// Alice and Bob in VLAN 10, Carol in 20, a router in both and outside of all, and an uplink.
fn switch() -> Switch {
    let mut switch = Switch::new();
    switch.add_port(UPLINK, PortConfig::Uplink).unwrap();
    switch.add_port(ALICE, guest(1, Vlan::Access(10))).unwrap();
    switch.add_port(BOB, guest(2, Vlan::Access(10))).unwrap();
    switch.add_port(CAROL, guest(3, Vlan::Access(20))).unwrap();
    switch.add_port(TRUNK, guest(4, Vlan::Trunk([0, 10, 20].into()))).unwrap();
    switch
}

fn frame(source: MacAddress, destination: MacAddress, tci: Option<u16>) -> EthernetHeader {
    EthernetHeader { destination, source, tci, ether_type: ether_type::IPV4 }
}

fn to(vid: u16, port: PortId) -> Result<Forward, Discard> {
    Ok(Forward { vid, to: Destination::Port(port) })
}

fn flood(vid: u16) -> Result<Forward, Discard> {
    Ok(Forward { vid, to: Destination::Flood })
}

#[test]
fn guests_of_one_vlan_reach_each_other() {
    let mut switch = switch();
    assert_eq!(switch.ingress(ALICE, &frame(mac(1), mac(2), None), 0), to(10, BOB));
    assert_eq!(switch.ingress(BOB, &frame(mac(2), mac(1), None), 0), to(10, ALICE));
    assert_eq!(switch.egress_tag(BOB, 10), None);
}

#[test]
fn guests_of_two_vlans_do_not() {
    let mut switch = switch();
    // As far as VLAN 10 knows, Carol is a stranger, and strangers are outside.
    assert_eq!(switch.ingress(ALICE, &frame(mac(1), mac(3), None), 0), to(10, UPLINK));
    assert_eq!(switch.egress_tag(UPLINK, 10), Some(10));
}

#[test]
fn a_trunk_reaches_each_of_its_vlans_with_a_tag() {
    let mut switch = switch();
    assert_eq!(switch.ingress(TRUNK, &frame(mac(4), mac(1), Some(10)), 0), to(10, ALICE));
    assert_eq!(switch.ingress(TRUNK, &frame(mac(4), mac(3), Some(0xE014)), 0), to(20, CAROL));
    assert_eq!(switch.ingress(CAROL, &frame(mac(3), mac(4), None), 0), to(20, TRUNK));
    assert_eq!(switch.egress_tag(TRUNK, 20), Some(20));
    // Untagged is outside of all VLANs: Alice is not there.
    assert_eq!(switch.ingress(TRUNK, &frame(mac(4), mac(1), None), 0), to(0, UPLINK));
    assert_eq!(switch.egress_tag(TRUNK, 0), None);
    assert_eq!(switch.egress_tag(UPLINK, 0), None);
}

#[test]
fn a_guest_cannot_send_as_somebody_else() {
    let mut switch = switch();
    for source in [mac(2), mac(3), STRANGER, MacAddress::BROADCAST, MacAddress([0; 6])] {
        for destination in [mac(2), STRANGER, MacAddress::BROADCAST] {
            let spoofed = frame(source, destination, None);
            assert_eq!(switch.ingress(ALICE, &spoofed, 0), Err(Discard::SourceMac));
        }
    }
    assert_eq!(switch.learned(), 0);
}

#[test]
fn a_guest_cannot_tag_itself_into_a_vlan() {
    let mut switch = switch();
    for vid in [10, 20, 4095] {
        let tagged = frame(mac(1), mac(3), Some(vid));
        assert_eq!(switch.ingress(ALICE, &tagged, 0), Err(Discard::Vlan));
    }
    // A tag for its priority names no VLAN.
    assert_eq!(switch.ingress(ALICE, &frame(mac(1), mac(2), Some(0xA000)), 0), to(10, BOB));
    assert_eq!(switch.ingress(TRUNK, &frame(mac(4), mac(3), Some(30)), 0), Err(Discard::Vlan));
}

#[test]
fn a_broadcast_reaches_all_of_the_vlan_once() {
    let mut switch = switch();
    let broadcast = frame(mac(1), MacAddress::BROADCAST, None);
    assert_eq!(switch.ingress(ALICE, &broadcast, 0), flood(10));
    let ports: Vec<PortId> = switch.flood_ports(10, ALICE).collect();
    assert_eq!(ports, [UPLINK, BOB, TRUNK]);
    let ports: Vec<PortId> = switch.flood_ports(20, UPLINK).collect();
    assert_eq!(ports, [CAROL, TRUNK]);
}

#[test]
fn ones_own_broadcast_that_comes_back_is_dropped() {
    let mut switch = switch();
    let broadcast = frame(mac(1), MacAddress::BROADCAST, Some(10));
    assert_eq!(switch.ingress(UPLINK, &broadcast, 0), Err(Discard::SourceMac));
    // In another VLAN the same address is somebody else.
    let other = frame(mac(1), MacAddress::BROADCAST, Some(20));
    assert_eq!(switch.ingress(UPLINK, &other, 0), flood(20));
}

#[test]
fn a_guest_with_a_vf_gets_broadcasts_there_and_sends_them_there() {
    let mut switch = switch();
    assert!(switch.set_flood(ALICE, false));
    let ports: Vec<PortId> = switch.flood_ports(10, UPLINK).collect();
    assert_eq!(ports, [BOB, TRUNK]);
    // What Alice sent by her VF comes in at the uplink, and Bob has only this way to get it.
    let broadcast = frame(mac(1), MacAddress::BROADCAST, Some(10));
    assert_eq!(switch.ingress(UPLINK, &broadcast, 0), flood(10));
    assert_eq!(switch.ingress(UPLINK, &frame(mac(1), mac(2), Some(10)), 0), to(10, BOB));
    assert_eq!(switch.ingress(UPLINK, &frame(mac(1), mac(1), Some(10)), 0), Err(Discard::Looped));
    // Frames for her alone still reach her here.
    assert_eq!(switch.ingress(BOB, &frame(mac(2), mac(1), None), 0), to(10, ALICE));
    assert!(switch.set_flood(ALICE, true));
    assert_eq!(switch.ingress(UPLINK, &broadcast, 0), Err(Discard::SourceMac));
}

#[test]
fn the_uplink_always_takes_floods() {
    let mut switch = switch();
    assert!(!switch.set_flood(UPLINK, false) && !switch.set_flood(PortId(99), false));
    assert!(switch.flood_ports(20, CAROL).any(|port| port == UPLINK));
}

#[test]
fn the_world_outside_reaches_guests_in_their_vlan_only() {
    let mut switch = switch();
    assert_eq!(switch.ingress(UPLINK, &frame(STRANGER, mac(1), Some(10)), 0), to(10, ALICE));
    for tci in [None, Some(0), Some(20)] {
        let missed = frame(STRANGER, mac(1), tci);
        assert_eq!(switch.ingress(UPLINK, &missed, 0), Err(Discard::NoDestination));
    }
    let reserved = frame(STRANGER, mac(1), Some(4095));
    assert_eq!(switch.ingress(UPLINK, &reserved, 0), Err(Discard::Vlan));
}

#[test]
fn a_group_cannot_send() {
    let mut switch = switch();
    let from_group = frame(MacAddress([0x33, 0x33, 0, 0, 0, 1]), mac(1), Some(10));
    assert_eq!(switch.ingress(UPLINK, &from_group, 0), Err(Discard::SourceMac));
    assert_eq!(switch.learned(), 0);
}

#[test]
fn what_is_outside_stays_outside() {
    let mut switch = Switch::with_limits(8, 1000);
    switch.add_port(UPLINK, PortConfig::Uplink).unwrap();
    let other = MacAddress([0x02, 0, 0, 0, 1, 1]);
    let unknown = frame(STRANGER, other, None);
    assert_eq!(switch.ingress(UPLINK, &unknown, 0), Err(Discard::NoDestination));
    let back = frame(other, STRANGER, None);
    assert_eq!(switch.ingress(UPLINK, &back, 999), Err(Discard::Looped));
    // After its time it is as if it had never been seen.
    assert_eq!(switch.ingress(UPLINK, &back, 1000), Err(Discard::NoDestination));
}

#[test]
fn a_flood_of_made_up_addresses_is_bounded_and_old_ones_make_room() {
    let mut switch = Switch::with_limits(100, 5_000_000_000);
    switch.add_port(UPLINK, PortConfig::Uplink).unwrap();
    let mut made_up = |number: u64, now_ns| {
        let source = MacAddress::from_bits(0x0600_0000_0000 | number);
        let _ = switch.ingress(UPLINK, &frame(source, STRANGER, None), now_ns);
        switch.learned()
    };
    for number in 0..1000 {
        assert!(made_up(number, number) <= 100);
    }
    assert_eq!(made_up(5000, 6_000_000_000), 1);
}

#[test]
fn a_frame_to_oneself_goes_nowhere() {
    let looped = switch().ingress(ALICE, &frame(mac(1), mac(1), None), 0);
    assert_eq!(looped, Err(Discard::Looped));
}

#[test]
fn reserved_addresses_are_not_forwarded() {
    let mut switch = switch();
    for last in 0..=0x0F {
        let reserved = MacAddress([0x01, 0x80, 0xC2, 0, 0, last]);
        let discarded = Err(Discard::ReservedAddress);
        assert_eq!(switch.ingress(ALICE, &frame(mac(1), reserved, None), 0), discarded);
        assert_eq!(switch.ingress(UPLINK, &frame(STRANGER, reserved, None), 0), discarded);
    }
    let next = MacAddress([0x01, 0x80, 0xC2, 0, 0, 0x10]);
    assert_eq!(switch.ingress(ALICE, &frame(mac(1), next, None), 0), flood(10));
}

#[test]
fn without_an_uplink_strangers_are_nowhere() {
    let mut switch = switch();
    assert!(switch.remove_port(UPLINK));
    let lost = switch.ingress(ALICE, &frame(mac(1), STRANGER, None), 0);
    assert_eq!(lost, Err(Discard::NoDestination));
}

#[test]
fn a_port_that_is_gone_takes_nothing_and_its_address_is_free() {
    let mut switch = switch();
    assert!(switch.remove_port(ALICE) && !switch.remove_port(ALICE));
    let late = frame(mac(1), mac(2), None);
    assert_eq!(switch.ingress(ALICE, &late, 0), Err(Discard::UnknownPort));
    assert_eq!(switch.ingress(BOB, &frame(mac(2), mac(1), None), 0), to(10, UPLINK));
    // Alice has moved to another host.
    assert_eq!(switch.ingress(UPLINK, &frame(mac(1), mac(2), Some(10)), 0), to(10, BOB));
    assert_eq!(switch.learned(), 1);
    // And back.
    switch.add_port(PortId(9), guest(1, Vlan::Access(10))).unwrap();
    assert_eq!(switch.learned(), 0);
}

#[test]
fn an_address_has_one_owner_in_a_vlan() {
    let mut switch = switch();
    let taken = PortError::MacTaken { mac: mac(1), vid: 10, by: ALICE };
    let thief = PortId(9);
    assert_eq!(switch.add_port(thief, guest(1, Vlan::Access(10))), Err(taken));
    assert_eq!(switch.add_port(thief, guest(1, Vlan::Trunk([5, 10].into()))), Err(taken));
    // Nothing of the failed attempts is left.
    assert_eq!(switch.port(thief), None);
    switch.add_port(thief, guest(1, Vlan::Access(5))).unwrap();
    assert_eq!(switch.ingress(BOB, &frame(mac(2), mac(1), None), 0), to(10, ALICE));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let mut switch = switch();
    let port = PortId(9);
    let group = PortConfig::Guest { macs: vec![MacAddress::BROADCAST], vlan: Vlan::Access(0) };
    assert_eq!(switch.add_port(port, group), Err(PortError::Mac(MacAddress::BROADCAST)));
    assert_eq!(switch.add_port(port, guest(9, Vlan::Access(4095))), Err(PortError::Vid(4095)));
    assert_eq!(switch.add_port(port, PortConfig::Uplink), Err(PortError::SecondUplink(UPLINK)));
    assert_eq!(switch.add_port(BOB, guest(9, Vlan::Access(1))), Err(PortError::InUse(BOB)));
    assert_eq!(switch.ports().count(), 5);
}
