//! CVE-2024-27393 (XSA-457): netfront did not give receive pages back, and a back-end that sent
//! enough had it run out of memory.

use xenvelope_frontend::{Counters, DropReason, Link};
use xenvelope_grant::DomId;
use xenvelope_grant::netif::{RxFlags, RxResponse};
use xenvelope_tests::lab::{FakeBackend, frame, mac};

use super::connected;

/// Answers some thousands of buffers with that, and looks whether they come back, and whether each
/// time one frame is counted by `counted`.
fn nothing_is_lost(counted: fn(&Counters) -> u64, answers: &[(u16, u16, i16)]) {
    let mut fake = connected();
    let grants = fake.grants(DomId::DOM0).len();
    let posted = fake.rx.pending().expect("a ring");
    let (mut sets, mut slots) = (0u64, 0);
    for _ in 0..200 {
        for _ in 0..16 / answers.len() {
            for (offset, flags, status) in answers {
                let id = fake.rx.pop().id;
                let (offset, flags, status) = (*offset, *flags, *status);
                let _ = fake.rx.push(&RxResponse { id, offset, flags, status });
                slots += 1;
            }
            sets += 1;
        }
        let _ = fake.rx.publish();
        fake.step();
        let now = fake.rx.pending().expect("a ring");
        assert!(now >= posted - 64, "{now} buffers after {slots}");
    }
    assert!(slots > 2000);
    assert_eq!(counted(fake.guest.counters()), sets);
    assert!(fake.guest.take_received().is_empty());
    assert!(fake.grants(DomId::DOM0).len() <= grants);
    a_good_one_arrives(fake);
}

fn bad_response(counters: &Counters) -> u64 {
    counters.dropped_for(DropReason::BadResponse)
}

/// Who says that it failed has counted the drop: it is not one of the frontend's too.
fn failed(counters: &Counters) -> u64 {
    assert_eq!(counters.dropped(), 0);
    counters.failed_by_backend
}

fn a_good_one_arrives(mut fake: FakeBackend) {
    let good = frame(mac(0), mac(5), &[3; 60]);
    fake.answer(0, &good, 0);
    let _ = fake.rx.publish();
    fake.step();
    assert_eq!(fake.guest.take_received(), [good]);
    assert_eq!(fake.guest.frontend.link(), Link::Up);
}

#[test]
fn cve_2024_27393_buffers_of_frames_that_are_marked_as_failed() {
    nothing_is_lost(failed, &[(0, 0, -1)]);
}

#[test]
fn cve_2024_27393_buffers_of_frames_for_somebody_else() {
    // The pages are zeroed, and so is the destination.
    nothing_is_lost(|counters| counters.dropped_for(DropReason::NotOurs), &[(0, 0, 60)]);
}

#[test]
fn cve_2024_27393_buffers_of_frames_without_a_header() {
    nothing_is_lost(bad_response, &[(0, 0, 10)]);
    nothing_is_lost(bad_response, &[(0, 0, 0)]);
}

#[test]
fn cve_2024_27393_buffers_of_frames_that_fail_in_the_middle() {
    let more = RxFlags::MORE_DATA.bits();
    nothing_is_lost(failed, &[(0, more, 4096), (0, more, -1), (0, 0, 100)]);
}
