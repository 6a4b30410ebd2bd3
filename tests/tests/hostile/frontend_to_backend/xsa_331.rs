//! XSA-331: an event channel was closed while an event of it was being handled, and the handler
//! went on with what was gone.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use xenvelope_grant::seam::Instant;
use xenvelope_grant::xenbus::XenbusState;
use xenvelope_tests::lab::{Bystanders, RawGuest, frame, mac, remove_vif};

#[test]
fn xsa_331_an_event_that_was_queued_before_its_channel_was_closed() {
    let (mut lab, others) = Bystanders::with_lab();
    let guest = RawGuest::connect(&mut lab, mac(9));
    let ports = lab.backend_hooks.connected_to(guest.domid());
    assert!(!ports.is_empty());
    guest.knock();
    guest.stock.say(XenbusState::Closing);
    lab.steps(2);
    assert_eq!(lab.mapped_from(guest.domid()), 0, "it is down");
    // Linux' /dev/xen/evtchn keeps what was queued before the port was unbound.
    for port in &ports {
        lab.backend_hooks.report(*port);
    }
    for _ in 0..3 {
        lab.backend.wait(Instant(0));
    }
    assert!(lab.backend_hooks.all_reported());
    lab.steps(2);
    others.unharmed(&mut lab);
}

#[test]
fn xsa_331_a_guest_that_is_gone_in_the_middle_of_a_round_that_has_its_frames() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let id = guest.domid();
    let bytes = frame(mac(0), mac(9), &[7; 1000]);
    let gref = guest.page(&bytes);
    for number in 0..8 {
        guest.chain(number, bytes.len() as u16, &[(gref, 0, 0)]);
    }
    guest.publish();
    // Frames for it are in the same round.
    for _ in 0..8 {
        lab.guests[0].send(&frame(mac(9), mac(0), &[1; 1000]));
    }
    let calls = Rc::new(Cell::new(0));
    let (seen, machine) = (Rc::clone(&calls), Arc::clone(&lab.machine));
    lab.backend_hooks.before_copy(move || {
        seen.set(seen.get() + 1);
        if seen.get() == 2 {
            machine.destroy(id);
        }
    });
    lab.steps(3);
    assert!(calls.get() >= 2, "it ended between the two calls");
    lab.backend_hooks.before_copy(|| ());
    assert!(lab.guests[0].take_received().is_empty(), "what could not be copied is not delivered");
    remove_vif(&lab.dom0, id);
    lab.steps(3);
    assert_eq!(lab.backend.connected(), 2);
    assert_eq!(lab.mapped_from(id), 0);
    others.unharmed(&mut lab);
}
