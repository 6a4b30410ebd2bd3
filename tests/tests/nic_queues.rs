//! Cards of types 1 and 2 below the whole: queues into guests' own buffers, and VFs that lead to
//! the outside only.

use std::collections::BTreeSet;

use xenvelope_backend::{DefaultRoute, Member, PairRoute};
use xenvelope_frontend::Link;
use xenvelope_grant::netif::{RSP_ERROR, RxRequest};
use xenvelope_grant::seam::ReceiveArea as _;
use xenvelope_hypervisor_sim::host::VfHolder;
use xenvelope_hypervisor_sim::nic::{NicConfig, NicKind, Translation, WireEnd};
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::{GuestPlan, HostileGuest, Lab, frame, mac};

const OUTSIDE: MacAddress = MacAddress([0x02, 0x99, 0, 0, 0, 1]);

fn lab(card: NicConfig, held_by: VfHolder, vfs: &[bool]) -> (Lab, WireEnd) {
    let mut lab = Lab::with_card(card, held_by, Default::default());
    for &vf in vfs {
        lab.add_guest(&GuestPlan { vf, ..GuestPlan::default() });
    }
    let wire = lab.nic.wire().expect("nobody has the wire");
    lab.connect();
    (lab, wire)
}

/// Every card by whose ports the driver domain serves guests.
fn cards() -> Vec<(NicConfig, VfHolder)> {
    let card = |kind, held_by, translation| {
        (NicConfig { kind, translation, ..NicConfig::default() }, held_by)
    };
    let mut cards = Vec::new();
    for translation in [Translation::Iommu, Translation::Nic, Translation::None] {
        cards.push(card(NicKind::MultiQueue, VfHolder::Guests, translation));
        cards.push(card(NicKind::Switching, VfHolder::DriverDomain, translation));
    }
    cards
}

fn frames_out(wire: &WireEnd) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.receive()).collect()
}

fn queue_frames(lab: &Lab, guest: usize) -> u64 {
    lab.guests[guest].counters().received_by.queue_frames
}

/// More than a ring's worth, so that buffers are posted again. No processor copies any, and they
/// come in order.
#[test]
fn what_comes_from_outside_is_in_the_guests_own_buffers() {
    for (card, held_by) in cards() {
        let (mut lab, wire) = lab(card, held_by, &[false, false]);
        let copied = lab.dom0.counters().copied_bytes;
        let sent: Vec<Vec<u8>> =
            (0..600u16).map(|n| frame(mac(0), OUTSIDE, &n.to_le_bytes().repeat(300))).collect();
        for batch in sent.chunks(60) {
            for frame in batch {
                wire.send(frame).expect("room on the wire");
            }
            lab.steps(3);
        }
        lab.steps(10);
        assert_eq!(lab.guests[0].take_received(), sent);
        assert_eq!(queue_frames(&lab, 0), 600);
        assert_eq!(lab.backend.counters().queue_in, 600);
        assert_eq!(lab.dom0.counters().copied_bytes, copied, "nobody copied");
        assert_eq!(lab.guests[0].domain.counters().copied_bytes, 0);
        assert!(lab.guests[1].received.is_empty());
    }
}

/// What is sent, what goes from guest to guest, and what is for all goes by the driver domain's
/// switch, and arrives once.
#[test]
fn the_rest_goes_by_the_driver_domain() {
    for (card, held_by) in cards() {
        let (mut lab, wire) = lab(card, held_by, &[false, false]);
        lab.expect_delivery(0, 1, &[7; 1000]);
        let out = frame(OUTSIDE, mac(0), &[1; 100]);
        assert!(lab.guests[0].send(&out));
        let all = frame(MacAddress::BROADCAST, mac(0), &[2; 100]);
        assert!(lab.guests[0].send(&all));
        let from_outside = frame(MacAddress::BROADCAST, OUTSIDE, &[3; 100]);
        wire.send(&from_outside).expect("room on the wire");
        lab.steps(20);
        assert_eq!(frames_out(&wire), [out, all.clone()]);
        assert_eq!(lab.guests[0].take_received(), std::slice::from_ref(&from_outside));
        let mut at_other = lab.guests[1].take_received();
        at_other.sort();
        let mut both = [all, from_outside];
        both.sort();
        assert_eq!(at_other, both);
        assert_eq!((queue_frames(&lab, 0), queue_frames(&lab, 1)), (0, 0));
    }
}

