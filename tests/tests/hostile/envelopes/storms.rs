//! More envelopes than anybody can take.

use xenvelope_backend::PairRoute;
use xenvelope_switch::EnvelopeBuilder;
use xenvelope_tests::lab::envelopes::{addresses, head, inline};
use xenvelope_tests::lab::{GuestPlan, HostileGuest, Lab, frame, mac};

use crate::neighbours::go_on;

/// Frames that guest 0 sends while the storm goes on.
const FRAMES: usize = 300;

/// The hostile guest is there first: what is served in a fixed order serves it first.
fn storm(envelope: impl Fn(u32) -> Vec<u8>) -> (Lab, usize) {
    let mut lab = Lab::default();
    let mut hostile = HostileGuest::connect(&mut lab, mac(9));
    for _ in 0..2 {
        lab.add_guest(&GuestPlan::default());
    }
    lab.connect();
    lab.all_routes(PairRoute::Switch);
    let genuine = frame(mac(1), mac(0), &[3; 1000]);
    let count = |lab: &mut Lab| {
        let came = lab.guests[1].take_received();
        came.iter().filter(|bytes| **bytes == genuine).count()
    };
    let (mut sequence, mut arrived) = (0, 0);
    for _ in 0..FRAMES {
        lab.send(0, 1, &[3; 1000]);
        for _ in 0..64 {
            hostile.push_envelope(&envelope(sequence));
            sequence += 1;
        }
        lab.step();
        arrived += count(&mut lab);
    }
    lab.steps(20);
    arrived += count(&mut lab);
    let counters = lab.backend.counters();
    let dropped: u64 = counters.reasons().map(|(_, count)| count).sum();
    assert!(counters.envelopes_forwarded + dropped > 5000, "the storm has come");
    // Envelopes that found no room have left grants behind, for as long as a time-out.
    lab.pass_ms(700);
    (lab, arrived)
}

/// Hangs on `Backend::ports_in_turn`: everybody is the first at some time.
#[test]
fn a_storm_of_envelopes_that_fills_a_receivers_ring_leaves_others_their_part_of_it() {
    let to = addresses(mac(1), mac(9));
    let (mut lab, arrived) = storm(|sequence| inline(to, head(5, sequence), &[1; 60]));
    assert!(arrived > FRAMES / 5, "{arrived} of {FRAMES} frames");
    go_on(&mut lab);
}

/// Hangs on `Envelope::parse` in the switch: what is none is passed to nobody.
#[test]
fn a_storm_of_what_is_no_envelope_costs_others_nothing() {
    let (mut lab, arrived) = storm(|sequence| {
        let mut bytes = inline(addresses(mac(1), mac(9)), head(5, sequence), &[1; 60]);
        // A length beyond the slot.
        bytes[16] = 0xFF;
        bytes[17] = 0xFF;
        bytes
    });
    assert_eq!(arrived, FRAMES);
    go_on(&mut lab);
}

/// Hangs on `WINDOW` and on nothing being kept of a reset: a bounded number of things is
/// remembered, whatever epochs a peer names.
#[test]
fn a_storm_of_resets_and_epochs_costs_others_nothing() {
    let to = addresses(mac(1), mac(9));
    let (mut lab, arrived) = storm(|sequence| {
        if sequence % 2 == 0 {
            EnvelopeBuilder::reset(to, sequence).finish().to_vec()
        } else {
            inline(to, head(sequence, sequence), &[1; 60])
        }
    });
    assert!(arrived > FRAMES / 5, "{arrived} of {FRAMES} frames");
    go_on(&mut lab);
}
