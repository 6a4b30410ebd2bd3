//! Rule 4: a reader of the table never blocks, never sees half an entry; what cannot be believed
//! is a miss, and a miss is the default route.

use std::sync::atomic::Ordering::SeqCst;

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Config;
use xenvelope_grant::{Peer, Words as _};
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{FakeBackend, GuestPlan, Lab, Random, frame, mac, seed};

fn entry(peer: Peer) -> Entry {
    Entry { mac: mac(1), vid: 0, peer, channel: CHANNEL_DRIVER_DOMAIN, flags: EntryFlags::ENVELOPE }
}

fn read(fake: &FakeBackend, at: usize) -> u64 {
    fake.table.borrow().words().load_u64(at, SeqCst)
}

/// Where the tags of the one bucket are that has an entry, and what they are.
fn tags(fake: &FakeBackend) -> (usize, u64) {
    let mut buckets = (128..4096).step_by(128).map(|at| (at, read(fake, at)));
    buckets.find(|(_, tags)| *tags != 0).expect("an entry")
}

/// Hangs on the versions that `EntryWords::entry` compares.
#[test]
fn frames_take_the_default_route_when_the_table_holds_garbage() {
    let mut random = Random(seed("garbage table"));
    for round in 0..40 {
        let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
        let peer = fake.other("a peer").peer();
        fake.table.borrow_mut().insert(entry(peer)).expect("room");
        // Its tag, for all entries of a bucket: the only one is the first of its bucket.
        let (_, tag) = tags(&fake);
        for at in (128..4096).step_by(8) {
            // The right tags, the right address in each first word, and any version.
            let word = match at % 128 {
                0 => tag * 0x0001_0001_0001_0001,
                8 | 32 | 56 | 80 => mac(1).to_bits() << 16 | random.bits() & 0xFFFF,
                _ => random.bits(),
            };
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
    fake.table.borrow_mut().insert(entry(old.peer())).expect("room");
    let (at, _) = tags(&fake);
    let words = [at + 8, at + 16, at + 24];
    let before = words.map(|at| read(&fake, at));
    fake.table.borrow_mut().insert(entry(new.peer())).expect("room");
    for (changed, before) in words.into_iter().zip(before).skip(1) {
        let word = read(&fake, changed);
        fake.table.borrow().words().store_u64(changed, before, SeqCst);
        fake.guest.send(&frame(mac(1), mac(0), &[1; 300]));
        fake.step();
        assert_eq!(fake.netif_frames(), 1, "the word at {changed} is the old one");
        fake.table.borrow().words().store_u64(changed, word, SeqCst);
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
