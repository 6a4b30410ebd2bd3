//! Copies of what was not granted, and copies that nobody carried out.

use xenvelope_frontend::DropReason;
use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Granter as _, Segment};
use xenvelope_tests::lab::envelopes::{addresses, granted, head};
use xenvelope_tests::lab::{Hooks, Lab, Uncopied, frame, mac};

use crate::neighbours::go_on;

/// Hangs on `GrantState::entry`.
#[test]
fn xsa_18_134_references_beyond_the_table_are_refused() {
    let (mut lab, mut hostile) = Lab::switched();
    let page = hostile.grant_page(lab.domid(1), &[7; 4096]);
    let good = hostile.domain.segments(&page)[0].gref;
    let to = addresses(mac(1), mac(9));
    let beyond = [u32::MAX, 0x00FF_FFFF, 1 << 31, 65_536, 16_384];
    for (sequence, gref) in (0..).zip(beyond) {
        let piece = |gref| [Segment { gref, offset: 0, len: 600 }];
        let frames: [(u16, &[Segment]); 2] = [(600, &piece(Gref(gref))), (600, &piece(good))];
        hostile.push_envelope(&granted(to, head(5, sequence), &frames));
    }
    lab.steps(10);
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::CopyFailed), 5);
    assert_eq!(lab.guests[1].take_received(), vec![frame(mac(1), mac(9), &[7; 600]); 5]);
    go_on(&mut lab);
}

/// The hypervisor says that the call went well, and `uncopied` of each operation.
fn nothing_is_delivered(uncopied: Uncopied) {
    let (mut lab, _hostile) = Lab::switched();
    lab.expect_delivery(0, 1, &[1; 1000]);
    let hooks: Hooks = lab.guests[1].hooks.clone();
    hooks.leave_copies(Some(uncopied));
    for _ in 0..5 {
        lab.send(0, 1, &[1; 1000]);
    }
    lab.steps(20);
    assert!(lab.guests[1].take_received().is_empty(), "{uncopied:?}");
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::CopyFailed), 5);
    hooks.leave_copies(None);
    go_on(&mut lab);
}

/// Hangs on `Status::check`.
#[test]
fn xsa_316_a_status_that_is_positive_is_an_error() {
    for code in [1, 7, i16::MAX] {
        nothing_is_delivered(Uncopied::Said(code));
    }
}

/// Hangs on `CopyOp::new`, which does not begin with `GNTST_okay`.
#[test]
fn xsa_318_an_operation_whose_status_nobody_wrote_is_not_believed() {
    nothing_is_delivered(Uncopied::Unsaid);
}
