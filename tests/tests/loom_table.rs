//! The forwarding table with one writer and a reader, model checked: a hit is always one whole
//! entry that the writer wrote, and a look-up ends whatever the writer does.
//!
//! **Bounds.** Two threads, a table of one bucket, one address; two look-ups against up to three
//! changes; all executions with at most 3 preemptions, 2 where no ordering is left. loom ends a
//! model with an error if a thread could go on without bound.

use loom::thread;
use xenvelope_grant::{DomId, Peer};
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{Entry, EntryFlags, TableReader, TableWriter};
use xenvelope_tests::loom_words::{LoomMemory, LoomWords, Weakness, caught, check};

/// A header and one bucket.
const BUCKETS_AT: usize = 128;
const SIZE: usize = BUCKETS_AT + 128;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const TORN: &str = "parts of two entries";

/// An entry for the one address. Every field but the address depends on `number`.
fn entry(number: u16) -> Entry {
    Entry {
        mac: MAC,
        vid: 0,
        peer: Peer { domid: DomId(number), incarnation: u64::from(number) << 16 },
        channel: number,
        flags: EntryFlags::ENVELOPE,
    }
}

/// A table in which the address has entry 1.
fn table(writer: Weakness, reader: Weakness) -> (TableWriter<LoomWords>, TableReader<LoomWords>) {
    let memory = LoomMemory::new()
        .with_u32(0..8)
        .with_u64(8..24)
        .with_u32(24..32)
        .with_u64(32..SIZE)
        .share();
    let words = LoomWords::weakened(&memory, writer);
    let mut writer = TableWriter::new(words, 1, 1).expect("room for a bucket");
    let reader = TableReader::attach(LoomWords::weakened(&memory, reader)).expect("a table");
    writer.insert(entry(1)).expect("room");
    writer.words().arm();
    (writer, reader)
}

/// Looks the address up twice while `change` is done to its entry. Each hit must be one of
/// entries 1 to 3.
fn look_up_during(writer: Weakness, reader: Weakness, change: fn(&mut TableWriter<LoomWords>)) {
    let (mut writer, reader) = table(writer, reader);
    let looking = thread::spawn(move || {
        for _ in 0..2 {
            if let Some(found) = reader.lookup(MAC, 0) {
                assert_eq!(found, entry(found.channel), "{TORN}");
                assert!((1..=3).contains(&found.channel), "{TORN}");
            }
        }
    });
    change(&mut writer);
    looking.join().expect("the look-ups end");
}

fn replace(writer: &mut TableWriter<LoomWords>) {
    writer.insert(entry(2)).expect("it replaces another");
}

fn replace_remove_insert(writer: &mut TableWriter<LoomWords>) {
    replace(writer);
    writer.remove(MAC, 0);
    writer.insert(entry(3)).expect("the table is empty");
}

#[test]
fn a_hit_is_a_whole_entry_while_it_is_replaced() {
    check(3, || look_up_during(Weakness::None, Weakness::None, replace));
}

#[test]
fn a_hit_is_a_whole_entry_while_it_is_replaced_removed_and_put_back() {
    check(3, || look_up_during(Weakness::None, Weakness::None, replace_remove_insert));
}

#[test]
fn an_address_that_is_left_alone_is_always_found() {
    check(3, || {
        let (mut writer, reader) = table(Weakness::None, Weakness::None);
        let looking = thread::spawn(move || assert_eq!(reader.lookup(MAC, 0), Some(entry(1))));
        // The same bucket, another slot; and what is there already is not written again.
        writer.insert(Entry { vid: 7, ..entry(2) }).expect("room");
        writer.insert(entry(1)).expect("it is there");
        looking.join().expect("the look-up ends");
    });
}

#[test]
fn a_writer_that_dies_half_way_leaves_a_miss_or_a_whole_entry() {
    for stores in 0..4 {
        let dying = Weakness::DiesAfter(stores);
        check(3, move || look_up_during(dying, Weakness::None, replace));
    }
}

#[test]
fn the_versions_alone_keep_an_entry_whole() {
    // A Xen host runs on more than x86: what is lost without any ordering is a hit, no more.
    let weak = Weakness::AllRelaxed;
    check(2, move || look_up_during(weak, weak, replace_remove_insert));
}

#[test]
fn entries_without_versions_are_caught() {
    // The tags, which have none, come first.
    let weak = Weakness::NoVersions(BUCKETS_AT + 8);
    caught(3, TORN, move || look_up_during(weak, Weakness::None, replace));
}
