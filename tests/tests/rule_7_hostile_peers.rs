//! Rule 7: a misbehaving peer costs itself its path, and nobody else anything.

use proptest::prelude::*;
use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason, Link};
use xenvelope_grant::netif::{RxResponse, TxRequest, TxResponse};
use xenvelope_grant::seam::{Granter as _, Segment};
use xenvelope_grant::xenbus::{Transaction, XenbusState, key};
use xenvelope_grant::{DomId, Gref};
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::channel;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::envelopes::{addresses, done, granted, head, inline, opened};
use xenvelope_tests::lab::{FakeBackend, GuestPlan, HostileGuest, Lab, frame, mac};

fn others_go_on(lab: &mut Lab) {
    lab.expect_delivery(0, 1, &[2; 60]);
    lab.expect_delivery(1, 0, &[2; 1000]);
    assert_eq!(lab.guests[0].frontend.link(), Link::Up);
}

/// Hangs on `pending` in the ring. (netif's own rings: `hostile/frontend_to_backend/xsa_39.rs`.)
#[test]
fn a_guest_whose_envelope_index_runs_ahead_is_closed_and_others_go_on() {
    let (mut lab, hostile) = Lab::switched();
    HostileGuest::overrun(hostile.send.words(), channel::LAYOUT.req_prod);
    lab.steps(10);
    assert!(hostile.is_closed());
    assert_eq!(lab.backend.counters().closed_hostile, 1);
    others_go_on(&mut lab);
}

/// Hangs on the backend closing an interface whose receive side is broken, too.
#[test]
fn a_guest_that_breaks_the_ring_that_it_gets_envelopes_by_is_closed_and_others_go_on() {
    let (mut lab, hostile) = Lab::switched();
    HostileGuest::overrun(hostile.receive.words(), channel::LAYOUT.rsp_prod);
    for _ in 0..70 {
        for _ in 0..2 {
            lab.guests[0].send(&frame(mac(9), mac(0), &[1; 60]));
        }
        lab.steps(1);
    }
    lab.guests[0].take_received();
    others_go_on(&mut lab);
    assert!(hostile.is_closed());
}

/// Hangs on `Frontend::collect`: an index that runs ahead ends the connection. (netif's own
/// rings: `hostile/backend_to_frontend/netfront_goes_broken.rs`.)
#[test]
fn a_driver_domain_whose_envelope_index_runs_ahead_loses_the_connection() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    HostileGuest::overrun(fake.send.words(), channel::LAYOUT.req_prod);
    fake.step();
    fake.step();
    assert_eq!(fake.guest.frontend.link(), Link::Closed);
    assert!(fake.guest.received.is_empty());
}

/// Hangs on each operation's own status in `copy_and_deliver`.
#[test]
fn one_frame_that_cannot_be_copied_does_not_spoil_the_others() {
    let (mut lab, mut hostile) = Lab::switched();
    let page = hostile.grant_page(lab.domid(1), &[7; 4096]);
    let good = [Segment { gref: hostile.domain.segments(&page)[0].gref, offset: 0, len: 600 }];
    let bad = [Segment { gref: Gref(0x00FF_FFFF), ..good[0] }];
    let to = addresses(mac(1), mac(9));
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[3; 1000]);
    hostile.push_envelope(&granted(to, head(5, 0), &[(600, &good), (600, &bad), (600, &good)]));
    hostile.push_envelope(&granted(to, head(5, 1), &[(600, &bad)]));
    hostile.push_envelope(&granted(to, head(5, 2), &[(600, &good)]));
    lab.steps(5);
    lab.guests[1].asleep = false;
    lab.steps(10);
    let received = lab.guests[1].take_received();
    let hostile_s = frame(mac(1), mac(9), &[7; 600]);
    assert_eq!(received.iter().filter(|bytes| **bytes == hostile_s).count(), 3);
    assert!(received.contains(&frame(mac(1), mac(0), &[3; 1000])));
    assert_eq!(received.len(), 4);
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::CopyFailed), 2);
}

/// Hangs on `copied` in `copy_and_deliver`, and in the backend's `copy_all`.
#[test]
fn nothing_is_delivered_when_the_copy_call_fails_and_all_goes_on_when_it_works_again() {
    for route in [PairRoute::Switch, PairRoute::Bridge] {
        let (mut lab, _hostile) = Lab::switched();
        lab.all_routes(route);
        lab.expect_delivery(0, 1, &[1; 1000]);
        lab.machine.fail_copy_calls(true);
        for _ in 0..5 {
            lab.send(0, 1, &[2; 1000]);
        }
        lab.steps(50);
        assert!(lab.guests[1].received.is_empty(), "{route:?}");
        lab.machine.fail_copy_calls(false);
        lab.steps(50);
        assert!(lab.guests[1].received.is_empty(), "{route:?}");
        lab.expect_delivery(0, 1, &[3; 1000]);
        lab.steps(500);
        assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    }
}

