//! Frames that the driver domain passes on: the sender grants to it, and the receiver copies by
//! its transitive grants.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::DropReason;
use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_grant::DomId;
use xenvelope_grant::entry::{EntryKind, GrantFlags};
use xenvelope_grant::netif::TxFlags;
use xenvelope_grant::seam::{Buffer as _, Granter as _, Host as _, Mechanism, Offload, Segment};
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::{Addresses, EnvelopeBuilder};
use xenvelope_tests::lab::envelopes::{addresses, frame_head, head};
use xenvelope_tests::lab::{
    GuestPlan, HostileGuest, Lab, StockGuest, StockPlan, frame, mac, numbered, numbers_from,
};

fn passing(guests: usize) -> Lab {
    let mut lab = Lab::with_guests(guests, &GuestPlan::default());
    lab.all_routes(PairRoute::BridgeReceiverCopy);
    lab
}

/// What the driver domain passes on at present: to whom.
fn passed_on(lab: &Lab) -> Vec<DomId> {
    let grants = lab.machine.scan_grants(lab.dom0.domid());
    let transitive =
        |flags: &u16| GrantFlags::from_bits_retain(*flags).kind() == EntryKind::Transitive;
    grants.iter().filter(|(.., flags)| transitive(flags)).map(|(_, to, _)| *to).collect()
}

#[test]
fn frames_of_every_size_arrive_and_the_receiver_copies_them() {
    let mut lab = passing(2);
    let before = (lab.dom0.counters(), lab.guests[1].domain.counters());
    let mut sent = 0;
    for length in [1, 46, 113, 114, 115, 128, 174, 175, 1000, 1500, 4096, 9000, 20_000, 65_000] {
        lab.expect_delivery(0, 1, &vec![length as u8; length]);
        sent += length as u64;
    }
    let backend = lab.backend.counters();
    assert_eq!((backend.passed_on, backend.netif_out), (10, 0), "all above 128 bytes");
    let driver = lab.dom0.counters() - before.0;
    let receiver = lab.guests[1].domain.counters() - before.1;
    assert!(driver.copied_bytes <= 14 * 128, "it looks at the beginning: {driver:?}");
    assert!(receiver.copied_bytes > sent - 10 * 128, "{receiver:?}");
    lab.steps(50);
    assert_eq!(passed_on(&lab), [], "nothing stays passed on");
    assert_eq!(
        lab.grants(0, DomId::DOM0)
            .iter()
            .filter(|grant| grant.1.contains(GrantFlags::READONLY))
            .count(),
        0
    );
}

#[test]
fn a_burst_arrives_in_order_both_ways() {
    let mut lab = passing(2);
    for number in 0..400 {
        let length = if number % 3 == 0 { 50 } else { 1400 };
        lab.send(0, 1, &numbered(number, length));
        lab.send(1, 0, &numbered(number, length));
        if number % 16 == 0 {
            lab.steps(2);
        }
    }
    lab.steps(200);
    let in_order: Vec<u64> = (0..400).collect();
    assert_eq!(numbers_from(mac(0), &lab.guests[1].take_received()), in_order);
    assert_eq!(numbers_from(mac(1), &lab.guests[0].take_received()), in_order);
}

#[test]
fn a_guest_whose_driver_knows_netif_only_needs_no_change_to_send() {
    let mut lab = passing(1);
    let mut stock = StockGuest::connect(&mut lab, mac(5), &StockPlan::default());
    lab.all_routes(PairRoute::BridgeReceiverCopy);
    let bytes = frame(mac(0), mac(5), &[7; 3000]);
    stock.send(0, &bytes, TxFlags::empty(), None);
    lab.run_until("the frame", |lab| lab.guests[0].received.contains(&bytes));
    assert_eq!(lab.backend.counters().passed_on, 1);
    // The other way it is copied for: it takes no envelopes.
    lab.guests[0].send(&frame(mac(5), mac(0), &[8; 3000]));
    lab.steps(20);
    assert_eq!(stock.take().len(), 1);
    assert_eq!(lab.backend.counters().passed_on, 1);
}

#[test]
fn a_driver_domain_without_transitive_grants_copies_itself() {
    let mut lab = Lab::with_driver_version(GrantVersion::V1);
    assert!(lab.dom0.has(Mechanism::Transitive).is_err());
    lab.add_guest(&GuestPlan::default());
    lab.add_guest(&GuestPlan::default());
    lab.connect();
    lab.all_routes(PairRoute::BridgeReceiverCopy);
    lab.expect_delivery(0, 1, &[7; 3000]);
    assert_eq!((lab.backend.counters().passed_on, lab.backend.counters().netif_out), (0, 1));
}

