//! Frames for a guest that has posted no receive buffers: some wait, and never too many.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use xenvelope_backend::DropReason;
use xenvelope_grant::Words;
use xenvelope_grant::netif::TxFlags;
use xenvelope_grant::seam::Instant;
use xenvelope_grant::xenbus::key;
use xenvelope_tests::lab::{Lab, StockGuest, StockPlan, frame, mac, numbered, numbers_from};

/// Frames that the backend keeps for a guest.
const KEPT: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Op {
    Send(usize),
    Post(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![(1usize..40).prop_map(Op::Send), (1u32..60).prop_map(Op::Post)]
}

fn pair(notifies: bool) -> (Lab, StockGuest, StockGuest) {
    let mut lab = Lab::default();
    let mut plan = StockPlan { buffers: 0, ..StockPlan::default() };
    plan.keys.retain(|(name, _)| notifies || *name != key::FEATURE_RX_NOTIFY);
    let from = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    let to = StockGuest::connect(&mut lab, mac(2), &plan);
    (lab, from, to)
}

fn without_buffer(lab: &Lab) -> u64 {
    lab.backend.counters().drops[DropReason::NoReceiveBuffer as usize]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model: so many buffers, so many that wait, the rest is dropped. Hangs on `park` and
    /// `deliver_waiting`.
    #[test]
    fn what_there_are_no_buffers_for_waits_in_order_up_to_a_bound(
        ops in prop::collection::vec(op(), 1..40),
        notifies: bool,
    ) {
        let (mut lab, mut from, mut to) = pair(notifies);
        let kept = if notifies { KEPT } else { 0 };
        let (mut buffers, mut waiting) = (0usize, Vec::new());
        let (mut expected, mut dropped, mut next) = (Vec::new(), 0, 0);
        let mut came = Vec::new();
        for op in ops {
            match op {
                Op::Send(count) => {
                    for _ in 0..count {
                        let bytes = frame(mac(2), mac(1), &numbered(next, 400));
                        from.send(0, &bytes, TxFlags::empty(), None);
                        if buffers > 0 {
                            buffers -= 1;
                            expected.push(next);
                        } else if waiting.len() < kept {
                            waiting.push(next);
                        } else {
                            dropped += 1;
                        }
                        next += 1;
                    }
                }
                Op::Post(count) => {
                    // All that was taken is free again.
                    let count = count.min(256 - buffers as u32);
                    to.post(0, count);
                    buffers += count as usize;
                    let now = waiting.len().min(buffers);
                    expected.extend(waiting.drain(..now));
                    buffers -= now;
                }
            }
            lab.steps(2);
            from.reap();
            came.extend(to.take().into_iter().map(|frame| frame.bytes));
        }
        prop_assert_eq!(numbers_from(mac(1), &came), expected);
        prop_assert_eq!(without_buffer(&lab), dropped);
        prop_assert_eq!(from.unanswered(), 0, "the sender gets its pages back at once");
        // Nobody waits for ever.
        let left = waiting.len() as u64;
        lab.pass_ms(2000);
        prop_assert_eq!(without_buffer(&lab), dropped + left);
        to.post(0, 200);
        lab.steps(3);
        prop_assert!(to.take().is_empty());
    }
}

/// Hangs on the bound in bytes, and on a frame waiting for all the buffers that it needs.
#[test]
fn long_frames_wait_for_as_many_buffers_as_they_need_and_are_bounded_in_bytes() {
    let (mut lab, mut from, mut to) = pair(true);
    let long = frame(mac(2), mac(1), &numbered(3, 60_000));
    for _ in 0..20 {
        from.send(0, &long, TxFlags::empty(), None);
        lab.steps(2);
        from.reap();
    }
    assert_eq!(without_buffer(&lab), 3, "17 are just below a MiB");
    for _ in 0..17 {
        // 15 pages: the first post is not enough.
        to.post(0, 7);
        lab.steps(2);
        assert!(to.take().is_empty());
        to.post(0, 8);
        lab.steps(2);
        let came = to.take();
        assert_eq!(came.len(), 1);
        assert_eq!(came[0].bytes, long);
    }
    assert_eq!(lab.backend.counters().waited, 17);
}

/// Hangs on a ring that is broken while frames wait for its buffers being closed.
#[test]
fn a_guest_that_breaks_its_ring_while_frames_wait_for_it_is_closed() {
    let (mut lab, mut from, to) = pair(true);
    from.send(0, &frame(mac(2), mac(1), &[1; 60]), TxFlags::empty(), None);
    lab.steps(2);
    xenvelope_tests::lab::HostileGuest::overrun(to.queues[0].rx.words(), 0);
    lab.steps(5);
    assert_eq!(lab.backend.connected(), 1);
    assert_eq!(without_buffer(&lab), 1);
}

/// Hangs on `parked` being looked at before a frame is delivered, and on `buffers_have_come`.
#[test]
fn a_short_frame_does_not_overtake_a_long_one_that_waits_and_the_guest_is_asked_to_tell() {
    let (mut lab, mut from, mut to) = pair(true);
    let long = frame(mac(2), mac(1), &numbered(1, 60_000));
    let short = frame(mac(2), mac(1), &numbered(2, 100));
    to.post(0, 3);
    from.send(0, &long, TxFlags::empty(), None);
    lab.steps(2);
    from.send(0, &short, TxFlags::empty(), None);
    lab.steps(2);
    assert!(to.take().is_empty());
    // Asleep until there are 15 buffers, not at each one.
    lab.backend.wait(Instant(0));
    let asked = to.queues[0].rx.words().load_u32(4, Ordering::SeqCst);
    assert_eq!(asked, 15);
    to.post(0, 13);
    lab.steps(2);
    let came: Vec<_> = to.take().into_iter().map(|frame| frame.bytes).collect();
    assert_eq!(came, [long, short]);
}
