//! XSA-300: a guest had a back-end map pages without bound, until nobody could map any more.

use xenvelope_grant::seam::Host as _;
use xenvelope_grant::xenbus::{XenbusState, key};
use xenvelope_tests::lab::{Bystanders, HostileGuest, Lab, StockGuest, StockPlan, mac};

/// Begins anew: down, and up to where it can shake hands.
fn begin_anew(lab: &mut Lab, guest: &StockGuest) {
    for state in [XenbusState::Closing, XenbusState::Closed, XenbusState::Initialising] {
        guest.say(state);
        lab.steps(2);
    }
}

#[test]
fn xsa_300_a_guest_that_connects_again_and_again_has_no_more_mapped_than_once() {
    let (mut lab, others) = Bystanders::with_lab();
    let plan = StockPlan { buffers: 0, ..StockPlan::default() };
    let mut guest = StockGuest::connect(&mut lab, mac(9), &plan);
    let id = guest.domain.domid();
    let once = lab.mapped_from(id);
    assert!(once > 0);
    for life in 0..40 {
        begin_anew(&mut lab, &guest);
        assert_eq!(lab.mapped_from(id), 0, "life {life}: nothing is left of the one before");
        guest.shake_hands(&mut lab, &plan);
        assert_eq!(lab.mapped_from(id), once, "life {life}");
    }
    others.unharmed(&mut lab);
}

/// The pages that the driver domain must keep for it are tables that it does not unmap.
#[test]
fn xsa_300_a_guest_that_keeps_its_tables_mapped_gets_no_more_than_its_share() {
    const LIVES: usize = 4;
    let (mut lab, others) = Bystanders::with_lab();
    let first = HostileGuest::connect(&mut lab, mac(9));
    let (domain, front, back) = (first.domain.clone(), first.front, first.back);
    let mut stock =
        StockGuest { domain: domain.clone(), mac: mac(9), front, back, queues: Vec::new() };
    let held = domain.clone();
    let held = || held.mapped_pages();
    let of_one = held();
    assert!(of_one > 0);
    // What it holds is alive as long as these are.
    let mut lives = vec![first];
    for life in 1..=LIVES {
        begin_anew(&mut lab, &stock);
        assert_eq!(held(), life * of_one);
        if life < LIVES {
            lives.push(HostileGuest::shake_hands(&mut lab, domain.clone(), mac(9), &[]));
        }
    }
    stock.say_connected(&StockPlan::default());
    lab.steps(5);
    assert_eq!(stock.backend(), XenbusState::Closed, "no fifth table");
    assert_eq!(held(), LIVES * of_one);
    others.unharmed(&mut lab);
    // When it lets go it is served again.
    drop(lives);
    lab.pass_ms(1000);
    assert_eq!(held(), 0);
    stock.say(XenbusState::Initialising);
    let mut plan = StockPlan::default();
    plan.keys.push((key::FEATURE_ENVELOPE, 0));
    stock.shake_hands(&mut lab, &plan);
    others.unharmed(&mut lab);
}
