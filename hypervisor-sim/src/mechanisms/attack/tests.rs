//! Each attack, and what must come of it under each mechanism.

use xenvelope_grant::seam::Mechanism::{Destination, Keyed, Transitive};

use super::super::{CardTrial, try_card};
use super::*;

/// Whether it succeeds, and whether the receiver gets its frame nevertheless.
fn of(attack: Attack, mechanism: Mechanism) -> (bool, bool) {
    let outcome = carry_out(attack, mechanism).expect("the scene");
    (outcome.succeeded, outcome.delivered)
}

const FAILS: (bool, bool) = (false, true);

#[test]
fn who_overhears_an_envelope_reads_only_what_bears_a_key_and_then_before_the_receiver() {
    assert_eq!(of(Attack::Overheard, Destination), FAILS);
    assert_eq!(of(Attack::Overheard, Transitive), FAILS);
    assert_eq!(of(Attack::Overheard, Keyed), (true, false));
}

#[test]
fn who_overhears_an_envelope_takes_only_what_bears_a_key_from_the_receiver() {
    assert_eq!(of(Attack::Starved, Destination), FAILS);
    assert_eq!(of(Attack::Starved, Transitive), FAILS);
    assert_eq!(of(Attack::Starved, Keyed), (true, false));
}

#[test]
fn who_guesses_reads_nothing() {
    for mechanism in Mechanism::ALL {
        assert_eq!(of(Attack::Guessed, mechanism), FAILS, "{mechanism}");
    }
}

#[test]
fn only_a_key_is_used_up_by_a_use() {
    assert_eq!(of(Attack::UsedTwice, Destination), (true, true));
    assert_eq!(of(Attack::UsedTwice, Transitive), (true, true));
    assert_eq!(of(Attack::UsedTwice, Keyed), FAILS);
}

#[test]
fn a_receiver_reads_nothing_that_was_granted_to_another() {
    for mechanism in Mechanism::ALL {
        assert_eq!(of(Attack::OthersGrant, mechanism), FAILS, "{mechanism}");
    }
}

#[test]
fn a_driver_domain_on_the_way_reads_all_but_what_is_granted_to_its_destination() {
    assert_eq!(of(Attack::DriverDomainReads, Destination), FAILS);
    assert_eq!(of(Attack::DriverDomainReads, Transitive), (true, true));
    assert_eq!(of(Attack::DriverDomainReads, Keyed), (true, false));
}

#[test]
fn a_driver_domain_lets_the_wrong_guest_read_all_but_what_is_granted_to_its_destination() {
    assert_eq!(of(Attack::PassedToWrongGuest, Destination), FAILS);
    assert_eq!(of(Attack::PassedToWrongGuest, Transitive), (true, true));
    assert_eq!(of(Attack::PassedToWrongGuest, Keyed), (true, false));
}

#[test]
fn the_sender_ends_every_attack_by_taking_the_frame_back() {
    for mechanism in Mechanism::ALL {
        let mut scene = Scene::set(mechanism).expect("the scene");
        assert!(scene.take_back());
        for domain in [&scene.receiver, &scene.third, &scene.driver] {
            assert!(!scene.reads(domain, scene.leaf), "{mechanism}");
        }
    }
}

#[test]
fn the_card_carries_every_envelope_and_makes_no_transitive_grant() {
    let works = CardTrial { arrived: true, read: true };
    assert_eq!(try_card(Destination).expect("a card"), works);
    assert_eq!(try_card(Keyed).expect("a card"), works);
    assert_eq!(try_card(Transitive).expect("a card"), CardTrial { arrived: true, read: false });
}
