//! XSA-374 (CVE-2021-28691): a malformed packet ended netback's thread, and the tear-down
//! afterwards used what the thread had freed.

use xenvelope_grant::netif::{RSP_ERROR, TxFlags, TxRequest};
use xenvelope_grant::xenbus::XenbusState;
use xenvelope_tests::lab::{Bystanders, RawGuest, StockPlan, frame, mac};

#[test]
fn xsa_374_frames_too_short_to_be_any_are_refused_and_the_guest_goes_and_comes_back() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let gref = guest.page(&frame(mac(0), mac(9), &[7; 100]));
    for size in 0..14 {
        guest.chain(size, size, &[(gref, 0, 0)]);
    }
    guest.publish();
    lab.steps(2);
    let answers = guest.answers();
    assert_eq!(answers.len(), 14);
    assert!(answers.iter().all(|answer| answer.status == RSP_ERROR), "{answers:?}");
    assert!(lab.guests[0].take_received().is_empty());
    others.unharmed(&mut lab);
    // And down, with more of them in the ring.
    guest.chain(0, 3, &[(gref, 0, 0)]);
    guest.publish();
    guest.stock.say(XenbusState::Closed);
    lab.steps(3);
    assert_eq!(lab.mapped_from(guest.domid()), 0);
    assert_eq!(others.closed(&lab), 0, "it was no attack");
    guest.stock.say(XenbusState::Initialising);
    guest.stock.shake_hands(&mut lab, &StockPlan::default());
    others.unharmed(&mut lab);
}

/// The first slot of a frame whose others never come.
fn cut_short(guest: &mut RawGuest) {
    let flags = TxFlags::MORE_DATA.bits();
    guest.push(TxRequest { gref: 8, offset: 0, flags, id: 0, size: 100 });
}

#[test]
fn xsa_374_what_a_guest_sent_before_the_slot_that_closes_it_goes_nowhere() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let bytes = frame(mac(0), mac(9), &[7; 1000]);
    let gref = guest.page(&bytes);
    for number in 0..5 {
        guest.chain(number, bytes.len() as u16, &[(gref, 0, 0)]);
    }
    cut_short(&mut guest);
    guest.publish();
    // Frames for it are in the same round.
    for _ in 0..5 {
        lab.guests[0].send(&frame(mac(9), mac(0), &[1; 1000]));
    }
    lab.steps(3);
    assert!(guest.is_closed());
    assert_eq!(others.closed(&lab), 1);
    assert!(lab.guests[0].take_received().is_empty(), "its rings are gone, and its frames");
    assert_eq!(lab.mapped_from(guest.domid()), 0);
    others.unharmed(&mut lab);
}

#[test]
fn xsa_374_two_guests_that_break_netif_in_the_same_round_are_both_closed() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guests = [9, 10].map(|number| RawGuest::connect(&mut lab, mac(number)));
    for guest in &mut guests {
        cut_short(guest);
        guest.publish();
    }
    lab.step();
    for guest in &guests {
        assert!(guest.is_closed());
        assert_eq!(lab.mapped_from(guest.domid()), 0);
    }
    assert_eq!(others.closed(&lab), 2);
    others.unharmed(&mut lab);
}
