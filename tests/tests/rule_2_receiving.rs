//! Rule 2: the receiver takes no domid, length or offset on the sender's word; source and VLAN
//! must belong to the peer that the frame came from, on every path.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::DropReason;
use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Buffer as _, Granter as _, NicPort as _, Offload, Segment};
use xenvelope_hypervisor_sim::machine::Domain;
use xenvelope_hypervisor_sim::nic::DomainPort;
use xenvelope_switch::{DeliverHead, MAX_ENVELOPE};
use xenvelope_tests::lab::envelopes::{addresses, done, granted, head, inline};
use xenvelope_tests::lab::{GuestPlan, Lab, frame, frame_tagged, mac, steal};

const SECRET: u8 = 0xA7;

/// Two guests with VFs and a third party with one, on a card that lets forged sources pass.
fn spoofed(route: PairRoute) -> (Lab, Domain, DomainPort) {
    let mut lab = Lab::new(false);
    for _ in 0..2 {
        lab.add_guest(&GuestPlan { vf: true, ..GuestPlan::default() });
    }
    lab.connect();
    let domain = lab.machine.create_domain("third", 1024);
    let port = lab.attach_vf(&domain, mac(9));
    lab.all_routes(route);
    (lab, domain, port)
}

fn send_raw(domain: &Domain, port: &DomainPort, bytes: &[u8]) {
    let mut buffer = domain.take(None, bytes.len()).expect("memory");
    buffer.put(0, bytes);
    port.send(buffer, 0..bytes.len(), Offload::default()).expect("room");
    port.kick();
}

/// Hangs on the switch's check of the source in `Switch::ingress`.
#[test]
fn a_guest_that_forges_its_source_reaches_nobody_through_the_driver_domain() {
    let (mut lab, mut hostile) = Lab::switched();
    let forged = addresses(mac(1), mac(0));
    hostile.push_envelope(&inline(forged, head(5, 0), &[1; 60]));
    hostile.send_netif(&frame(mac(1), mac(0), &[1; 60]));
    lab.steps(10);
    assert!(lab.guests[1].received.is_empty());
    lab.expect_delivery(0, 1, &[2; 60]);
}

/// Hangs on `Switch::ingress`, which knows no VLAN tag on an access port.
#[test]
fn a_guest_that_tags_its_frames_reaches_nobody() {
    let (mut lab, mut hostile) = Lab::switched();
    let tagged = xenvelope_switch::Addresses { tci: Some(7), ..addresses(mac(1), mac(9)) };
    hostile.push_envelope(&inline(tagged, head(5, 0), &[1; 60]));
    hostile.send_netif(&frame_tagged(mac(1), mac(9), Some(7), &[1; 60]));
    lab.steps(10);
    assert!(lab.guests[1].received.is_empty());
}

/// Hangs on `Frontend::sender`: the domain that is copied from is that of the source in the
/// receiver's own table, and on the check of the source in the switch.
#[test]
fn a_guest_that_names_the_grants_of_another_gets_its_victim_to_copy_nothing_of_them() {
    let (mut lab, mut hostile) = Lab::switched();
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[SECRET; 1000]);
    lab.steps(3);
    let grants = lab.grants(0, lab.domid(1));
    let segment = [Segment { gref: grants[0].0, offset: 32, len: 1000 }];
    for source in [mac(9), mac(0)] {
        let envelope = granted(addresses(mac(1), source), head(5, 0), &[(1000, &segment)]);
        hostile.push_envelope(&envelope);
    }
    lab.steps(3);
    lab.guests[1].asleep = false;
    lab.steps(20);
    assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(0), &[SECRET; 1000])]);
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::CopyFailed), 1);
    lab.expect_delivery(0, 1, &[3; 1000]);
}

/// What a third party tries with the grants that guest 0 made for guest 1.
fn attack(lab: &mut Lab, domain: &Domain, port: &DomainPort, grants: &[Gref]) {
    let forged = addresses(mac(1), mac(0));
    let mut sequence = 0;
    for gref in grants {
        for tagged in [false, true] {
            for offset in [16, 32] {
                let len = if tagged { 516 } else { 500 };
                let segment = [Segment { gref: *gref, offset, len }];
                let head = DeliverHead { tagged, ..head(0xBAD, sequence) };
                let envelope = granted(forged, head, &[(500, &segment)]);
                send_raw(domain, port, &envelope);
                sequence += 1;
            }
        }
    }
    for tagged in [false, true] {
        let head = DeliverHead { tagged, ..head(0xBAD, sequence) };
        send_raw(domain, port, &inline(forged, head, &[9; 60]));
        sequence += 1;
    }
    // The other way: to guest 0, as if guest 1 had taken what it has not.
    send_raw(domain, port, &done(addresses(mac(0), mac(1)), 1, 1, 1));
    lab.run_card();
}