/// Hangs on `ReceiveWindow::check`.
#[test]
fn an_envelope_that_is_sent_again_is_not_delivered_again() {
    let (mut lab, mut hostile) = Lab::switched();
    let to = addresses(mac(1), mac(9));
    for sequence in [0, 0, 1, 0, 1, 3, 3, 2, 3] {
        hostile.push_envelope(&inline(to, head(5, sequence), &[sequence as u8; 60]));
    }
    lab.steps(10);
    let numbers: Vec<u8> = lab.guests[1].received.iter().map(|bytes| bytes[14]).collect();
    assert_eq!(numbers, [0, 1, 3, 2]);
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::Replayed), 5);
}

/// The head of the envelope that guest 0 sends to the hostile guest, not yet done.
fn sent_to(lab: &mut Lab, hostile: &mut HostileGuest) -> xenvelope_switch::DeliverHead {
    lab.guests[0].send(&frame(mac(9), mac(0), &[1; 1000]));
    lab.steps(5);
    let envelopes = hostile.envelopes();
    opened(envelopes.last().expect("an envelope")).expect("frames").0
}

/// Hangs on `SendWindow::finish`, which finds nothing left.
#[test]
fn a_done_that_is_said_again_changes_nothing() {
    let (mut lab, mut hostile) = Lab::switched();
    let first = sent_to(&mut lab, &mut hostile);
    let said = done(addresses(mac(0), mac(9)), first.epoch, first.sequence + 1, first.nonce);
    for _ in 0..5 {
        hostile.push_envelope(&said);
    }
    lab.steps(5);
    assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    let second = sent_to(&mut lab, &mut hostile);
    hostile.push_envelope(&said);
    lab.steps(5);
    assert_eq!(lab.guests[0].frontend.outstanding(), 1, "the old done is not for the new frame");
    assert_ne!(first.nonce, second.nonce);
    assert_eq!(lab.guests[0].counters().bad_dones, 0);
    others_go_on(&mut lab);
}

/// Hangs on `SendWindow::check`.
#[test]
fn a_peer_that_says_done_to_what_was_never_sent_loses_its_path_and_nobody_else_does() {
    for lie in 0..2 {
        let (mut lab, mut hostile) = Lab::switched();
        let sent = sent_to(&mut lab, &mut hostile);
        let (cumulative, nonce) = if lie == 0 { (77, sent.nonce) } else { (1, sent.nonce ^ 1) };
        hostile.push_envelope(&done(addresses(mac(0), mac(9)), sent.epoch, cumulative, nonce));
        lab.steps(5);
        assert_eq!(lab.guests[0].counters().bad_dones, 1);
        assert_eq!(lab.guests[0].frontend.outstanding(), 1, "its page does not come back so");
        lab.guests[0].send(&frame(mac(9), mac(0), &[1; 1000]));
        hostile.push_envelope(&inline(addresses(mac(0), mac(9)), head(5, 0), &[1; 60]));
        lab.steps(5);
        assert_eq!(lab.guests[0].counters().dropped_for(DropReason::PeerClosed), 2);
        assert!(lab.guests[0].received.is_empty());
        others_go_on(&mut lab);
        lab.pass_ms(600);
        assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    }
}

/// Hangs on `closed` being looked at after a done that rides along, too.
#[test]
fn frames_that_ride_with_a_false_done_are_not_delivered() {
    use xenvelope_switch::{Done, EnvelopeBuilder};
    let (mut lab, mut hostile) = Lab::switched();
    let sent = sent_to(&mut lab, &mut hostile);
    let lie = Done { epoch: sent.epoch, cumulative: 77, selective: 0, nonce: 1 };
    let to = addresses(mac(0), mac(9));
    let mut builder = EnvelopeBuilder::deliver(to, head(5, 0), Some(lie));
    let frame_head = xenvelope_tests::lab::envelopes::frame_head(60);
    builder.push_inline(frame_head, &[1; 60]).expect("it fits");
    hostile.push_envelope(builder.finish());
    lab.steps(5);
    assert!(lab.guests[0].received.is_empty());
}

/// Hangs on `Frontend::poll_direct` going on with the others when one cannot be arranged.
#[test]
fn a_guest_that_gives_false_references_for_a_direct_channel_keeps_nobody_from_having_one() {
    let mut lab = Lab::with_guests(1, &GuestPlan::default());
    let hostile = HostileGuest::connect(&mut lab, mac(9));
    lab.all_routes(PairRoute::Direct);
    let offered = hostile.back.child(key::DIRECT).and_then(|all| all.child(2)).expect("a path");
    lab.run_until("the offer", |_| offered.text(&hostile.domain, key::ROLE).is_ok());
    let ours = hostile.front.child(key::DIRECT).and_then(|all| all.child(2)).expect("a path");
    let refs: Vec<Gref> = (0..5).map(|index| Gref(0x00FF_0000 + index)).collect();
    let reader = Some(DomId::DOM0);
    let mut keys = Transaction::new();
    keys.write(&ours, key::EVENT_CHANNEL, 3, reader)
        .refs(&ours, key::ENVELOPE_TX_RING_REF, &refs, reader)
        .state(&ours, XenbusState::Connected, reader);
    keys.commit(&hostile.domain).expect("its own directory");
    lab.steps(200);
    // Now somebody comes whose number at guest 0 is the next one.
    lab.add_guest(&GuestPlan::default());
    lab.connect();
    lab.steps(200);
    others_go_on(&mut lab);
    assert_eq!(lab.guests[0].frontend.direct_channels(), 1);
    assert_eq!(lab.guests[1].frontend.direct_channels(), 1);
}