/// One queue for two guests: the other's frames come by the driver domain's own port. When the
/// first ends, the queue is the other's.
#[test]
fn a_guest_without_a_queue_is_reached_by_the_driver_domain_and_gets_the_next_that_is_free() {
    let card = NicConfig { kind: NicKind::MultiQueue, vfs: 1, ..NicConfig::default() };
    let (mut lab, wire) = lab(card, VfHolder::Guests, &[false, false]);
    let with: Vec<usize> = (0..2).filter(|guest| lab.backend.has_queue(mac(*guest))).collect();
    let [first] = with[..] else { panic!("{with:?} have a queue") };
    let second = 1 - first;
    let expect = |lab: &mut Lab, guest: usize, by_queue: bool| {
        let sent = frame(mac(guest), OUTSIDE, &[5; 500]);
        let before = queue_frames(lab, guest);
        wire.send(&sent).expect("room on the wire");
        lab.steps(20);
        assert_eq!(lab.guests[guest].take_received(), [sent], "guest {guest}");
        assert_eq!(queue_frames(lab, guest) - before, u64::from(by_queue), "guest {guest}");
    };
    expect(&mut lab, first, true);
    expect(&mut lab, second, false);
    lab.guests[first].frontend.close();
    lab.steps(20);
    assert_eq!(lab.guests[first].frontend.link(), Link::Closed);
    lab.run_until("the queue", |lab| lab.backend.has_queue(mac(second)));
    expect(&mut lab, second, true);
}

/// The queue is opened anew for the guest's VLAN. What the guest has posted goes along: it loses
/// no buffer and no frame.
#[test]
fn a_queue_follows_its_guest_into_another_vlan() {
    let card = NicConfig { kind: NicKind::MultiQueue, ..NicConfig::default() };
    let (mut lab, wire) = lab(card, VfHolder::Guests, &[false]);
    let networks = BTreeSet::from([0]);
    for vlan in [5, 0, 7] {
        let default_route = DefaultRoute::Auto;
        let member =
            Member { networks: networks.clone(), default_route, vlan, ..Member::default() };
        lab.manager().set_member(mac(0), member);
        lab.steps(5);
        let inner = frame(mac(0), OUTSIDE, &[vlan as u8; 300]);
        let mut tagged = inner.clone();
        if vlan != 0 {
            tagged.splice(12..12, [0x81, 0, 0, vlan as u8]);
        }
        for _ in 0..100 {
            wire.send(&tagged).expect("room on the wire");
        }
        lab.steps(20);
        assert_eq!(lab.guests[0].take_received(), vec![inner; 100], "VLAN {vlan}");
    }
    assert_eq!(queue_frames(&lab, 0), 300);
    assert_eq!(lab.guests[0].counters().dropped(), 0);
}

/// Hangs on `NicQueue::serve`: an index that runs ahead closes the interface.
#[test]
fn a_guest_whose_queue_ring_runs_ahead_is_closed_and_others_go_on() {
    let card = NicConfig { kind: NicKind::MultiQueue, ..NicConfig::default() };
    let (mut lab, wire) = lab(card, VfHolder::Guests, &[false, false]);
    let hostile = HostileGuest::connect(&mut lab, mac(9));
    assert!(lab.backend.has_queue(mac(9)));
    HostileGuest::overrun(hostile.queue.as_ref().expect("a ring").0.words(), 0);
    lab.steps(10);
    assert!(hostile.is_closed());
    assert_eq!(lab.backend.counters().closed_hostile, 1);
    lab.expect_delivery(0, 1, &[1; 100]);
    wire.send(&frame(mac(0), OUTSIDE, &[2; 100])).expect("room on the wire");
    lab.steps(10);
    assert_eq!(queue_frames(&lab, 0), 1);
}