/// Guest 1 gets what guest 0 sent, once, and nothing that the third party forged; both go on.
fn nothing_comes_of_it(route: PairRoute) {
    let (mut lab, domain, port) = spoofed(route);
    // They know each other, as do those that are attacked.
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.expect_delivery(1, 0, &[1; 1000]);
    lab.steps(500);
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[SECRET; 1000]);
    lab.steps(3);
    let grants: Vec<Gref> = lab.grants(0, lab.domid(1)).iter().map(|grant| grant.0).collect();
    assert!(!grants.is_empty(), "the frame is granted");
    attack(&mut lab, &domain, &port, &grants);
    lab.guests[1].asleep = false;
    lab.steps(500);
    let received = lab.guests[1].take_received();
    let genuine = frame(mac(1), mac(0), &[SECRET; 1000]);
    assert!(received.iter().all(|received| *received == genuine), "forged frames delivered");
    assert_eq!(received.len(), 1, "the genuine one arrives, once");
    lab.expect_delivery(0, 1, &[4; 1000]);
    lab.expect_delivery(1, 0, &[4; 1000]);
}

/// Hangs on `tag_matches`, and on `WrongTag` for what is not tagged on a path that cannot vouch.
#[test]
fn a_third_guest_on_a_card_without_anti_spoof_cannot_forge_what_bears_a_tag() {
    nothing_comes_of_it(PairRoute::NicEnvelope);
}

/// Hangs on `unvouched` in `Frontend::sender`: a VF that cannot vouch for the source cannot do so
/// either when the peer's own way is another.
#[test]
fn a_third_guest_on_a_card_without_anti_spoof_cannot_forge_for_a_pair_that_uses_the_switch() {
    nothing_comes_of_it(PairRoute::Switch);
}

/// As above.
#[test]
fn a_third_guest_on_a_card_without_anti_spoof_cannot_forge_for_a_pair_with_a_direct_channel() {
    nothing_comes_of_it(PairRoute::Direct);
}

/// Hangs on `Pieces::check` and `check_sizes` of the envelope's parser.
/// Hangs on `Backend::take_from_uplink`: what the driver domain passes on it vouches for, and it
/// cannot vouch for an envelope that the card brings. Guest 1 has no VF, so the card hands what is
/// for it to the driver domain.
#[test]
fn a_third_guest_cannot_launder_a_forged_envelope_through_the_driver_domain() {
    let mut lab = Lab::new(false);
    lab.add_guest(&GuestPlan { vf: true, ..GuestPlan::default() });
    lab.add_guest(&GuestPlan::default());
    lab.connect();
    let domain = lab.machine.create_domain("hostile", 4096);
    let port = lab.attach_vf(&domain, mac(9));
    lab.steps(50);
    let before = lab.backend.counters().uplink_in;
    send_raw(&domain, &port, &inline(addresses(mac(1), mac(0)), head(5, 0), &[1; 60]));
    lab.run_until("the envelope to reach the driver domain", |lab| {
        lab.backend.counters().uplink_in > before
    });
    lab.steps(20);
    assert!(lab.guests[1].received.is_empty());
    lab.expect_delivery(0, 1, &[2; 60]);
}

