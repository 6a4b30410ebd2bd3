//! XSA-424 (CVE-2022-42328, 42329): dropping a frame could dead-lock. There is no lock here; what
//! a drop can do is keep what it should give back, until nothing moves any more.

use xenvelope_backend::DropReason;
use xenvelope_grant::Gref;
use xenvelope_grant::netif::TxFlags;
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::{Bystanders, RawGuest, StockGuest, StockPlan, frame, mac};

#[test]
fn xsa_424_every_frame_that_is_dropped_is_answered() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let reserved = MacAddress([0x01, 0x80, 0xC2, 0, 0, 1]);
    let drops = [
        frame(mac(0), mac(1), &[1; 60]),
        frame(reserved, mac(9), &[1; 60]),
        frame(mac(9), mac(9), &[1; 60]),
        vec![0; 13],
    ];
    let before = lab.backend.counters().dropped();
    let (mut sent, mut answered) = (0, 0);
    for _ in 0..100 {
        for bytes in &drops {
            let gref = guest.page(bytes);
            guest.chain(0, bytes.len() as u16, &[(gref, 0, 0)]);
            sent += 1;
        }
        // Its page is not there.
        guest.chain(0, 60, &[(Gref(0x00FF_FFFF), 0, 0)]);
        sent += 1;
        guest.publish();
        lab.steps(2);
        answered += guest.answers().len();
        assert_eq!(answered, sent, "the ring does not fill up with what was dropped");
    }
    // The short one and the one without a page are refused: they never were frames.
    assert_eq!(lab.backend.counters().dropped() - before, 300);
    assert!(!guest.is_closed());
    others.unharmed(&mut lab);
}

#[test]
fn xsa_424_frames_that_fail_while_they_are_put_aside_do_not_block_their_destination() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let plan = StockPlan { buffers: 0, ..StockPlan::default() };
    let mut victim = StockGuest::connect(&mut lab, mac(8), &plan);
    let mut honest = StockGuest::connect(&mut lab, mac(7), &StockPlan::default());
    // The header can be fetched, and shows where it goes; the rest is not there.
    let gref = guest.page(&frame(mac(8), mac(9), &[7; 1000]));
    let before = lab.backend.counters().drops[DropReason::CopyFailed as usize];
    for _ in 0..100 {
        guest.chain(0, 1500, &[(gref, 0, 0), (Gref(0x00FF_FFFF), 0, 500)]);
        guest.publish();
        lab.steps(2);
        guest.answers();
    }
    let failed = lab.backend.counters().drops[DropReason::CopyFailed as usize] - before;
    assert_eq!(failed, 100, "each got as far as the copy aside");
    let bytes = frame(mac(8), mac(7), &[3; 500]);
    honest.send(0, &bytes, TxFlags::empty(), None);
    lab.steps(3);
    victim.post_all(20);
    lab.steps(3);
    let came = victim.take();
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].bytes, bytes);
    others.unharmed(&mut lab);
}
