//! XSA-332 (CVE-2020-27673): a guest that sends events without end kept its back-end's processor
//! busy, and nobody else was served.

use std::cell::Cell;
use std::rc::Rc;

use xenvelope_grant::seam::Instant;
use xenvelope_tests::lab::{Bystanders, RawGuest, frame, mac};

/// More events than that within one sleep: whoever handles them never gets to anything else.
const STORM: u64 = 1000;

#[test]
fn xsa_332_an_event_at_each_unmask_costs_one_look_and_no_loop() {
    let (mut lab, others) = Bystanders::with_lab();
    let guest = Rc::new(RawGuest::connect(&mut lab, mac(9)));
    lab.steps(10);
    let events = Rc::new(Cell::new(0u64));
    let (count, knocker) = (Rc::clone(&events), Rc::clone(&guest));
    lab.backend_hooks.after_unmask(move || {
        count.set(count.get() + 1);
        assert!(count.get() < STORM, "the sleep ends");
        knocker.knock();
    });
    guest.knock();
    for round in 1..=50 {
        for _ in 0..100 {
            guest.knock();
        }
        events.set(0);
        lab.backend.wait(Instant(0));
        // One for each port that somebody has, and no more.
        assert!((1..=3).contains(&events.get()), "round {round}: {} events", events.get());
        let cost = lab.step_counted();
        assert_eq!(cost.copy_ops, 0, "an event without a request is no work");
    }
    others.unharmed(&mut lab);
}

#[test]
fn xsa_332_a_guest_that_always_has_frames_gets_its_share_of_a_round() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let bytes = frame(mac(7), mac(9), &[7; 60]);
    let gref = guest.page(&bytes);
    for round in 0..20 {
        while guest.stock.has_room(0) {
            guest.chain(0, bytes.len() as u16, &[(gref, 0, 0)]);
        }
        guest.publish();
        let before = lab.backend.counters().netif_in;
        lab.step();
        let taken = lab.backend.counters().netif_in - before;
        assert!((1..=64).contains(&taken), "round {round}: {taken} frames");
        guest.answers();
        // The others get theirs in the same round.
        lab.guests[0].send(&frame(mac(1), mac(0), &[round; 60]));
        lab.guests[0].turn(lab.now);
        lab.steps(2);
        assert_eq!(lab.guests[1].take_received().len(), 1, "round {round}");
        guest.answers();
    }
    others.unharmed(&mut lab);
}
