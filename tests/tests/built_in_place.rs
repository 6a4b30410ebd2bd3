//! Frames that a stack builds where they leave from, and reads where they came: each arrives once,
//! whole and in order, whatever else goes the same way and however the receiver takes them.

use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use xenvelope_backend::PairRoute;
use xenvelope_grant::seam::{Host as _, Offload};
use xenvelope_tests::lab::{GuestPlan, Lab, LabGuest, frame};

/// What guest 0 does with a frame: to whom, how many bytes after its header, and in which way.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Builds it in its turn.
    Build(usize, usize),
    /// Builds it in its turn as one for that guest, with the header of one for the other.
    Mistake(usize, usize),
    /// Stages it in its turn.
    Stage(usize, usize),
    /// Flushes, and has another turn.
    Turn,
    /// Flushes, and builds one before the next poll.
    Late(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let length = prop_oneof![6 => 46usize..120, 2 => 120usize..200, 1 => 200usize..3000];
    (0u8..12, 1usize..3, length).prop_map(|(kind, to, length)| match kind {
        0..6 => Act::Build(to, length),
        6 => Act::Mistake(to, length),
        7..9 => Act::Stage(to, length),
        9..11 => Act::Turn,
        _ => Act::Late(to, length),
    })
}

fn build(guest: &mut LabGuest, bytes: &[u8]) {
    let built = guest.frontend.send_built(bytes.len(), Offload::default(), |place| {
        place.copy_from_slice(bytes);
        7
    });
    assert_eq!(built, Some(7), "there is room, and a buffer");
}

/// A turn of a receiver that takes many frames at once, some of them only.
fn take_together(guest: &mut LabGuest, count: usize) {
    let now = guest.domain.now();
    guest.frontend.poll(now);
    let seen: Vec<_> = guest.frontend.frames().map(|(bytes, _)| bytes.to_vec()).collect();
    let waiting = guest.frontend.received();
    assert!(seen.len() <= waiting && (seen.is_empty() == (waiting == 0)), "{waiting}");
    let taken = count.min(seen.len());
    guest.frontend.taken(taken);
    guest.received.extend(seen.into_iter().take(taken));
    guest.frontend.flush(now);
}

fn arrives(route: PairRoute, acts: &[Act], together: usize) {
    let mut lab = Lab::with_guests(3, &GuestPlan::default());
    lab.all_routes(route);
    for to in [1, 2] {
        lab.expect_delivery(0, to, &[9; 1000]);
    }
    let before = lab.guests[0].counters().sent.frames;
    let mut expected = [Vec::new(), Vec::new(), Vec::new()];
    let macs = [0, 1, 2].map(|guest| lab.guests[guest].mac);
    let mut number = 0;
    let mut next = |to: usize, length: usize| {
        number += 1u32;
        let mut payload = vec![number as u8; length];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let bytes = frame(macs[to], macs[0], &payload);
        expected[to].push(bytes.clone());
        bytes
    };
    let mut sent = 0;
    for turn in acts.split_inclusive(|act| matches!(act, Act::Turn | Act::Late(..))) {
        let guest = &mut lab.guests[0];
        let now = guest.domain.now();
        guest.frontend.poll(now);
        let mut late = None;
        for act in turn {
            match *act {
                Act::Build(to, length) => build(guest, &next(to, length)),
                // What the stack says it builds is the length; where it goes the frame says.
                Act::Mistake(to, length) => build(guest, &next(3 - to, length)),
                Act::Stage(to, length) => {
                    assert!(guest.send(&next(to, length)));
                }
                Act::Turn => continue,
                Act::Late(to, length) => late = Some((to, length)),
            }
            sent += 1;
        }
        guest.frontend.flush(now);
        if let Some((to, length)) = late {
            build(guest, &next(to, length));
        }
        lab.steps(1);
        take_together(&mut lab.guests[2], together);
    }
    for _ in 0..200 {
        lab.steps(1);
        take_together(&mut lab.guests[2], together);
    }
    lab.steps(2);
    let counters = lab.guests[0].counters();
    assert_eq!((counters.sent.frames - before, counters.dropped()), (sent, 0));
    for to in [1, 2] {
        let got = lab.guests[to].take_received();
        assert_eq!(got.len(), expected[to].len(), "guest {to}");
        for (got, expected) in got.iter().zip(&expected[to]) {
            assert_eq!(got, expected, "guest {to}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_built_and_staged_arrives_in_order(
        route in prop_oneof![
            3 => Just(PairRoute::Direct), 2 => Just(PairRoute::Switch), 1 => Just(PairRoute::Bridge),
        ],
        acts in vec_of(act(), 1..60),
        together in 1usize..40,
    ) {
        arrives(route, &acts, together);
    }
}

/// Envelopes that wait hold more frames than there is memory to take them apart at once.
#[test]
fn a_receiver_that_takes_a_few_at_a_time_loses_none_of_a_flood_of_small_ones() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Direct);
    lab.expect_delivery(0, 1, &[9; 60]);
    let macs = [0, 1].map(|guest| lab.guests[guest].mac);
    let mut sent = Vec::new();
    lab.guests[1].asleep = true;
    for turn in 0..2000 {
        let guest = &mut lab.guests[0];
        let now = guest.domain.now();
        guest.frontend.poll(now);
        if turn < 200 && guest.frontend.has_room(macs[1], 64, 8) {
            for _ in 0..64 {
                let number = sent.len() as u32;
                let bytes = frame(macs[1], macs[0], &number.to_be_bytes().repeat(4));
                build(guest, &bytes);
                sent.push(bytes);
            }
        }
        guest.frontend.flush(now);
        take_together(&mut lab.guests[1], 20);
        lab.steps(1);
    }
    assert!(sent.len() > 2000, "only {} were sent", sent.len());
    assert_eq!(lab.guests[1].take_received(), sent);
    assert!(lab.guests.iter().all(|guest| guest.counters().dropped() == 0));
}

/// Hangs on `fresh` in `Frontend::seal`.
#[test]
fn what_was_built_by_a_table_whose_heart_has_stopped_is_not_sent() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Direct);
    lab.expect_delivery(0, 1, &[9; 60]);
    let bytes = frame(lab.guests[1].mac, lab.guests[0].mac, &[1; 60]);
    let guest = &mut lab.guests[0];
    let now = guest.domain.now();
    guest.frontend.poll(now);
    build(guest, &bytes);
    build(guest, &bytes);
    assert_eq!(guest.frontend.queued(), 2);
    // The guest's processor does something else for a minute, between the two.
    let later = now + std::time::Duration::from_secs(60);
    guest.frontend.flush(later);
    assert_eq!(guest.frontend.queued(), 0);
    assert_eq!(guest.counters().dropped(), 2);
    let guest = &mut lab.guests[1];
    let now = guest.domain.now();
    guest.frontend.poll(now);
    assert_eq!(guest.frontend.received(), 0);
}