/// Rule 3, for the sender: its slots are answered in the end. And what is not passed on any more
/// cannot be read by a receiver that wakes up late.
#[test]
fn a_receiver_that_sleeps_holds_a_sender_up_for_a_bounded_time_and_reads_nothing_later() {
    let mut lab = passing(3);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.guests[1].asleep = true;
    for _ in 0..8 {
        lab.send(0, 1, &[2; 1000]);
    }
    lab.steps(20);
    let receiver = lab.domid(1);
    assert_eq!(passed_on(&lab), vec![receiver; 8]);
    // Others are served meanwhile, as long as the sender's ring has room.
    lab.expect_delivery(0, 2, &[3; 1000]);
    lab.pass_ms(2000);
    assert_eq!(passed_on(&lab), []);
    // The sender uses its pages for something else, which is not the receiver's.
    for number in 0..20 {
        lab.expect_delivery(0, 2, &numbered(number, 1000));
    }
    lab.guests[1].asleep = false;
    lab.steps(50);
    assert!(lab.guests[1].take_received().is_empty());
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::CopyFailed), 8);
    lab.expect_delivery(0, 1, &[4; 1000]);
}

#[test]
fn a_receiver_that_goes_leaves_no_sender_waiting() {
    let mut lab = passing(3);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.guests[1].asleep = true;
    for _ in 0..8 {
        lab.send(0, 1, &[2; 1000]);
    }
    lab.steps(20);
    lab.guests[1].asleep = false;
    lab.guests[1].frontend.close();
    lab.steps(100);
    assert_eq!(passed_on(&lab), []);
    let readable = lab.grants(0, DomId::DOM0);
    assert!(readable.iter().all(|grant| !grant.1.contains(GrantFlags::READONLY)), "{readable:?}");
    lab.expect_delivery(0, 2, &[3; 1000]);
}

#[test]
fn a_sender_that_goes_takes_its_frames_with_it() {
    let mut lab = passing(3);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[2; 1000]);
    lab.steps(20);
    lab.guests[0].frontend.close();
    lab.steps(100);
    lab.guests[1].asleep = false;
    lab.steps(100);
    assert!(lab.guests[1].take_received().len() <= 1);
    assert_eq!(passed_on(&lab), []);
    lab.expect_delivery(2, 1, &[3; 1000]);
}

/// More than a receiver may be passed is dropped, and it is itself that loses it.
#[test]
fn a_receiver_that_never_answers_costs_a_bounded_number_of_references() {
    let mut lab = passing(3);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.guests[1].asleep = true;
    for _ in 0..40 {
        for _ in 0..60 {
            lab.send(0, 1, &[2; 1000]);
        }
        lab.pass_ms(1600);
    }
    let references = lab.machine.scan_grants(lab.dom0.domid()).len();
    for _ in 0..10 {
        for _ in 0..60 {
            lab.send(0, 1, &[2; 1000]);
        }
        lab.pass_ms(1600);
    }
    assert_eq!(lab.machine.scan_grants(lab.dom0.domid()).len(), references);
    let full = xenvelope_backend::DropReason::ChannelFull;
    assert!(lab.backend.counters().drops[full as usize] > 0);
    lab.expect_delivery(0, 2, &[3; 1000]);
}

/// Hangs on `Mechanism::Transitive` in `Backend::switch_envelope`: only the driver domain passes
/// on.
#[test]
fn a_guest_that_says_that_something_is_passed_on_is_not_believed() {
    let mut lab = passing(2);
    let mut hostile = HostileGuest::connect(&mut lab, mac(9));
    lab.all_routes(PairRoute::BridgeReceiverCopy);
    // What is passed on to guest 1 for guest 0, named by another as if it were its own.
    lab.guests[1].asleep = true;
    lab.send(0, 1, &[0xA7; 1000]);
    lab.steps(5);
    let gref = lab.machine.scan_grants(lab.dom0.domid()).into_iter().find(|(_, to, flags)| {
        *to == lab.domid(1) && GrantFlags::from_bits_retain(*flags).kind() == EntryKind::Transitive
    });
    let segment = Segment { gref: gref.expect("it is passed on").0, offset: 32, len: 1000 };
    let marked = |to: Addresses, source| {
        let to = Addresses { source, ..to };
        let mut builder = EnvelopeBuilder::deliver(to, head(5, 0), None);
        builder.push_granted(frame_head(1000), &[segment]).expect("it fits");
        builder.mark(Mechanism::Transitive);
        builder.finish().to_vec()
    };
    let before = lab.backend.counters().dropped();
    for source in [mac(9), mac(0)] {
        hostile.push_envelope(&marked(addresses(mac(1), mac(9)), source));
    }
    assert!(hostile.steal(DomId::DOM0, segment.gref, 32, 1000).is_none(), "not passed on to it");
    lab.steps(5);
    assert_eq!(lab.backend.counters().dropped(), before + 2);
    lab.guests[1].asleep = false;
    lab.steps(50);
    assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(0), &[0xA7; 1000])]);
}

