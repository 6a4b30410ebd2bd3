//! A sender that asks whether there is room, and waits where there is none, loses nothing to a
//! peer that is slow; one that does not ask does.

use std::time::Duration;

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

/// Bytes that a peer may have on their way, of frames of [`LONG`] bytes.
const BYTES: usize = 16 * LONG;
/// Bytes of what is sent.
const LONG: usize = 1000;

/// Hangs on `Frontend::seal` asking for a done: the peer would tell of so few frames only after
/// `done_delay`, which is longer here than the test.
#[test]
fn a_sender_that_asks_for_room_has_few_bytes_on_their_way_and_is_told_in_time() {
    let hour = Duration::from_secs(3600);
    let config =
        Config { peer_bytes: BYTES, done_delay: hour, done_timeout: hour, ..Config::default() };
    let mut lab = Lab::with_guests(2, &GuestPlan { config, ..GuestPlan::default() });
    lab.all_routes(PairRoute::Direct);
    lab.expect_delivery(0, 1, &[1; LONG]);
    let before = lab.guests[1].received.len();
    let (to, mut sent, mut refused) = (lab.guests[1].mac, 0, 0);
    for round in 0..400u32 {
        lab.guests[1].asleep = round % 40 < 20;
        if lab.guests[0].frontend.has_room(to, BURST as usize, BURST) {
            (0..BURST).for_each(|_| lab.send(0, 1, &[round as u8; LONG]));
            sent += BURST as usize;
        } else {
            refused += 1;
        }
        lab.steps(2);
        let out = lab.guests[0].frontend.outstanding();
        assert!(out < BYTES / LONG + BURST as usize, "{out} frames are on their way");
    }
    lab.guests[1].asleep = false;
    lab.steps(10);
    assert_eq!(lab.guests[1].received.len() - before, sent);
    assert!(refused > 100, "it was to wait while the peer slept: {refused}");
    assert!(sent > 1000, "it was to go on in between: {sent} frames");
}
