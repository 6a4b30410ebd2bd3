//! A sender that asks whether there is room, and waits where there is none, loses nothing to a
//! peer that is slow; one that does not ask does.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_tests::lab::{GuestPlan, Lab};

/// Frames of a burst, and the envelopes that they take at most.
const BURST: u32 = 8;
/// Frames that the peer may have outstanding: less than is sent while it sleeps.
const QUOTA: usize = 24;

/// How many of what was sent came, and how many were dropped because the peer was full, after a
/// time in which the peer slept now and then.
fn busy(route: PairRoute, asks: bool) -> (usize, usize, u64) {
    let config = Config { peer_quota: QUOTA, ..Config::default() };
    let vf = route == PairRoute::NicEnvelope;
    let mut lab = Lab::with_guests(2, &GuestPlan { config, vf, ..GuestPlan::default() });
    lab.all_routes(route);
    lab.expect_delivery(0, 1, &[1; 1000]);
    let before = lab.guests[1].received.len();
    let (to, mut sent) = (lab.guests[1].mac, 0);
    for round in 0..200u32 {
        lab.guests[1].asleep = round % 40 < 20;
        if !asks || lab.guests[0].frontend.has_room(to, BURST as usize, BURST) {
            for _ in 0..BURST {
                lab.send(0, 1, &[round as u8; 1000]);
                sent += 1;
            }
        }
        lab.steps(2);
    }
    lab.guests[1].asleep = false;
    lab.steps(200);
    let full = lab.guests[0].counters().dropped_for(DropReason::PeerFull);
    (sent, lab.guests[1].received.len() - before, full)
}

#[test]
fn a_sender_that_asks_for_room_loses_nothing_on_any_route_of_envelopes() {
    for route in [PairRoute::Switch, PairRoute::Direct, PairRoute::NicEnvelope] {
        let (sent, came, full) = busy(route, true);
        assert_eq!((came, full), (sent, 0), "{route:?}");
        assert!(sent > 5 * QUOTA, "{route:?}: only {sent} frames were sent");
        let (sent, came, full) = busy(route, false);
        assert!(came < sent && full > 0, "{route:?}: {came} of {sent} without asking");
    }
}
