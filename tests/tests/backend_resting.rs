//! Guests that have nothing cost the others nothing, and are served at once when they have.

use proptest::prelude::*;
use xenvelope_backend::PairRoute;
use xenvelope_grant::netif::TxFlags;
use xenvelope_grant::seam::{Events as _, Instant, PortId};
use xenvelope_tests::lab::{Lab, StockGuest, StockPlan, frame, mac, numbered, numbers_from};

/// Guests of the host.
const GUESTS: usize = 20;
/// Steps after which who has nothing rests, and some.
const LONG: usize = 100;

fn host() -> (Lab, Vec<StockGuest>) {
    let mut lab = Lab::default();
    let plan = StockPlan::default();
    let guests = (0..GUESTS).map(|n| StockGuest::connect(&mut lab, mac(n), &plan)).collect();
    (lab, guests)
}

fn send(guests: &mut [StockGuest], from: usize, to: usize, number: u64) {
    let bytes = frame(mac(to), mac(from), &numbered(number, 60));
    guests[from].reap();
    guests[from].send(0, &bytes, TxFlags::empty(), None);
}

/// What has come to a guest from another. Buffers are posted again.
fn came(guests: &mut [StockGuest], from: usize, to: usize) -> Vec<u64> {
    let frames: Vec<_> = guests[to].take().into_iter().map(|frame| frame.bytes).collect();
    guests[to].post_all(frames.len() as u32);
    numbers_from(mac(from), &frames)
}

/// Two guests keep the driver domain busy: it does not sleep, and all others rest.
fn keep_busy(lab: &mut Lab, guests: &mut [StockGuest], steps: usize) {
    for number in 0..steps as u64 {
        send(guests, 0, 1, number);
        lab.step();
        assert_eq!(came(guests, 0, 1), [number]);
    }
}

/// Hangs on `stays_awake`: a round looks at those that are busy, however many there are.
#[test]
fn rounds_look_at_the_guests_that_have_something() {
    let (mut lab, mut guests) = host();
    lab.steps(LONG);
    lab.backend.manager().set_all_routes(PairRoute::Bridge);
    lab.step();
    assert_eq!(lab.backend.awake(), GUESTS, "the tables have changed");
    keep_busy(&mut lab, &mut guests, LONG);
    // The receiver rests in between: that there is something for it wakes it.
    assert!(lab.backend.awake() <= 2, "{} are awake", lab.backend.awake());
    lab.steps(LONG);
    assert_eq!(lab.backend.awake(), 0);
    assert_eq!(lab.backend.connected(), GUESTS);
}

/// Hangs on `take_events`: an event wakes, though the driver domain does not sleep.
#[test]
fn a_guest_that_rests_is_served_in_the_round_after_its_event() {
    let (mut lab, mut guests) = host();
    for from in (2..GUESTS).rev() {
        keep_busy(&mut lab, &mut guests, LONG);
        let to = 2 + (from + 5) % (GUESTS - 2);
        send(&mut guests, from, to, 7);
        send(&mut guests, 0, 1, 8);
        lab.step();
        assert_eq!(came(&mut guests, from, to), [7], "guest {from}");
        assert_eq!(came(&mut guests, 0, 1), [8], "guest {from}");
        assert_eq!(guests[from].unanswered(), 1);
        guests[from].reap();
        assert_eq!(guests[from].unanswered(), 0, "it is answered");
    }
}

/// Hangs on the rings being published of one that rests, and on the event that it asked for.
#[test]
fn a_guest_that_rests_gets_its_frames_and_its_event() {
    let (mut lab, mut guests) = host();
    keep_busy(&mut lab, &mut guests, LONG);
    guests[9].ask();
    let _ = guests[9].fired();
    send(&mut guests, 0, 9, 3);
    lab.step();
    assert!(guests[9].fired().contains(&guests[9].rx_port(0)));
    assert_eq!(came(&mut guests, 0, 9), [3]);
}

/// Hangs on `look_at_one_that_rests`.
#[test]
fn a_guest_that_sends_no_event_is_late_and_does_not_starve() {
    let (mut lab, mut guests) = host();
    keep_busy(&mut lab, &mut guests, LONG);
    send(&mut guests, 5, 6, 1);
    let mut stolen = [PortId(0); 8];
    assert_eq!(lab.dom0.wait(&mut stolen, Instant(0)), 1, "the event was sent, and gets lost");
    let mut rounds = 0;
    while came(&mut guests, 5, 6).is_empty() {
        rounds += 1;
        assert!(rounds <= 2 * GUESTS, "it starves");
        keep_busy(&mut lab, &mut guests, 1);
    }
    assert!(rounds > 1, "no event was seen");
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Send { from: usize, to: usize },
    Idle(usize),
    Sleep,
}

fn op() -> impl Strategy<Value = Op> {
    let guest = || 0..GUESTS;
    prop_oneof![
        4 => (guest(), guest()).prop_map(|(from, to)| Op::Send { from, to }),
        2 => (0usize..80).prop_map(Op::Idle),
        1 => Just(Op::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever rests, and however it came to rest: a frame arrives in the step after it was sent.
    #[test]
    fn no_frame_waits_for_a_round_that_does_not_look(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let (mut lab, mut guests) = host();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Send { from, to } if from != to => {
                    send(&mut guests, from, to, number as u64);
                    lab.step();
                    prop_assert_eq!(came(&mut guests, from, to), [number as u64]);
                }
                Op::Send { .. } => {}
                Op::Idle(steps) => lab.steps(steps),
                Op::Sleep => lab.backend.wait(Instant(0)),
            }
        }
    }
}
