//! A model of the ring, generated operations, and indices that start near the wrap.

extern crate std;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::words::HeapWords;

#[derive(Clone, Copy, Debug)]
enum Op {
    Request,
    PublishRequests,
    Take,
    Answer,
    PublishResponses,
    Collect,
    AskRequests,
    AskResponses,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Request),
        2 => Just(Op::PublishRequests),
        4 => Just(Op::Take),
        4 => Just(Op::Answer),
        2 => Just(Op::PublishResponses),
        4 => Just(Op::Collect),
        1 => Just(Op::AskRequests),
        1 => Just(Op::AskResponses),
    ]
}

/// What happens on a ring whose sides are killed and replaced.
#[derive(Clone, Copy, Debug)]
enum Life {
    Send,
    Publish,
    Take,
    Release,
    NewFront,
    NewBack,
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        8 => Just(Life::Send),
        3 => Just(Life::Publish),
        6 => Just(Life::Take),
        2 => Just(Life::Release),
        1 => Just(Life::NewFront),
        1 => Just(Life::NewBack),
    ]
}

const LAYOUT: RingLayout = RingLayout::one_page::<u64, u64>();

proptest! {
    /// Whatever the two sides do in whatever order, wherever the indices start: entries come out
    /// as they went in, nothing is lost, and whoever asked for an event gets one.
    #[test]
    fn behaves_like_two_queues(start in prop_oneof![any::<u32>(), (u32::MAX - 40)..=u32::MAX],
                               ops in proptest::collection::vec(op(), 1..400)) {
        let page = HeapWords::new(4096);
        let mut front = Front::<_, u64, u64>::starting_at(&page, LAYOUT, start);
        let mut back = Back::<_, u64, u64>::attach(&page, LAYOUT);
        let (mut hidden_req, mut requests) = (0, VecDeque::new());
        let (mut hidden_rsp, mut taken, mut responses) = (0, VecDeque::new(), VecDeque::new());
        let (mut back_sleeps, mut front_sleeps) = (true, true);
        let mut next = 0u64;
        for op in ops {
            match op {
                Op::Request => {
                    let room = front.free() > 0;
                    prop_assert_eq!(front.push(&next).is_ok(), room);
                    if room {
                        requests.push_back(next);
                        hidden_req += 1;
                        next += 1;
                    }
                }
                Op::PublishRequests => {
                    let event = front.publish();
                    if back_sleeps && hidden_req > 0 {
                        prop_assert!(event, "the back sleeps and gets no event");
                    }
                    if event { back_sleeps = false; }
                    hidden_req = 0;
                }
                Op::Take => {
                    let visible = requests.len() - hidden_req;
                    prop_assert_eq!(back.pending().unwrap() as usize, visible);
                    if visible > 0 {
                        let got = back.pop();
                        prop_assert_eq!(Some(got), requests.pop_front());
                        taken.push_back(got);
                    }
                }
                Op::Answer => {
                    let can = back.unanswered() > 0;
                    let answer = taken.front().copied().unwrap_or(0) ^ u64::MAX;
                    prop_assert_eq!(back.push(&answer).is_ok(), can);
                    if can {
                        taken.pop_front();
                        responses.push_back(answer);
                        hidden_rsp += 1;
                    }
                }
                Op::PublishResponses => {
                    let event = back.publish();
                    if front_sleeps && hidden_rsp > 0 {
                        prop_assert!(event, "the front sleeps and gets no event");
                    }
                    if event { front_sleeps = false; }
                    hidden_rsp = 0;
                }
                Op::Collect => {
                    let visible = responses.len() - hidden_rsp;
                    prop_assert_eq!(front.pending().unwrap() as usize, visible);
                    if visible > 0 {
                        prop_assert_eq!(Some(front.pop()), responses.pop_front());
                    }
                }
                Op::AskRequests => back_sleeps = back.pending_or_ask().unwrap() == 0,
                Op::AskResponses => front_sleeps = front.pending_or_ask().unwrap() == 0,
            }
        }
    }

    /// Both sides are killed and replaced at any point, on a ring whose responses carry nothing:
    /// what was published comes out in order, at least once, and more than once only if its
    /// back had taken it and not yet released it when it died. Nothing else is lost but what a
    /// front had not published.
    #[test]
    fn a_new_front_and_a_new_back_go_on_where_dead_ones_stopped(
        start in prop_oneof![any::<u32>(), (u32::MAX - 40)..=u32::MAX],
        ops in proptest::collection::vec(life(), 1..400),
    ) {
        let page = HeapWords::new(4096);
        let mut front = Front::<_, u64, ()>::starting_at(&page, LAYOUT, start);
        let mut back = Back::<_, u64, ()>::attach(&page, LAYOUT);
        // What is published and not released, and how much of it the back of now has taken.
        let (mut hidden, mut published, mut taken) = (Vec::new(), VecDeque::new(), 0);
        let mut next = 0u64;
        for op in ops {
            match op {
                Life::Send => {
                    if front.free() == 0 {
                        let emptied = front.pending().unwrap();
                        front.discard(emptied);
                    }
                    if front.push(&next).is_ok() {
                        hidden.push(next);
                    } else {
                        prop_assert!(published.len() + hidden.len() >= LAYOUT.slots as usize);
                    }
                    next += 1;
                }
                Life::Publish => {
                    let _ = front.publish();
                    published.extend(hidden.drain(..));
                }
                Life::Take => {
                    let waiting = back.pending().unwrap() as usize;
                    prop_assert_eq!(waiting, published.len() - taken);
                    if waiting > 0 {
                        prop_assert_eq!(back.pop(), published[taken]);
                        taken += 1;
                    }
                }
                Life::Release => {
                    back.release_all();
                    let _ = back.publish();
                    published.drain(..taken);
                    taken = 0;
                }
                Life::NewFront => {
                    front = Front::resume(&page, LAYOUT).unwrap();
                    hidden.clear();
                    prop_assert_eq!(front.outstanding() as usize, published.len());
                }
                Life::NewBack => {
                    back = Back::attach(&page, LAYOUT);
                    taken = 0;
                }
            }
        }
    }

    /// The peer wrote anything where the dead front's indices were: an error, or a ring on which
    /// no more is outstanding than it holds.
    #[test]
    fn a_front_resumes_only_from_indices_that_can_be(requests: u32, responses: u32) {
        let page = HeapWords::new(4096);
        page.store_u32(LAYOUT.req_prod, requests, Ordering::Relaxed);
        page.store_u32(LAYOUT.rsp_prod, responses, Ordering::Relaxed);
        match Front::<_, u64, ()>::resume(&page, LAYOUT) {
            Ok(front) => prop_assert!(front.outstanding() <= LAYOUT.slots),
            Err(error) => prop_assert!(error.outstanding > LAYOUT.slots),
        }
    }

    /// Who needs several requests at once gets one event, when the last of them has come.
    #[test]
    fn a_back_that_asks_for_several_requests_is_told_of_the_last(
        start: u32, more in 1u32..20, batches in proptest::collection::vec(1u32..5, 20),
    ) {
        let page = HeapWords::new(4096);
        let mut front = Front::<_, u64, u64>::starting_at(&page, LAYOUT, start);
        let mut back = Back::<_, u64, u64>::attach(&page, LAYOUT);
        prop_assert_eq!(back.ask_after(more), Ok(0));
        let mut sent = 0;
        for batch in batches {
            let before = sent;
            for _ in 0..batch {
                front.push(&0).unwrap();
                sent += 1;
            }
            prop_assert_eq!(front.publish(), before < more && sent >= more);
        }
    }

    /// A peer writes anything into the indices: an error or a count that the ring can hold.
    #[test]
    fn an_index_that_runs_ahead_is_an_error(start: u32, claim: u32, outstanding in 0u32..200) {
        let page = HeapWords::new(4096);
        let mut front = Front::<_, u64, u64>::starting_at(&page, LAYOUT, start);
        for n in 0..outstanding {
            front.push(&u64::from(n)).unwrap();
        }
        let _ = front.publish();
        page.store_u32(LAYOUT.rsp_prod, claim, Ordering::Relaxed);
        match front.pending() {
            Ok(count) => prop_assert!(count <= outstanding),
            Err(error) => prop_assert!(error.outstanding > outstanding),
        }
        page.store_u32(LAYOUT.rsp_prod, start, Ordering::Relaxed);
        let back = Back::<_, u64, u64>::attach(&page, LAYOUT);
        page.store_u32(LAYOUT.req_prod, claim, Ordering::Relaxed);
        if let Ok(count) = back.pending() {
            prop_assert!(count <= LAYOUT.slots);
        }
    }
}

