//! Envelopes that wait for longer than their sender does: the grants that they name have been taken
//! back, and the references may be those of newer frames to the same peer.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_grant::seam::{Access, Buffer as _, Granter as _, Segment};
use xenvelope_hypervisor_sim::machine::{GrantVersion, GrantedBuffer};
use xenvelope_switch::envelope::TAG_LEN;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_switch::{DeliverHead, EnvelopeBuilder};
use xenvelope_tests::lab::envelopes::{addresses, frame_head, head, opened};
use xenvelope_tests::lab::{
    FakeBackend, GuestPlan, HostileGuest, Lab, StockGuest, StockPlan, frame, mac,
};

/// Frame 1 waits in its envelope, beside a small one, for longer than guest 0 does; frame 2 uses
/// its reference again. Then guest 1 wakes up.
fn reused(route: PairRoute) {
    let mut lab = Lab::with_guests(2, &GuestPlan { vf: true, ..GuestPlan::default() });
    lab.all_routes(route);
    lab.expect_delivery(0, 1, &[9; 1000]);
    lab.steps(500);
    let to = lab.domid(1);
    let (sent, small) = (lab.guests[0].counters().envelopes_sent, [7; 60]);
    lab.guests[1].asleep = true;
    // In this order: the buffer that the small one leaves has no reference of its own.
    lab.send(0, 1, &[1; 1000]);
    lab.send(0, 1, &small);
    lab.steps(3);
    assert_eq!(lab.guests[0].counters().envelopes_sent, sent + 1, "both in one envelope");
    let first = lab.grants(0, to);
    lab.pass_ms(600);
    assert_eq!(lab.guests[0].counters().timed_out, 1);
    lab.send(0, 1, &[2; 1000]);
    lab.steps(3);
    assert_eq!(lab.grants(0, to), first, "the reference is used again");
    lab.guests[1].asleep = false;
    lab.steps(500);
    let from_0 = |payload: &[u8]| frame(mac(1), mac(0), payload);
    assert_eq!(lab.guests[1].take_received(), [from_0(&small), from_0(&[2; 1000])]);
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::WrongTag), 1);
    lab.expect_delivery(0, 1, &[3; 1000]);
    lab.expect_delivery(1, 0, &[3; 1000]);
}

/// Hangs on `tagged` in `Frontend::envelope`, and on `tag_matches`.
#[test]
fn a_frame_that_waits_too_long_in_the_driver_domain_is_not_delivered_with_anothers_bytes() {
    reused(PairRoute::Switch);
}

/// As above.
#[test]
fn a_frame_that_waits_too_long_in_a_direct_channel_is_not_delivered_with_anothers_bytes() {
    reused(PairRoute::Direct);
}

/// As above: the card checks sources here.
#[test]
fn a_frame_that_waits_too_long_in_the_card_is_not_delivered_with_anothers_bytes() {
    reused(PairRoute::NicEnvelope);
}

/// A frame for a guest without envelopes waits, with the driver domain asleep for so long.
fn driver_domain_sleeps(ms: u64) {
    let mut lab = Lab::with_guests(1, &GuestPlan::default());
    let mut stock = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    lab.all_routes(PairRoute::Switch);
    let bytes = |fill| frame(mac(1), mac(0), &[fill; 1000]);
    assert!(lab.guests[0].send(&bytes(9)));
    lab.steps(500);
    assert_eq!(stock.take().len(), 1);
    lab.backend_asleep = true;
    assert!(lab.guests[0].send(&bytes(1)));
    lab.steps(3);
    assert_eq!(lab.guests[0].frontend.outstanding(), 1, "in an envelope");
    lab.pass_ms(ms);
    for fill in 2..6 {
        assert!(lab.guests[0].send(&bytes(fill)));
        lab.pass_ms(100);
    }
    lab.backend_asleep = false;
    lab.steps(500);
    let mut came: Vec<Vec<u8>> = stock.take().into_iter().map(|came| came.bytes).collect();
    came.sort();
    assert_eq!(came, [1, 2, 3, 4, 5].map(bytes));
    assert_eq!(lab.guests[0].counters().timed_out, 0);
}

/// Hangs on `PATIENCE` in `Frontend::expire`.
#[test]
fn what_waits_for_a_slow_driver_domain_stays_granted_to_it() {
    driver_domain_sleeps(2000);
}

/// Hangs on `gone` in `Frontend::expire`: the table is not believed any more, and frames take
/// netif, which is the same domain's.
#[test]
fn what_waits_for_a_driver_domain_whose_heart_has_stopped_stays_granted_to_it() {
    driver_domain_sleeps(4000);
}

