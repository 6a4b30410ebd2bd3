//! Linux' netfront ends the connection for an index that runs ahead or back. (For an id that is
//! not out: XSA-405. A grant that is still in use after completion is kept: XSA-396.)

use std::sync::atomic::Ordering;

use xenvelope_grant::Words as _;
use xenvelope_grant::netif::{RxResponse, TxResponse};
use xenvelope_hypervisor_sim::machine::SharedPages;
use xenvelope_tests::lab::{frame, mac};

use super::{connected, has_ended};

/// Publishes that so many responses were given.
fn claim(words: &SharedPages, index: u32) {
    words.store_u32(8, index, Ordering::SeqCst);
}

#[test]
fn a_response_index_beyond_what_was_requested_on_the_receive_ring() {
    // The guest has 256 buffers out.
    for index in [257, 300, 0x4000_0000, 0x8000_0000, u32::MAX] {
        let fake = connected();
        claim(fake.rx.words(), index);
        has_ended(fake, &format!("{index:#x}"));
    }
}

#[test]
fn a_response_index_beyond_what_was_requested_on_the_transmit_ring() {
    for index in [2, 257, 0x4000_0000, 0x8000_0000, u32::MAX] {
        let mut fake = connected();
        fake.guest.send(&frame(mac(5), mac(0), &[1; 60]));
        fake.step();
        let id = fake.tx.pop().id;
        // The first answer is a good one; the second answers nothing that there is.
        let _ = fake.tx.push(&TxResponse { id, status: 0 });
        let _ = fake.tx.publish();
        claim(fake.tx.words(), index);
        has_ended(fake, &format!("{index:#x}"));
    }
}

#[test]
fn a_response_index_that_goes_back() {
    let mut fake = connected();
    for _ in 0..5 {
        let id = fake.rx.pop().id;
        let _ = fake.rx.push(&RxResponse { id, offset: 0, flags: 0, status: 60 });
    }
    let _ = fake.rx.publish();
    fake.step();
    claim(fake.rx.words(), 3);
    has_ended(fake, "the receive ring");
    let mut fake = connected();
    for _ in 0..5 {
        fake.guest.send(&frame(mac(5), mac(0), &[1; 60]));
    }
    fake.step();
    assert_eq!(fake.netif_frames(), 5);
    fake.step();
    claim(fake.tx.words(), 3);
    has_ended(fake, "the transmit ring");
}
