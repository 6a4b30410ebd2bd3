//! XSA-396 (CVE-2022-23036 to 23042): front-ends asked whether a page was in use and freed it
//! afterwards, and the back-end mapped it in between; or they crashed when it was in use.

use xenvelope_frontend::{Config, DropReason};
use xenvelope_grant::netif::RxResponse;
use xenvelope_grant::seam::{Access, Host as _, Share as _};
use xenvelope_grant::xenbus::XenbusState::{Closed, Closing, Connected, InitWait};
use xenvelope_grant::{DomId, Gref, Words as _};
use xenvelope_hypervisor_sim::machine::{GrantVersion, SharedPages};
use xenvelope_tests::lab::{FakeBackend, frame, mac};

use super::connected;

fn bytes_of(pages: &SharedPages) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    pages.copy_out(0, &mut bytes);
    bytes
}

#[test]
fn xsa_396_a_page_that_was_sent_is_answered_and_still_mapped() {
    // Only a whole page can be mapped.
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V1);
    let before = fake.grants(DomId::DOM0);
    fake.guest.send(&frame(mac(5), mac(0), &[0x11; 1000]));
    fake.step();
    let new: Vec<Gref> =
        fake.grants(DomId::DOM0).into_iter().filter(|gref| !before.contains(gref)).collect();
    let owner = fake.guest.domain.domid();
    let held = fake.dom0.import(owner, &new, Access::Read).expect("mapped");
    let bytes = bytes_of(&held);
    for _ in 0..100 {
        fake.netif_frames();
        fake.guest.send(&frame(mac(5), mac(0), &[0xEE; 1400]));
        fake.step();
    }
    assert_eq!(bytes_of(&held), bytes, "it was used for nothing else");
    assert_eq!(fake.guest.counters().pinned, 1);
    assert!(fake.grants(DomId::DOM0).contains(&new[0]));
    drop(held);
    fake.netif_frames();
    fake.pass_ms(100);
    assert!(fake.grants(DomId::DOM0).len() <= before.len(), "it came back");
}

#[test]
fn xsa_396_a_receive_buffer_that_is_answered_and_still_mapped() {
    let mut fake = connected();
    let owner = fake.guest.domain.domid();
    let request = fake.rx.pop();
    let held_ref = Gref(request.gref);
    let held = fake.dom0.import(owner, &[held_ref], Access::Write).expect("mapped");
    let good = frame(mac(0), mac(5), &[3; 60]);
    held.copy_in(0, &good[..72]);
    let _ = fake.rx.push(&RxResponse { id: request.id, offset: 0, flags: 0, status: 72 });
    let _ = fake.rx.publish();
    fake.step();
    assert!(fake.guest.take_received().is_empty(), "it could change under the reader");
    assert_eq!(fake.guest.counters().dropped_for(DropReason::BadResponse), 1);
    let mut seen = Vec::new();
    for round in 0..40u16 {
        for _ in 0..16.min(fake.rx.pending().expect("a ring")) {
            let request = fake.rx.pop();
            seen.push(Gref(request.gref));
            let _ = fake.rx.push(&RxResponse { id: request.id, offset: 0, flags: 0, status: -1 });
        }
        let _ = fake.rx.publish();
        fake.step();
        assert!(!seen.contains(&held_ref), "round {round}: it was let again");
    }
    assert!(seen.len() >= 200, "all others were answered meanwhile");
    drop(held);
    fake.pass_ms(100);
    let posted = fake.rx.pending().expect("a ring");
    assert!(posted >= 200, "{posted} buffers: it goes on when the page is let go");
    fake.answer(0, &good, 0);
    let _ = fake.rx.publish();
    fake.step();
    assert_eq!(fake.guest.take_received(), [good]);
}

#[test]
fn xsa_396_a_driver_domain_that_holds_on_to_all_that_it_answers_gets_nothing_more() {
    let mut fake = connected();
    fake.guest.hooks.fail_revokes(true);
    for _ in 0..600 {
        fake.guest.send(&frame(mac(5), mac(0), &[1; 1000]));
        fake.step();
        fake.netif_frames();
    }
    assert_eq!(fake.guest.counters().pinned, 513);
    assert_eq!(fake.states().0, Closing);
    let again = |fake: &mut FakeBackend| {
        fake.say(Closed);
        fake.pass_ms(5000);
        fake.say(InitWait);
        fake.step();
        fake.states().0
    };
    assert_eq!(again(&mut fake), Closing, "no other rings");
    fake.guest.hooks.fail_revokes(false);
    assert_eq!(again(&mut fake), Connected);
}
