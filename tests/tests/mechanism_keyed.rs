//! Grants that bear a key, over every way that envelopes take; and what becomes of the rules.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_grant::seam::{Buffer as _, Copier as _, CopyOp, End, Granter as _, Mechanism};
use xenvelope_hypervisor_sim::machine::{Domain, GrantVersion};
use xenvelope_switch::{Body, Envelope, EnvelopeBuilder};
use xenvelope_tests::lab::envelopes::{addresses, frame_head, head};
use xenvelope_tests::lab::{
    GuestPlan, HostileGuest, Lab, StockGuest, StockPlan, frame, mac, numbered, numbers_from, steal,
};

const WAYS: [PairRoute; 3] = [PairRoute::Switch, PairRoute::Direct, PairRoute::NicEnvelope];

fn plan() -> GuestPlan {
    let config = Config { keyed: true, ..Config::default() };
    GuestPlan { config, vf: true, ..GuestPlan::default() }
}

fn keyed(guests: usize, route: PairRoute) -> Lab {
    let mut lab = Lab::with_guests(guests, &plan());
    lab.all_routes(route);
    lab.steps(500);
    lab
}

/// Copies one piece by its key.
fn use_key(
    by: &Domain,
    dom: xenvelope_grant::DomId,
    segment: xenvelope_grant::seam::Segment,
    key: u64,
) -> Option<Vec<u8>> {
    let src = End::Keyed { dom, gref: segment.gref, offset: segment.offset, key };
    let mut ops = [CopyOp::new(src, End::Local { buffer: 0, offset: 0 }, segment.len)];
    let mut buffers = [by.take(None, 4096).expect("memory")];
    by.copy(&mut ops, &mut buffers).expect("the call");
    ops[0].status.check().ok()?;
    Some(buffers[0].stack_bytes()[..usize::from(segment.len)].to_vec())
}

#[test]
fn frames_of_every_size_arrive_by_every_way_and_nothing_stays_granted() {
    for route in WAYS {
        let mut lab = keyed(2, route);
        for length in [46, 174, 175, 1000, 4080, 4081, 9000, 65_000] {
            lab.expect_delivery(0, 1, &vec![length as u8; length]);
            lab.expect_delivery(1, 0, &vec![length as u8; length]);
        }
        lab.steps(500);
        assert_eq!(lab.guests[0].frontend.outstanding(), 0, "{route:?}: dones come");
        assert_eq!(lab.guests[0].counters().dropped(), 0, "{route:?}");
        let to = lab.domid(1);
        assert!(lab.grants(0, xenvelope_grant::DomId::INVALID).is_empty(), "{route:?}");
        let to_peer = lab.grants(0, to);
        assert!(to_peer.iter().all(|grant| grant.1.bits() & 4 == 0), "{route:?}: none by domain");
    }
}

/// Hangs on `aligned`: a key is good for one operation.
#[test]
fn frames_that_lie_elsewhere_in_their_page_arrive_too() {
    let mut lab = keyed(2, PairRoute::Switch);
    for start in [18, 22, 100, 1000, 4000, 4090] {
        let bytes = frame(mac(1), mac(0), &vec![start as u8; 9000]);
        let guest = &mut lab.guests[0];
        let mut buffer = guest.frontend.buffer(start + bytes.len()).expect("memory");
        let place = start..start + bytes.len();
        buffer.stack_bytes_mut()[place.clone()].copy_from_slice(&bytes);
        guest.frontend.send(buffer, place, Default::default());
        lab.run_until("the frame", |lab| lab.guests[1].received.contains(&bytes));
    }
}

#[test]
fn bursts_arrive_in_order() {
    for route in WAYS {
        let mut lab = keyed(2, route);
        for number in 0..300 {
            lab.send(0, 1, &numbered(number, if number % 3 == 0 { 50 } else { 1400 }));
            if number % 16 == 0 {
                lab.steps(5);
            }
        }
        lab.steps(500);
        let came = numbers_from(mac(0), &lab.guests[1].take_received());
        assert_eq!(came, (0..300).collect::<Vec<_>>(), "{route:?}");
    }
}

#[test]
fn guests_without_envelopes_get_their_frames_by_the_driver_domain_as_ever() {
    let mut lab = keyed(1, PairRoute::Switch);
    let mut stock = StockGuest::connect(&mut lab, mac(5), &StockPlan::default());
    lab.all_routes(PairRoute::Switch);
    let bytes = frame(mac(5), mac(0), &[8; 3000]);
    assert!(lab.guests[0].send(&bytes));
    lab.steps(500);
    assert_eq!(stock.take().into_iter().map(|came| came.bytes).collect::<Vec<_>>(), [bytes]);
}

#[test]
fn a_guest_whose_hypervisor_has_no_keys_is_told_so() {
    use xenvelope_frontend::{Frontend, FrontendError};
    use xenvelope_hypervisor_sim::machine::DomainOptions;
    use xenvelope_hypervisor_sim::nic::DomainPort;
    let lab = Lab::default();
    let options =
        DomainOptions { grant_version: GrantVersion::V1, ..DomainOptions::new("old", 1024) };
    let domain = lab.machine.create(&options).expect("a domain");
    let config = Config { keyed: true, ..Config::default() };
    let refused = Frontend::<Domain, DomainPort>::new(domain, config, None).err();
    let lacks =
        matches!(&refused, Some(FrontendError::Lacks(lacks)) if lacks.0 == Mechanism::Keyed);
    assert!(lacks, "{refused:?}");
}

