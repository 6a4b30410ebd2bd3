//! XSA-392 (CVE-2021-28714, 28715): a guest that posts no receive buffers, or fewer than a frame
//! needs, had its back-end keep frames without bound, and was not noticed.

use xenvelope_backend::DropReason;
use xenvelope_grant::netif::TxFlags;
use xenvelope_tests::lab::{Bystanders, Lab, StockGuest, StockPlan, frame, mac, numbered};

/// Frames that are kept for one queue.
const KEPT: u64 = 64;

fn setting(buffers: u32) -> (Lab, Bystanders, StockGuest, StockGuest) {
    let (mut lab, others) = Bystanders::with_lab();
    let from = StockGuest::connect(&mut lab, mac(8), &StockPlan::default());
    let plan = StockPlan { buffers, ..StockPlan::default() };
    let guest = StockGuest::connect(&mut lab, mac(9), &plan);
    (lab, others, from, guest)
}

fn dropped(lab: &Lab) -> u64 {
    lab.backend.counters().drops[DropReason::NoReceiveBuffer as usize]
}

fn flood(lab: &mut Lab, from: &mut StockGuest, frames: u64, length: usize) {
    for number in 0..frames {
        let bytes = frame(mac(9), mac(8), &numbered(number, length));
        from.send(0, &bytes, TxFlags::empty(), None);
        lab.steps(2);
        from.reap();
    }
    assert_eq!(from.unanswered(), 0, "the sender does not wait for the receiver");
}

#[test]
fn xsa_392_no_receive_buffers_and_a_flood_of_short_frames() {
    let (mut lab, others, mut from, mut guest) = setting(0);
    flood(&mut lab, &mut from, 300, 100);
    assert_eq!(dropped(&lab), 300 - KEPT);
    others.unharmed(&mut lab);
    guest.post_all(200);
    lab.steps(3);
    assert_eq!(guest.take().len() as u64, KEPT);
}

#[test]
fn xsa_392_no_receive_buffers_and_a_flood_of_long_frames() {
    let (mut lab, others, mut from, _guest) = setting(0);
    flood(&mut lab, &mut from, 40, 60_000);
    assert_eq!(40 - dropped(&lab), (1 << 20) / 60_014, "a MiB");
    others.unharmed(&mut lab);
}

#[test]
fn xsa_392_exactly_one_buffer_when_more_are_needed() {
    let (mut lab, others, mut from, mut guest) = setting(1);
    flood(&mut lab, &mut from, 1, 9000);
    assert!(guest.take().is_empty(), "no part of it");
    assert_eq!(dropped(&lab), 0);
    assert_eq!(guest.queues[0].rx.outstanding(), 1, "its buffer was not used up");
    others.unharmed(&mut lab);
    guest.post_all(2);
    lab.steps(3);
    assert_eq!(guest.take().len(), 1);
}

#[test]
fn xsa_392_a_guest_that_has_stalled_is_given_up() {
    let (mut lab, others, mut from, mut guest) = setting(1);
    flood(&mut lab, &mut from, 10, 9000);
    lab.pass_ms(500);
    assert_eq!(dropped(&lab), 0, "not at once");
    lab.pass_ms(1500);
    assert_eq!(dropped(&lab), 10);
    guest.post_all(200);
    lab.steps(3);
    assert!(guest.take().is_empty());
    others.unharmed(&mut lab);
}
