//! Rules 3, 6 and 7 from the other side: who was merely late, or lost a few frames on the way, is
//! no hostile peer. Its path is not closed, and frames go on.

use xenvelope_backend::PairRoute;
use xenvelope_tests::lab::{GuestPlan, Lab};

/// Guest 1 is late; meanwhile guest 0 sends so many small frames, one in each envelope, of which
/// its channel holds 64.
fn late(granted: bool, frames: usize) -> Lab {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Switch);
    for _ in 0..10 {
        lab.expect_delivery(0, 1, &[1; 120]);
    }
    lab.steps(500);
    lab.guests[1].asleep = true;
    if granted {
        lab.send(0, 1, &[2; 1000]);
        lab.pass_ms(600);
    }
    for _ in 0..frames {
        lab.send(0, 1, &[3; 120]);
        lab.steps(1);
    }
    lab.guests[1].asleep = false;
    lab.steps(500);
    lab.guests[1].take_received();
    lab
}

fn both_go_on(lab: &mut Lab) {
    for _ in 0..3 {
        lab.expect_delivery(0, 1, &[4; 120]);
        lab.expect_delivery(1, 0, &[4; 120]);
        lab.expect_delivery(0, 1, &[5; 1000]);
        lab.expect_delivery(1, 0, &[5; 1000]);
    }
    assert_eq!(lab.guests[0].counters().bad_dones, 0);
    assert_eq!(lab.guests[1].counters().bad_dones, 0);
}

/// Hangs on the windows' arithmetic.
#[test]
fn a_receiver_that_missed_a_few_envelopes_gets_the_next_ones() {
    both_go_on(&mut late(false, 100));
}

/// Hangs on the nonce of a done being that of an envelope that came, when the window has moved
/// over a hole (`ReceiveWindow::done`).
#[test]
fn a_receiver_that_missed_as_many_envelopes_as_a_window_holds_gets_the_next_ones() {
    both_go_on(&mut late(false, 400));
}

/// Hangs on `ReceiveWindow::check` taking a sequence number far ahead for a loss.
#[test]
fn a_receiver_that_missed_a_thousand_envelopes_gets_the_next_ones() {
    both_go_on(&mut late(false, 1000));
}

/// Hangs on `SendWindow::check` telling a done that is old from one that lies.
#[test]
fn a_receiver_that_says_done_late_is_not_taken_for_one_that_lies() {
    let mut lab = late(true, 1000);
    assert_eq!(lab.guests[0].counters().bad_dones, 0);
    both_go_on(&mut lab);
}
