//! XSA-423 (CVE-2022-3643): the protocol headers of a frame were split across slots, and a driver
//! further on that looks for them in one piece crashed.

use xenvelope_backend::DropReason;
use xenvelope_tests::lab::{Bystanders, RawGuest, frame, mac, payload};

/// Sends a frame whose first 17 slots have a byte each.
fn split(guest: &mut RawGuest, bytes: &[u8]) {
    let gref = guest.page(bytes);
    let mut pieces: Vec<_> = (0..17).map(|at| (gref, at, 1)).collect();
    pieces.push((gref, 17, bytes.len() as u16 - 17));
    guest.chain(0, bytes.len() as u16, &pieces);
    guest.publish();
}

#[test]
fn xsa_423_headers_in_slots_of_a_byte_are_one_piece_for_who_receives_them() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let content: Vec<u8> = (0..1000).map(|at| (at / 3) as u8).collect();
    let bytes = frame(mac(0), mac(9), &content);
    split(&mut guest, &bytes);
    lab.steps(3);
    let received = lab.guests[0].take_received();
    assert_eq!(received.len(), 1);
    assert_eq!(payload(&received[0]), content);
    assert_eq!(received[0], bytes);
    assert_eq!(guest.answers().len(), 18);
    others.unharmed(&mut lab);
}

#[test]
fn xsa_423_a_forged_source_behind_the_first_slot_is_seen() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    // The first slot is as it should be: a good header's beginning is what was there before.
    split(&mut guest, &frame(mac(0), mac(9), &[1; 1000]));
    lab.steps(3);
    assert_eq!(lab.guests[0].take_received().len(), 1);
    guest.answers();
    let before = lab.backend.counters().drops[DropReason::SourceMac as usize];
    split(&mut guest, &frame(mac(0), mac(1), &[2; 1000]));
    lab.steps(3);
    assert!(lab.guests[0].take_received().is_empty());
    assert_eq!(lab.backend.counters().drops[DropReason::SourceMac as usize], before + 1);
    others.unharmed(&mut lab);
}
