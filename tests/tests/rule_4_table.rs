//! Rule 4: a reader of the table never blocks, never sees half an entry; what cannot be believed
//! is a miss, and a miss is the default route.

use std::sync::atomic::Ordering::SeqCst;

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Config;
use xenvelope_grant::Words as _;
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{FakeBackend, GuestPlan, Lab, Random, frame, mac, seed};

/// Hangs on the versions that `Entry::from_words` compares.
#[test]
fn frames_take_the_default_route_when_the_table_holds_garbage() {
    let mut random = Random(seed("garbage table"));
    for round in 0..40 {
        let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
        for at in (128..4096).step_by(8) {
            // The right address in each first word, and any version.
            let first = at % 32 == 0;
            let value = mac(1).to_bits() << 16 | random.bits() & 0xFFFF;
            let word = if first { value } else { random.bits() };
            fake.table.borrow().words().store_u64(at, word, SeqCst);
        }
        if round % 2 == 0 {
            for at in (0..128).step_by(8).filter(|at| *at != 64) {
                fake.table.borrow().words().store_u64(at, random.bits(), SeqCst);
            }
        }
        for _ in 0..8 {
            fake.guest.send(&frame(mac(1), mac(0), &[1; 300]));
        }
        fake.step();
        assert_eq!(fake.netif_frames(), 8);
        assert!(fake.envelopes().is_empty());
    }
}

/// Hangs on the versions as well: the writer zeroes the first word first and writes it last.
#[test]
fn an_entry_that_its_writer_left_half_written_is_none() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let (old, new) = (fake.other("old"), fake.other("new"));
    let entry = |peer| Entry {
        mac: mac(1),
        vid: 0,
        peer,
        channel: CHANNEL_DRIVER_DOMAIN,
        flags: EntryFlags::ENVELOPE,
    };
    fake.table.borrow_mut().insert(entry(old.peer())).expect("room");
    let read = |fake: &FakeBackend, at| fake.table.borrow().words().load_u64(at, SeqCst);
    let at = (128..4096).step_by(32).find(|at| read(&fake, *at) != 0).expect("an entry");
    let before: Vec<u64> = (0..4).map(|word| read(&fake, at + 8 * word)).collect();
    fake.table.borrow_mut().insert(entry(new.peer())).expect("room");
    for (changed, before) in before.iter().enumerate().skip(1) {
        let word = read(&fake, at + 8 * changed);
        fake.table.borrow().words().store_u64(at + 8 * changed, *before, SeqCst);
        fake.guest.send(&frame(mac(1), mac(0), &[1; 300]));
        fake.step();
        assert_eq!(fake.netif_frames(), 1, "word {changed} is the old one");
        fake.table.borrow().words().store_u64(at + 8 * changed, word, SeqCst);
    }
    fake.step();
    fake.guest.send(&frame(mac(1), mac(0), &[1; 300]));
    fake.step();
    assert_eq!(fake.envelopes().len(), 1);
}

/// Hangs on `Frontend::check_table`.
#[test]
fn frames_take_the_default_route_when_the_manager_is_dead_and_the_table_s_again_when_it_lives() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Direct);
    lab.run_until("direct channels", |lab| {
        lab.guests.iter().all(|guest| guest.frontend.direct_channels() == 1)
    });
    lab.steps(10);
    lab.backend_asleep = true;
    lab.expect_delivery(0, 1, &[1; 300]);
    let netif = lab.guests[0].counters().sent_by.netif_frames;
    lab.pass_ms(3500);
    lab.send(0, 1, &[2; 300]);
    lab.steps(10);
    assert_eq!(lab.guests[0].counters().sent_by.netif_frames, netif + 1);
    assert!(lab.guests[1].received.is_empty(), "the driver domain does not live");
    lab.backend_asleep = false;
    lab.pass_ms(1000);
    lab.steps(10);
    lab.guests[1].take_received();
    lab.expect_delivery(0, 1, &[3; 300]);
    assert_eq!(lab.guests[0].counters().sent_by.netif_frames, netif + 1);
}