/// The same on channels that the driver domain does not see.
#[test]
fn what_is_said_to_be_passed_on_is_taken_from_the_driver_domain_only() {
    let mut lab = Lab::new(false);
    for _ in 0..2 {
        lab.add_guest(&GuestPlan { vf: true, ..GuestPlan::default() });
    }
    lab.connect();
    let domain = lab.machine.create_domain("third", 1024);
    let port = lab.attach_vf(&domain, mac(9));
    lab.all_routes(PairRoute::BridgeReceiverCopy);
    let mut builder = EnvelopeBuilder::deliver(addresses(mac(1), mac(0)), head(5, 0), None);
    builder.push_inline(frame_head(60), &[6; 60]).expect("it fits");
    builder.mark(Mechanism::Transitive);
    let bytes = builder.finish().to_vec();
    let mut buffer = domain.take(None, bytes.len()).expect("memory");
    buffer.put(0, &bytes);
    use xenvelope_grant::seam::NicPort as _;
    port.send(buffer, 0..bytes.len(), Offload::default()).expect("room");
    port.kick();
    lab.run_card();
    lab.steps(200);
    assert!(lab.guests[1].take_received().is_empty());
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::BadEnvelope), 1);
}

/// Hangs on the check of the done in `Passed::finish`.
#[test]
fn a_receiver_that_lies_about_what_it_was_passed_is_closed_and_nobody_else() {
    let mut lab = passing(2);
    let mut liar =
        HostileGuest::connect_with(&mut lab, mac(9), &[("feature-envelope-transitive", 1)]);
    lab.all_routes(PairRoute::BridgeReceiverCopy);
    lab.guests[0].send(&frame(mac(9), mac(0), &[1; 1000]));
    lab.steps(5);
    let envelope = liar.envelopes().pop().expect("it was passed a frame");
    let parsed = xenvelope_switch::Envelope::parse(&envelope).expect("an envelope");
    assert_eq!(parsed.mechanism, Mechanism::Transitive);
    let xenvelope_switch::Body::Deliver(deliver) = parsed.body else { panic!("no frame") };
    let done = |nonce| {
        let done = xenvelope_switch::Done {
            epoch: deliver.head.epoch,
            cumulative: deliver.head.sequence.wrapping_add(1),
            selective: 0,
            nonce,
        };
        let mut builder = EnvelopeBuilder::done(addresses(mac(0), mac(9)), 7, done);
        builder.mark(Mechanism::Transitive);
        builder.finish().to_vec()
    };
    liar.push_envelope(&done(deliver.head.nonce ^ 1));
    lab.steps(10);
    assert!(liar.is_closed());
    assert_eq!(passed_on(&lab), []);
    lab.expect_delivery(0, 1, &[3; 1000]);
}

#[test]
fn nothing_is_allocated_once_it_is_warm() {
    let mut lab = passing(2);
    let bytes = frame(mac(1), mac(0), &[0x5a; 1400]);
    let turn = |lab: &mut Lab| {
        lab.now.0 += 50_000;
        let now = lab.now;
        allocation_counter::measure(|| {
            for _ in 0..16 {
                let frontend = &mut lab.guests[0].frontend;
                if let Some(mut buffer) = frontend.buffer(bytes.len()) {
                    let place = FRAME_AT..FRAME_AT + bytes.len();
                    buffer.stack_bytes_mut()[place.clone()].copy_from_slice(&bytes);
                    frontend.send(buffer, place, Offload::default());
                }
            }
            for guest in &mut lab.guests {
                guest.frontend.poll(now);
                while guest.frontend.receive(|_, _| ()).is_some() {}
                guest.frontend.flush(now);
            }
            lab.backend.poll(now);
        })
        .count_total
    };
    for _ in 0..1000 {
        turn(&mut lab);
    }
    let calls: u64 = (0..1000).map(|_| turn(&mut lab)).sum();
    assert_eq!(calls, 0);
    assert!(lab.backend.counters().passed_on > 10_000);
}

/// Hangs on the order of the answers (`Answers`), and on `Backend::end_passing`.
#[test]
fn the_successor_of_a_driver_domain_finds_what_is_not_answered() {
    for killed in [false, true] {
        let mut lab = passing(2);
        lab.expect_delivery(0, 1, &[1; 1000]);
        lab.guests[1].asleep = true;
        for number in 0..5 {
            lab.send(0, 1, &numbered(number, 1000));
        }
        lab.steps(5);
        if killed {
            lab.kill_backend();
        } else {
            lab.shut_backend_down();
        }
        lab.start_backend();
        lab.all_routes(PairRoute::BridgeReceiverCopy);
        lab.guests[1].asleep = false;
        lab.steps(200);
        // A kill may have frames sent twice; nothing else comes of it.
        let came = numbers_from(mac(0), &lab.guests[1].take_received());
        assert!(came.iter().all(|number| *number < 5), "{came:?}");
        assert!(!killed || came.len() >= 5, "{came:?}");
        for number in 5..300 {
            lab.expect_delivery(0, 1, &numbered(number, 1000));
        }
        lab.steps(50);
        assert_eq!(lab.guests[0].counters().connections, 1, "nobody had to begin anew");
    }
}