/// The rule that is weaker: whoever sees the envelope can read the frame, once, and then the
/// receiver cannot. It delivers nothing in its place.
#[test]
fn who_overhears_an_envelope_reads_the_frame_and_the_receiver_gets_nothing() {
    let mut lab = Lab::with_guests(1, &plan());
    let mut spy = HostileGuest::connect(&mut lab, mac(9));
    let other = lab.add_guest(&plan());
    lab.connect();
    lab.all_routes(PairRoute::Switch);
    // The spy is the destination of the first, to see what an envelope looks like.
    lab.guests[0].send(&frame(mac(9), mac(0), &[0xA7; 1000]));
    lab.steps(5);
    let slot = spy.envelopes().pop().expect("an envelope");
    let envelope = Envelope::parse(&slot).expect("an envelope");
    assert_eq!(envelope.mechanism, Mechanism::Keyed);
    let Body::Deliver(deliver) = envelope.body else { panic!("no frame") };
    let segment = deliver.frames.flat_map(|frame| frame.segments).next().expect("a piece");
    let (sender, key) = (lab.domid(0), deliver.head.nonce);
    assert!(steal(&spy.domain, sender, segment.gref, segment.offset, segment.len).is_none());
    let overhearer = lab.guests[other].domain.clone();
    assert!(use_key(&overhearer, sender, segment, key ^ 1).is_none(), "another key");
    let bytes = use_key(&overhearer, sender, segment, key).expect("whoever has the key");
    assert_eq!(bytes[16..], [0xA7; 1000]);
    assert!(use_key(&overhearer, sender, segment, key).is_none(), "once");
    assert!(use_key(&spy.domain, sender, segment, key).is_none(), "not for whom it was, either");
}

#[test]
fn who_has_the_reference_and_guesses_keys_reads_nothing_and_uses_nothing_up() {
    let mut lab = keyed(3, PairRoute::Switch);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.steps(500);
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[0xA7; 1000]);
    lab.steps(3);
    let granted = lab.machine.scan_grants(lab.domid(0)).into_iter();
    let keyed: Vec<_> =
        granted.filter(|(_, to, _)| *to == xenvelope_grant::DomId::INVALID).collect();
    assert_eq!(keyed.len(), 1, "{keyed:?}");
    let segment = xenvelope_grant::seam::Segment { gref: keyed[0].0, offset: 16, len: 1016 };
    for key in 0..10_000 {
        assert!(use_key(&lab.guests[2].domain, lab.domid(0), segment, key).is_none());
    }
    lab.guests[1].asleep = false;
    lab.steps(50);
    assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(0), &[0xA7; 1000])]);
}

/// Hangs on the switch's check of the source, and on the key: a forged envelope names references
/// without the right key, and uses nothing up.
#[test]
fn a_guest_that_forges_envelopes_neither_delivers_nor_uses_up_anything() {
    let mut lab = Lab::with_guests(2, &plan());
    let mut hostile = HostileGuest::connect(&mut lab, mac(9));
    lab.all_routes(PairRoute::Switch);
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[0xA7; 1000]);
    lab.steps(3);
    let granted = lab.machine.scan_grants(lab.domid(0)).into_iter();
    let mut grefs =
        granted.filter(|(_, to, _)| *to == xenvelope_grant::DomId::INVALID).map(|(gref, ..)| gref);
    let gref = grefs.next_back().expect("it is granted");
    let segment = [xenvelope_grant::seam::Segment { gref, offset: 32, len: 1000 }];
    for source in [mac(9), mac(0)] {
        let mut builder = EnvelopeBuilder::deliver(addresses(mac(1), source), head(5, 0), None);
        builder.push_granted(frame_head(1000), &segment).expect("it fits");
        builder.mark(Mechanism::Keyed);
        let bytes = builder.finish().to_vec();
        hostile.push_envelope(&bytes);
    }
    lab.steps(5);
    lab.guests[1].asleep = false;
    lab.steps(50);
    assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(0), &[0xA7; 1000])]);
    assert_eq!(
        lab.guests[1].counters().dropped_for(DropReason::CopyFailed),
        1,
        "as the hostile one"
    );
    lab.expect_delivery(0, 1, &[3; 1000]);
}

/// Rule 3: what nobody used is taken back.
#[test]
fn what_a_sleeping_receiver_does_not_copy_is_taken_back() {
    let mut lab = keyed(2, PairRoute::Switch);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.steps(500);
    lab.guests[1].asleep = true;
    for _ in 0..5 {
        lab.send(0, 1, &[2; 1000]);
    }
    lab.steps(3);
    assert_eq!(lab.grants(0, xenvelope_grant::DomId::INVALID).len(), 5);
    lab.pass_ms(700);
    assert_eq!(lab.grants(0, xenvelope_grant::DomId::INVALID).len(), 0);
    assert_eq!(lab.guests[0].counters().timed_out, 5);
    lab.guests[1].asleep = false;
    lab.steps(100);
    assert!(lab.guests[1].take_received().is_empty());
    lab.expect_delivery(0, 1, &[3; 1000]);
}
