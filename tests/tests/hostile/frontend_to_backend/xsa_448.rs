//! XSA-448 (CVE-2023-46838): all later fragments have a length of zero, and netback used a
//! pointer that it had not set.

use xenvelope_grant::netif::RSP_ERROR;
use xenvelope_tests::lab::{Bystanders, RawGuest, frame, mac};

#[test]
fn xsa_448_fragments_of_length_zero() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let bytes = frame(mac(0), mac(9), &[7; 1000]);
    let (gref, all) = (guest.page(&bytes), bytes.len() as u16);
    // All later ones; one in the middle, before the headers are whole; the last.
    let chains: [&[_]; 3] = [
        &[(gref, 0, all), (gref, 0, 0), (gref, 0, 0)],
        &[(gref, 0, 10), (gref, 0, 0), (gref, 10, all - 10)],
        &[(gref, 0, 200), (gref, 200, all - 200), (gref, 4096, 0)],
    ];
    for chain in chains {
        guest.chain(0, all, chain);
        guest.publish();
        lab.steps(3);
        let answers = guest.answers();
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|answer| answer.status == RSP_ERROR), "{answers:?}");
        assert!(lab.guests[0].take_received().is_empty());
    }
    // Nor may the first have nothing, or less.
    for others_say in [all, all + 1] {
        guest.chain(0, all, &[(gref, 0, 0), (gref, 0, others_say)]);
        guest.publish();
        lab.steps(3);
        assert!(guest.answers().iter().all(|answer| answer.status == RSP_ERROR));
    }
    assert!(!guest.is_closed());
    others.unharmed(&mut lab);
}
