//! Two guests that mind their own business, beside a hostile one.

use xenvelope_frontend::Link;
use xenvelope_grant::entry::GrantFlags;
use xenvelope_tests::lab::Lab;

/// Guests 0 and 1 reach each other, and then nothing of theirs stays granted to the other.
pub fn go_on(lab: &mut Lab) {
    for guest in 0..2 {
        assert_eq!(lab.guests[guest].frontend.link(), Link::Up);
        lab.guests[guest].take_received();
    }
    lab.expect_pair(500);
    for (from, to) in [(0, 1), (1, 0)] {
        let grants = lab.grants(from, lab.domid(to));
        let frames = grants.iter().filter(|grant| grant.1.contains(GrantFlags::READONLY));
        assert_eq!(frames.count(), 0, "guest {from} leaves nothing granted to {to}");
    }
}