/// Hangs on `PATIENCE`: it is an end, though.
#[test]
fn what_a_driver_domain_never_takes_comes_back() {
    let mut lab = Lab::with_guests(1, &GuestPlan::default());
    let _stock = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    lab.all_routes(PairRoute::Switch);
    lab.backend_asleep = true;
    assert!(lab.guests[0].send(&frame(mac(1), mac(0), &[1; 1000])));
    lab.steps(3);
    assert_eq!(lab.guests[0].frontend.outstanding(), 1);
    lab.pass_ms(11_000);
    assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    assert_eq!(lab.guests[0].counters().timed_out, 1);
}

/// A frame that guest 1 is granted by a hostile one, after `tag`.
fn tagged_page(
    hostile: &HostileGuest,
    lab: &Lab,
    tag: &[u8],
    payload: &[u8],
) -> (GrantedBuffer, Segment) {
    let peer = lab.guests[1].domain.peer();
    let mut buffer = hostile.domain.take(None, 4096).expect("memory");
    buffer.put(0, tag);
    buffer.put(TAG_LEN, payload);
    let used = 0..TAG_LEN + payload.len();
    let out = hostile.domain.grant(buffer, peer, used, Access::Read).expect("a reference");
    let segment = hostile.domain.segments(&out)[0];
    (out, segment)
}

/// Hangs on `Frontend::take_frames` and `tag_matches`: each frame for itself.
#[test]
fn a_wrong_tag_costs_its_own_frame_where_the_path_vouches() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let mut hostile = HostileGuest::connect(&mut lab, mac(9));
    lab.all_routes(PairRoute::Switch);
    let head = DeliverHead { tagged: true, ..head(5, 0) };
    let tag = head.tag().to_bytes();
    let (_good, good) = tagged_page(&hostile, &lab, &tag, &[1; 500]);
    let (_bad, bad) = tagged_page(&hostile, &lab, &[0; TAG_LEN], &[2; 500]);
    let (_rest, rest) = tagged_page(&hostile, &lab, &tag, &[3; 436]);
    let mut builder = EnvelopeBuilder::deliver(addresses(mac(1), mac(9)), head, None);
    builder.push_granted(frame_head(500), &[bad]).expect("room");
    builder.push_inline(frame_head(10), &[4; 10]).expect("room");
    builder.push_granted_with_headers(frame_head(500), &[3; 64], &[rest]).expect("room");
    builder.push_granted(frame_head(500), &[good]).expect("room");
    let envelope = builder.finish().to_vec();
    // Once more: the window has moved.
    hostile.push_envelope(&envelope);
    hostile.push_envelope(&envelope);
    lab.steps(10);
    let from_9 = |payload: &[u8]| frame(mac(1), mac(9), payload);
    assert_eq!(lab.guests[1].take_received(), [from_9(&[4; 10]), from_9(&[1; 500])]);
    let counters = lab.guests[1].counters();
    assert_eq!(counters.dropped_for(DropReason::WrongTag), 2);
    assert_eq!(counters.dropped_for(DropReason::Replayed), 4);
    lab.expect_delivery(0, 1, &[5; 1000]);
}

/// Hangs on `tagged` in `Frontend::envelope`: who is granted what bears no tag.
#[test]
fn what_was_inspected_and_what_the_driver_domain_copies_bear_no_tag_and_all_else_does() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let peer = fake.other("peer");
    let entry = |number, peer, flags| Entry {
        mac: mac(number),
        vid: 0,
        peer,
        channel: CHANNEL_DRIVER_DOMAIN,
        flags: EntryFlags::ENVELOPE | flags,
    };
    for entry in [
        entry(1, peer.peer(), EntryFlags::empty()),
        // It says what the VF cannot do; this is another path.
        entry(2, peer.peer(), EntryFlags::TAGGED),
        entry(3, peer.peer(), EntryFlags::INSPECT),
        entry(4, fake.dom0.peer(), EntryFlags::empty()),
    ] {
        fake.table.borrow_mut().insert(entry).expect("room");
    }
    for (number, tagged, len) in
        [(1, true, 1016), (2, true, 1016), (3, false, 936), (4, false, 1000)]
    {
        fake.guest.send(&frame(mac(number), mac(0), &[number as u8; 1000]));
        fake.step();
        let envelopes = fake.envelopes();
        let (head, segments) = opened(&envelopes[0]).expect("it carries frames");
        assert_eq!((head.tagged, segments.len(), segments[0].len), (tagged, 1, len), "{number}");
        let reader = if number == 4 { &fake.dom0 } else { &peer };
        let Segment { gref, offset, len } = segments[0];
        let bytes = fake.steal(reader, gref, offset, len).expect("it is granted");
        let tag = if tagged { head.tag().to_bytes().to_vec() } else { Vec::new() };
        assert_eq!(bytes[..tag.len()], tag);
        assert!(bytes[tag.len()..].iter().all(|byte| *byte == number as u8));
    }
}