#[test]
fn lengths_that_leave_the_page_or_do_not_add_up_deliver_nothing() {
    let (mut lab, mut hostile) = Lab::switched();
    let page = hostile.grant_page(lab.domid(1), &[7; 4096]);
    let gref = hostile.domain.segments(&page)[0].gref;
    let segment = |offset, len| Segment { gref, offset, len };
    let to = addresses(mac(1), mac(9));
    let cases: [(u16, &[Segment]); 8] = [
        (4096, &[segment(1, 4096)]),
        (0xFFFF, &[segment(0, 0xFFFF)]),
        (100, &[segment(4090, 100)]),
        (0, &[segment(0, 0)]),
        (100, &[segment(0, 99)]),
        (100, &[segment(0, 101)]),
        (8, &[segment(0xFFFF, 8)]),
        (0, &[segment(0, 4096), segment(0, 4096), segment(0, 4096), segment(0, 4096)]),
    ];
    for (index, case) in cases.iter().enumerate() {
        hostile.push_envelope(&granted(to, head(5, index as u32), &[*case]));
    }
    lab.steps(10);
    assert!(lab.guests[1].received.is_empty());
    assert!(lab.guests[1].counters().envelopes_received <= cases.len() as u64);
    // Pieces that overlap are the sender's affair: each is copied for itself.
    let overlapping = [segment(0, 600), segment(300, 600)];
    hostile.push_envelope(&granted(to, head(5, 100), &[(1200, &overlapping)]));
    lab.steps(10);
    assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(9), &[7; 1200])]);
    lab.expect_delivery(0, 1, &[3; 1000]);
}

/// Hangs on the private copy that `Back::pop` makes: an envelope is the same when it is checked
/// and when it is used.
#[test]
fn a_slot_that_is_rewritten_while_it_is_read_is_read_once() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use xenvelope_grant::Words as _;
    let (mut lab, mut hostile) = Lab::switched();
    let to = addresses(mac(1), mac(9));
    let page = hostile.grant_page(lab.domid(1), &[7; 4096]);
    let gref = hostile.domain.segments(&page)[0].gref;
    let good = granted(to, head(5, 0), &[(600, &[Segment { gref, offset: 0, len: 600 }])]);
    let bad = granted(to, head(5, 0), &[(4000, &[Segment { gref, offset: 4000, len: 4000 }])]);
    let forged = inline(addresses(mac(1), mac(0)), head(5, 0), &[9; 60]);
    let pad = |bytes: &[u8]| {
        let mut slot = [0; MAX_ENVELOPE];
        slot[..bytes.len()].copy_from_slice(bytes);
        slot
    };
    let slots = [pad(&good), pad(&bad), pad(&forged)];
    let stop = AtomicBool::new(false);
    let layout = xenvelope_switch::channel::LAYOUT;
    for _ in 0..30_000 / 64 {
        for _ in 0..32 {
            hostile.push_envelope(&good);
        }
        std::thread::scope(|scope| {
            let words = hostile.send.words();
            let stop = &stop;
            stop.store(false, Relaxed);
            scope.spawn(move || {
                let mut turn = 0;
                while !stop.load(Relaxed) {
                    for slot in 0..layout.slots as usize {
                        words.copy_in(layout.slots_at + slot * layout.stride, &slots[turn % 3]);
                    }
                    turn += 1;
                }
            });
            lab.steps(2);
            stop.store(true, Relaxed);
        });
    }
    // Torn headers may be anything that passes all checks: never more than that.
    for received in lab.guests[1].take_received() {
        assert!(received.get(6..12) == Some(&mac(9).0[..]), "nothing from a forged source");
    }
    lab.expect_delivery(0, 1, &[3; 1000]);
}

/// Hangs on `unvouched` in `Frontend::take_done`: who can forge a source cannot have a path closed,
/// even if it knows the epoch.
#[test]
fn a_forged_done_that_lies_closes_no_path_where_sources_can_be_forged() {
    let (mut lab, domain, port) = spoofed(PairRoute::NicEnvelope);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.steps(500);
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[SECRET; 1000]);
    lab.steps(3);
    let gref = lab.grants(0, lab.domid(1))[0].0;
    let tag = steal(&lab.guests[1].domain, lab.domid(0), gref, 16, 16).expect("it is granted");
    let epoch = u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]);
    for cumulative in [1, 2, 3, 1000] {
        send_raw(&domain, &port, &done(addresses(mac(0), mac(1)), epoch, cumulative, 7));
    }
    lab.steps(5);
    assert_eq!(lab.guests[0].counters().bad_dones, 4);
    assert_eq!(lab.guests[0].frontend.outstanding(), 1);
    lab.guests[1].asleep = false;
    lab.steps(500);
    lab.guests[1].take_received();
    lab.expect_delivery(0, 1, &[4; 1000]);
    lab.expect_delivery(1, 0, &[4; 1000]);
}
