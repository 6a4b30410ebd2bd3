//! XSA-432: as many slots as there may be, all of them tiny, and netback wrote beyond its array.

use xenvelope_grant::netif::RSP_ERROR;
use xenvelope_tests::lab::{Bystanders, Lab, RawGuest, frame, mac};

/// Sends a frame of so many slots: the first has `first` bytes, the others 7.
fn tiny(lab: &mut Lab, guest: &mut RawGuest, slots: u16, first: u16) -> Vec<u8> {
    let length = first + (slots - 1) * 7;
    let bytes = frame(mac(0), mac(9), &vec![slots as u8; usize::from(length) - 14]);
    let gref = guest.page(&bytes);
    let mut pieces = vec![(gref, 0, first)];
    pieces.extend((0..slots - 1).map(|slot| (gref, first + slot * 7, 7)));
    guest.chain(0, bytes.len() as u16, &pieces);
    guest.publish();
    lab.steps(3);
    bytes
}

#[test]
fn xsa_432_as_many_tiny_slots_as_there_may_be() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    // All of it is looked at as a header; or nothing but a part of the first slot is.
    for (slots, first) in [(17, 7), (18, 7), (17, 200), (18, 200), (18, 1)] {
        let bytes = tiny(&mut lab, &mut guest, slots, first);
        assert_eq!(lab.guests[0].take_received(), [bytes], "{slots} slots, {first} bytes");
        assert!(guest.answers().iter().all(|answer| answer.status == 0));
    }
    others.unharmed(&mut lab);
}

#[test]
fn xsa_432_more_tiny_slots_than_a_frame_may_have() {
    for slots in [19, 20] {
        let (mut lab, others) = Bystanders::with_lab();
        let mut guest = RawGuest::connect(&mut lab, mac(9));
        tiny(&mut lab, &mut guest, slots, 7);
        let answers = guest.answers();
        assert_eq!(answers.len(), usize::from(slots));
        assert!(answers.iter().all(|answer| answer.status == RSP_ERROR), "{answers:?}");
        assert!(!guest.is_closed(), "{slots} slots are refused, as by Linux");
        assert!(lab.guests[0].take_received().is_empty());
        others.unharmed(&mut lab);
    }
}
