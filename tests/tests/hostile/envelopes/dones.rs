//! Dones that lie.

use xenvelope_frontend::DropReason;
use xenvelope_grant::seam::{Host as _, Segment};
use xenvelope_switch::DeliverHead;
use xenvelope_tests::lab::envelopes::{addresses, done, opened};
use xenvelope_tests::lab::{HostileGuest, Lab, frame, mac};

use crate::neighbours::go_on;

/// Guest 0 sends a frame to the hostile one, which has its envelope.
fn sent(lab: &mut Lab, hostile: &mut HostileGuest, fill: u8) -> (DeliverHead, Segment) {
    lab.guests[0].send(&frame(mac(9), mac(0), &[fill; 1000]));
    lab.steps(5);
    let envelopes = hostile.envelopes();
    let (head, segments) = envelopes.iter().find_map(|bytes| opened(bytes)).expect("an envelope");
    (head, segments[0])
}

/// Hangs on `SendWindow::check` comparing the nonce.
#[test]
fn a_done_with_a_forged_nonce_frees_nothing_and_costs_its_sender_its_path() {
    let (mut lab, mut hostile) = Lab::switched();
    let (head, segment) = sent(&mut lab, &mut hostile, 1);
    let to = addresses(mac(0), mac(9));
    hostile.push_envelope(&done(to, head.epoch, head.sequence + 1, head.nonce.wrapping_add(1)));
    lab.steps(5);
    assert_eq!(lab.guests[0].counters().bad_dones, 1);
    assert_eq!(lab.guests[0].frontend.outstanding(), 1, "its page does not come back so");
    let there = hostile.steal(lab.domid(0), segment.gref, segment.offset, segment.len);
    assert!(there.is_some(), "it is granted for as long as any other");
    lab.guests[0].send(&frame(mac(9), mac(0), &[1; 1000]));
    lab.steps(5);
    assert_eq!(lab.guests[0].counters().dropped_for(DropReason::PeerClosed), 1);
    lab.pass_ms(700);
    assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    go_on(&mut lab);
}

/// Hangs on `Frontend::take_done`, which takes the grant back before the buffer is used again.
#[test]
fn who_says_done_before_it_has_copied_reads_nothing_of_what_comes_next() {
    let (mut lab, mut hostile) = Lab::switched();
    let (head, segment) = sent(&mut lab, &mut hostile, 1);
    let to = addresses(mac(0), mac(9));
    hostile.push_envelope(&done(to, head.epoch, head.sequence + 1, head.nonce));
    lab.steps(5);
    assert_eq!(lab.guests[0].frontend.outstanding(), 0);
    for round in 0..50 {
        for guest in [1, 9] {
            // For guest 1 by the table, and for nobody by netif.
            let destination = if guest == 1 { mac(1) } else { mac(77) };
            lab.guests[0].send(&frame(destination, mac(0), &[0xA7; 1000]));
        }
        lab.steps(2);
        for offset in [segment.offset, 0, 2048] {
            let stolen = hostile.steal(lab.domid(0), segment.gref, offset, 500);
            assert!(
                stolen.is_none_or(|bytes| !bytes.contains(&0xA7)),
                "round {round}: bytes that were for somebody else"
            );
        }
    }
    let kept = lab.grants(0, hostile.domain.domid());
    assert!(kept.is_empty(), "{kept:?}");
    go_on(&mut lab);
}