#[test]
fn netif_rings_have_the_sizes_that_linux_has() {
    use crate::netif::{RxRequest, RxResponse, TxRequest, TxResponse};
    assert_eq!(RingLayout::one_page::<TxRequest, TxResponse>().slots, 256);
    assert_eq!(RingLayout::one_page::<RxRequest, RxResponse>().slots, 256);
    let tx = RingLayout::one_page::<TxRequest, TxResponse>();
    assert_eq!((tx.req_prod, tx.req_event, tx.rsp_prod, tx.rsp_event), (0, 4, 8, 12));
    assert_eq!((tx.slots_at, tx.stride), (64, 12));
}

#[test]
fn notify_arithmetic_is_right_at_the_wrap() {
    assert!(wants_event(0, u32::MAX, 1));
    assert!(wants_event(1, u32::MAX, 1));
    assert!(!wants_event(2, u32::MAX, 1));
    assert!(!wants_event(u32::MAX, u32::MAX, 1));
    assert!(wants_event(u32::MAX, u32::MAX - 1, u32::MAX));
}

/// A slot of which only the beginning may count.
type Long = [u8; 64];

const LONG: RingLayout = RingLayout::own_lines::<Long>(2);

#[test]
fn a_request_that_says_its_length_comes_out_as_long_as_it_went_in() {
    for length in 1..=64 {
        let page = HeapWords::new(2 * 4096);
        let mut front = Front::<_, Long, ()>::new(&page, LONG);
        let mut back = Back::<_, Long, ()>::attach(&page, LONG);
        let request: Vec<u8> = (length..).take(length.into()).collect();
        front.push_bytes(&request).unwrap();
        assert_eq!(back.pending(), Ok(0), "not published yet");
        let _ = front.publish();
        assert_eq!(back.pending(), Ok(1));
        let mut got = [0xEE; 64];
        let said = back.pop_bytes(&mut got, 8, |first| usize::from(first[0]));
        assert_eq!((said, &got[..said]), (request.len(), &request[..]));
        let words = said.next_multiple_of(8);
        assert!(got[said..words].iter().all(|byte| *byte == 0), "of the last word: {got:?}");
        assert!(got[words..].iter().all(|byte| *byte == 0xEE), "not looked at: {got:?}");
    }
}

#[test]
fn a_request_that_says_too_much_is_no_longer_than_its_slot() {
    let page = HeapWords::new(2 * 4096);
    let mut front = Front::<_, Long, ()>::new(&page, LONG);
    let mut back = Back::<_, Long, ()>::attach(&page, LONG);
    front.push_bytes(&[200; 64]).unwrap();
    front.push_bytes(&[1; 64]).unwrap();
    let _ = front.publish();
    let mut got = [0; 64];
    assert_eq!(back.pop_bytes(&mut got, 8, |first| usize::from(first[0])), 64);
    assert_eq!(got, [200; 64]);
    assert_eq!(back.pop(), [1; 64], "the next one is where it was");
}
