//! XSA-405 (CVE-2022-33743): a bad response had netfront use a buffer that it had freed.

use xenvelope_grant::netif::{RxFlags, RxResponse, TxResponse};
use xenvelope_tests::lab::{FakeBackend, frame, mac};

use super::{connected, has_ended};

/// The guest has sent a frame of that many bytes; its slots' ids.
fn sent(fake: &mut FakeBackend, length: usize) -> Vec<u16> {
    fake.guest.send(&frame(mac(5), mac(0), &vec![1; length]));
    fake.step();
    (0..fake.tx.pending().expect("a ring")).map(|_| fake.tx.pop().id).collect()
}

fn answer(fake: &mut FakeBackend, ids: &[u16]) {
    for id in ids {
        let _ = fake.tx.push(&TxResponse { id: *id, status: 0 });
    }
    let _ = fake.tx.publish();
}

#[test]
fn xsa_405_an_answer_to_what_is_not_out() {
    for id in [3, 255, 256, 0x8000, u16::MAX] {
        let mut fake = connected();
        let ids = sent(&mut fake, 100);
        assert!(!ids.contains(&id));
        answer(&mut fake, &[id]);
        has_ended(fake, &format!("id {id}"));
    }
}

#[test]
fn xsa_405_an_answer_that_comes_twice() {
    let mut fake = connected();
    let first = sent(&mut fake, 100);
    answer(&mut fake, &first);
    fake.step();
    let second = sent(&mut fake, 9000);
    assert!(second.len() > 2);
    // One slot of the frame as often as the frame has slots: the others are still in use.
    let twice = vec![second[0]; second.len()];
    answer(&mut fake, &twice);
    has_ended(fake, "the first slot again and again");
    let mut fake = connected();
    let ids = sent(&mut fake, 9000);
    answer(&mut fake, &vec![ids[1]; ids.len()]);
    has_ended(fake, "another slot again and again");
}

#[test]
fn xsa_405_a_response_for_another_buffer_than_its_own() {
    for id in [1, 255, 256, u16::MAX] {
        let mut fake = connected();
        assert_eq!(fake.rx.pop().id, 0);
        let _ = fake.rx.push(&RxResponse { id, offset: 0, flags: 0, status: 60 });
        let _ = fake.rx.publish();
        has_ended(fake, &format!("id {id}"));
    }
}

#[test]
fn xsa_405_a_fragment_outside_its_page() {
    for (offset, status) in [(4000, 200), (4096, 60), (0xFFFF, 60), (1, 4096), (0, i16::MAX)] {
        let mut fake = connected();
        // A header that would be taken, in the page and in the next one.
        for _ in 0..2 {
            let id = fake.rx.pop().id;
            let _ = fake.rx.push(&RxResponse { id, offset, flags: 0, status });
        }
        let _ = fake.rx.publish();
        has_ended(fake, &format!("{status} bytes at {offset}"));
        let mut fake = connected();
        let flags = [RxFlags::MORE_DATA.bits(), 0];
        for (flags, (offset, status)) in flags.into_iter().zip([(0, 60), (offset, status)]) {
            let id = fake.rx.pop().id;
            let _ = fake.rx.push(&RxResponse { id, offset, flags, status });
        }
        let _ = fake.rx.publish();
        has_ended(fake, &format!("later, {status} bytes at {offset}"));
    }
}