/// References that name nothing, or pages that were granted to nobody: each is answered with an
/// error, in order, and the good ones between them are filled.
#[test]
fn a_guest_that_posts_what_it_has_not_granted_gets_errors_and_others_frames() {
    for (card, held_by) in cards() {
        let (mut lab, wire) = lab(card, held_by, &[false]);
        let mut hostile = HostileGuest::connect(&mut lab, mac(9));
        let (ring, area) = hostile.queue.as_mut().expect("a ring");
        let good = area.open(2).expect("a page");
        for (id, gref) in [(0, u32::MAX), (1, 1000), (2, good.0), (3, 0)] {
            let _ = ring.push(&RxRequest { id, pad: 0, gref });
        }
        let _ = ring.publish();
        lab.steps(5);
        let sent = frame(mac(9), OUTSIDE, &[6; 400]);
        wire.send(&sent).expect("room on the wire");
        wire.send(&frame(mac(0), OUTSIDE, &[7; 400])).expect("room on the wire");
        lab.steps(10);
        let count = ring.pending().expect("honest answers");
        let answers: Vec<_> = (0..count).map(|_| ring.pop()).collect();
        let ids: Vec<u16> = answers.iter().map(|answer| answer.id).collect();
        let status: Vec<i16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!(status, [RSP_ERROR, RSP_ERROR, sent.len() as i16, RSP_ERROR]);
        assert!(area.close(2).is_ok(), "nobody has the page any more");
        assert_eq!(area.stack_bytes(8192..8192 + sent.len()), Some(&sent[..]));
        assert_eq!(queue_frames(&lab, 0), 1);
        assert_eq!(lab.nic.total_counters().dma_fault, 0);
    }
}

/// Type 2: whatever is asked for, nothing goes from one VF to another.
#[test]
fn type_2_reaches_the_outside_by_vfs_and_guests_by_channels() {
    let card = NicConfig { kind: NicKind::DirectIo, ..NicConfig::default() };
    let (mut lab, wire) = lab(card, VfHolder::Guests, &[true, true, false]);
    for route in [PairRoute::Auto, PairRoute::NicFrame, PairRoute::NicEnvelope, PairRoute::Direct] {
        lab.all_routes(route);
        lab.expect_delivery(0, 1, &[1; 1000]);
        lab.expect_delivery(1, 2, &[2; 1000]);
        lab.expect_delivery(2, 0, &[3; 1000]);
    }
    assert_eq!(frames_out(&wire).len(), 0, "nothing between guests left by the wire");
    let vf_frames = |lab: &Lab| lab.guests[0].counters().sent_by.vf_frames;
    assert_eq!(vf_frames(&lab), 0);
    // A while after the path of floods has changed.
    lab.pass_ms(30);
    // Outside directly; for all by the driver domain, and once each.
    let out = frame(OUTSIDE, mac(0), &[4; 100]);
    assert!(lab.guests[0].send(&out));
    lab.steps(20);
    assert_eq!(vf_frames(&lab), 1);
    assert_eq!(frames_out(&wire), [out]);
    let all = frame(MacAddress::BROADCAST, mac(0), &[5; 100]);
    assert!(lab.guests[0].send(&all));
    lab.steps(20);
    assert_eq!(frames_out(&wire), std::slice::from_ref(&all));
    let from_outside = frame(MacAddress::BROADCAST, OUTSIDE, &[6; 100]);
    let to_one = frame(mac(0), OUTSIDE, &[7; 100]);
    wire.send(&from_outside).expect("room on the wire");
    wire.send(&to_one).expect("room on the wire");
    lab.steps(20);
    let mut at_first = lab.guests[0].take_received();
    at_first.sort_by_key(|frame| frame[14]);
    assert_eq!(at_first, [from_outside.clone(), to_one]);
    assert_eq!(lab.guests[0].counters().received_by.vf_frames, 1);
    for other in [1, 2] {
        assert_eq!(lab.guests[other].take_received(), [all.clone(), from_outside.clone()]);
        assert_eq!(lab.guests[other].counters().dropped(), 0);
    }
}