/// Bytes that are nearly an envelope: a good one, with some bytes changed.
fn nearly_an_envelope() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let segment = (any::<u32>(), any::<u16>(), any::<u16>());
    let segments = prop::collection::vec(segment, 1..6);
    let good = (any::<u32>(), 0..700u32, segments, any::<bool>(), 0..4000u16);
    (good, changes, 0..2usize).prop_map(
        |((epoch, sequence, segments, tagged, total), changes, to)| {
            let segments: Vec<Segment> = segments
                .iter()
                .map(|(gref, offset, len)| {
                    let offset = offset % 4096;
                    Segment { gref: Gref(gref % 64), offset, len: len % (4096 - offset) + 1 }
                })
                .collect();
            let sum: u32 = segments.iter().map(|segment| u32::from(segment.len)).sum();
            let total = if total % 4 == 0 { total } else { sum as u16 };
            let head = xenvelope_switch::DeliverHead { tagged, ..head(epoch % 4, sequence) };
            let mut bytes = granted(addresses(mac(to), mac(9)), head, &[(total, &segments)]);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes
        },
    )
}

fn slot() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 256),
        6 => nearly_an_envelope(),
    ]
}

fn tx_request() -> impl Strategy<Value = TxRequest> {
    let wild = (any::<u32>(), any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>());
    let tame = (0..64u32, 0..4096u16, 0..16u16, 0..256u16, 0..5000u16);
    prop_oneof![wild, tame].prop_map(|(gref, offset, flags, id, size)| TxRequest {
        gref,
        offset,
        flags,
        id,
        size,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Hangs on the validation in `Envelope::parse`, and on the checks in `take_envelope`.
    #[test]
    fn whatever_a_guest_writes_into_its_envelope_slots_others_go_on(
        slots in prop::collection::vec(slot(), 1..60),
    ) {
        let (mut lab, mut hostile) = Lab::switched();
        for slot in slots {
            hostile.push_envelope(&slot);
        }
        lab.steps(10);
        lab.guests.iter_mut().for_each(|guest| drop(guest.take_received()));
        others_go_on(&mut lab);
    }

    /// Hangs on `assemble`.
    #[test]
    fn whatever_a_guest_requests_by_netif_others_go_on(
        requests in prop::collection::vec(tx_request(), 1..100),
    ) {
        let (mut lab, mut hostile) = Lab::switched();
        for request in requests {
            let _ = hostile.tx.push(&request);
        }
        let _ = hostile.tx.publish();
        lab.steps(10);
        lab.guests.iter_mut().for_each(|guest| drop(guest.take_received()));
        others_go_on(&mut lab);
    }

    /// Hangs on the netif receiver's `checked`, on the transmitter's ids and on the parser.
    #[test]
    fn whatever_a_driver_domain_answers_its_guest_does_not_panic(
        answers in prop::collection::vec((0..260u16, 0..4200u16, 0..32u16, -3..4200i16), 1..40),
        wild in prop::collection::vec((0..260u16, -3..2i16), 0..10),
        slots in prop::collection::vec(slot(), 0..10),
        in_order: bool,
    ) {
        let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
        let peer = fake.other("peer").peer();
        let (channel, flags) = (CHANNEL_DRIVER_DOMAIN, EntryFlags::ENVELOPE);
        let entry = Entry { mac: mac(9), vid: 0, peer, channel, flags };
        fake.table.borrow_mut().insert(entry).expect("room");
        for _ in 0..8 {
            fake.guest.send(&frame(mac(3), mac(0), &[1; 5000]));
        }
        fake.step();
        for (id, offset, flags, status) in answers {
            let request = fake.rx.pop();
            let id = if in_order { request.id } else { id };
            let _ = fake.rx.push(&RxResponse { id, offset, flags, status });
        }
        let _ = fake.rx.publish();
        for (id, status) in wild {
            let _ = fake.tx.pop();
            let _ = fake.tx.push(&TxResponse { id, status });
        }
        let _ = fake.tx.publish();
        for slot in slots {
            fake.push_envelope(&slot);
        }
        for _ in 0..5 {
            fake.step();
        }
        for received in &fake.guest.received {
            prop_assert!(received.len() <= xenvelope_switch::MAX_FRAME);
        }
    }
}
