//! The shared ring, model checked: no wake-up is lost in either direction, and what is in a slot
//! arrives intact, also where the indices wrap.
//!
//! **Bounds.** Two threads, a ring of two slots of 8 bytes, two entries a direction (three where
//! slots are used again), starting at 0 and at `u32::MAX`; all executions, in the ping-pong
//! those with at most 3 preemptions.

use std::sync::Arc;

use loom::thread;
use xenvelope_tests::loom_ring::{LAYOUT, LoomBack, Slot, ring};
use xenvelope_tests::loom_words::{Event, Weakness, caught, check};

const STARTS: [u32; 2] = [0, u32::MAX];
const LOST_WAKE_UP: &str = "deadlock";
const STALE_SLOT: &str = "stale slot";

fn request(number: u32) -> Slot {
    [0x1000 | number, 0x2000 | number]
}

fn response(number: u32) -> Slot {
    [0x3000 | number, 0x4000 | number]
}

/// Takes requests until `count` have come, asleep whenever there are none.
fn take_requests(back: &mut LoomBack, event: &Event, count: u32) {
    let mut taken = 0;
    while taken < count {
        let waiting = back.pending_or_ask().expect("a front that keeps to the protocol");
        if waiting == 0 {
            event.wait();
        }
        for _ in 0..waiting {
            assert_eq!(back.pop(), request(taken), "{STALE_SLOT}");
            taken += 1;
        }
    }
}

/// The front sends two requests, each published alone; the back sleeps between them.
fn requests(start: u32, front: Weakness, back: Weakness) {
    let (mut front, mut back) = ring(start, front, back);
    let event = Arc::new(Event::new());
    let rung = Arc::clone(&event);
    let consumer = thread::spawn(move || take_requests(&mut back, &rung, 2));
    for number in 0..2 {
        front.push(&request(number)).expect("a free slot");
        if front.publish() {
            event.notify();
        }
    }
    consumer.join().expect("the back ends");
}

/// The back answers two requests, each answer published alone. The front sleeps until one has
/// come, or with `together` until both have.
fn responses(start: u32, together: bool, front: Weakness, back: Weakness) {
    let (mut front, mut back) = ring(start, front, back);
    let event = Arc::new(Event::new());
    for number in 0..2 {
        front.push(&request(number)).expect("a free slot");
    }
    let _ = front.publish();
    let ringing = Arc::clone(&event);
    let producer = thread::spawn(move || {
        for number in 0..2 {
            assert_eq!(back.pop(), request(number));
            back.push(&response(number)).expect("a request to answer");
            if back.publish() {
                ringing.notify();
            }
        }
    });
    let mut taken = 0;
    while taken < 2 {
        let more = if together { 2 } else { 1 };
        let waiting = front.ask_after(more).expect("a back that keeps to the protocol");
        if waiting < more {
            event.wait();
            continue;
        }
        for _ in 0..waiting {
            assert_eq!(front.pop(), response(taken), "{STALE_SLOT}");
            taken += 1;
        }
    }
    producer.join().expect("the back ends");
}

/// Three requests through two slots: the third takes the place of the first answer, which takes
/// the place of the first request. Both sides sleep.
fn ping_pong(start: u32) {
    let (mut front, mut back) = ring(start, Weakness::None, Weakness::None);
    let (to_back, to_front) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (rung, ringing) = (Arc::clone(&to_back), Arc::clone(&to_front));
    let other = thread::spawn(move || {
        for number in 0..3 {
            while back.pending_or_ask().expect("a front that keeps to the protocol") == 0 {
                rung.wait();
            }
            assert_eq!(back.pop(), request(number), "{STALE_SLOT}");
            back.push(&response(number)).expect("a request to answer");
            if back.publish() {
                ringing.notify();
            }
        }
    });
    let (mut sent, mut taken) = (0, 0);
    while taken < 3 {
        while sent < 3 && front.free() > 0 {
            front.push(&request(sent)).expect("a free slot");
            sent += 1;
        }
        if front.publish() {
            to_back.notify();
        }
        let waiting = front.pending_or_ask().expect("a back that keeps to the protocol");
        if waiting == 0 {
            to_front.wait();
        }
        for _ in 0..waiting {
            assert_eq!(front.pop(), response(taken), "{STALE_SLOT}");
            taken += 1;
        }
    }
    other.join().expect("the back ends");
}

#[test]
fn requests_arrive_intact_and_wake_the_back() {
    for start in STARTS {
        check(None, move || requests(start, Weakness::None, Weakness::None));
    }
}

#[test]
fn responses_arrive_intact_and_wake_the_front() {
    for start in STARTS {
        check(None, move || responses(start, false, Weakness::None, Weakness::None));
    }
}

#[test]
fn a_front_that_asks_for_two_responses_is_woken_for_the_second() {
    for start in STARTS {
        check(None, move || responses(start, true, Weakness::None, Weakness::None));
    }
}

#[test]
fn slots_are_used_again_without_mixing_requests_and_responses() {
    for start in STARTS {
        check(3, move || ping_pong(start));
    }
}

#[test]
fn a_request_index_without_release_is_caught() {
    let weak = Weakness::ReleaseRelaxed(LAYOUT.req_prod);
    caught(None, STALE_SLOT, move || requests(0, weak, Weakness::None));
}

#[test]
fn a_request_index_without_acquire_is_caught() {
    let weak = Weakness::AcquireRelaxed(LAYOUT.req_prod);
    caught(None, STALE_SLOT, move || requests(0, Weakness::None, weak));
}

#[test]
fn a_response_index_without_release_is_caught() {
    let weak = Weakness::ReleaseRelaxed(LAYOUT.rsp_prod);
    caught(None, STALE_SLOT, move || responses(0, false, Weakness::None, weak));
}

#[test]
fn a_response_index_without_acquire_is_caught() {
    let weak = Weakness::AcquireRelaxed(LAYOUT.rsp_prod);
    caught(None, STALE_SLOT, move || responses(0, false, weak, Weakness::None));
}

#[test]
fn a_producer_that_looks_for_sleepers_without_a_full_barrier_is_caught() {
    let weak = Weakness::NoFullBarrier;
    caught(None, LOST_WAKE_UP, move || requests(0, weak, Weakness::None));
    caught(None, LOST_WAKE_UP, move || responses(0, false, Weakness::None, weak));
}

#[test]
fn a_consumer_that_falls_asleep_without_a_full_barrier_is_caught() {
    let weak = Weakness::NoFullBarrier;
    caught(None, LOST_WAKE_UP, move || requests(0, Weakness::None, weak));
    caught(None, LOST_WAKE_UP, move || responses(0, false, weak, Weakness::None));
}
