//! Two guests that mind their own business, beside a hostile one.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Link;
use xenvelope_grant::entry::GrantFlags;
use xenvelope_tests::lab::{GuestPlan, HostileGuest, Lab, mac};

/// Guests 0 and 1, and a hostile one with the address [`mac`]`(9)`; frames go in envelopes by the
/// driver domain's switch.
pub fn switched() -> (Lab, HostileGuest) {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let hostile = HostileGuest::connect(&mut lab, mac(9));
    lab.all_routes(PairRoute::Switch);
    (lab, hostile)
}

/// Guests 0 and 1 reach each other, and then nothing of theirs stays granted to the other.
pub fn go_on(lab: &mut Lab) {
    for guest in 0..2 {
        assert_eq!(lab.guests[guest].frontend.link(), Link::Up);
        lab.guests[guest].take_received();
    }
    for length in [60, 1000, 9000] {
        lab.expect_delivery(0, 1, &vec![2; length]);
        lab.expect_delivery(1, 0, &vec![2; length]);
    }
    lab.steps(500);
    for (from, to) in [(0, 1), (1, 0)] {
        let grants = lab.grants(from, lab.domid(to));
        let frames = grants.iter().filter(|grant| grant.1.contains(GrantFlags::READONLY));
        assert_eq!(frames.count(), 0, "guest {from} leaves nothing granted to {to}");
    }
}
