//! A forwarding table that changes its shape under a reader, model checked: one that is being
//! made, and one in which entries are moved to make room.
//!
//! A table never grows where it is: a manager that needs a larger one, or was restarted, makes
//! another in new pages, and the reader attaches to that. What the two share is the layout word,
//! which the writer stores last.
//!
//! **Bounds.** Two threads, a table of two buckets, five addresses; all executions with at most 3
//! preemptions, with 2 where a whole table is made.

use loom::thread;
use xenvelope_grant::{DomId, Peer};
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{Entry, EntryFlags, TableError, TableReader, TableWriter};
use xenvelope_tests::loom_words::{LoomMemory, LoomWords, Weakness, caught, check};

/// A header and two buckets.
const LAYOUT_AT: usize = 0;
const BUCKETS_AT: usize = 128;
const SIZE: usize = BUCKETS_AT + 2 * 128;
const SEED: u64 = 1;
const EPOCH: u64 = 7;
const TORN: &str = "parts of two entries";
const HALF_MADE: &str = "a table that is not there yet";
const LOST: &str = "an entry that nobody took out";

/// With `SEED` the first of these may be in either bucket and is put into the first; all others
/// belong to the first bucket alone. The fifth finds room when the first is moved.
const MACS: [u8; 5] = [7, 4, 6, 8, 9];

fn mac(index: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, MACS[index]])
}

fn entry(index: usize) -> Entry {
    Entry {
        mac: mac(index),
        vid: 0,
        peer: Peer { domid: DomId(index as u16 + 1), incarnation: (index as u64 + 1) << 16 },
        channel: index as u16 + 2,
        flags: EntryFlags::ENVELOPE,
    }
}

fn memory() -> std::sync::Arc<LoomMemory> {
    LoomMemory::new().with_u32(0..8).with_u64(8..24).with_u32(24..32).with_u64(32..SIZE).share()
}

/// A reader attaches while the table is made and gets its first entry.
fn make(writer: Weakness, reader: Weakness) {
    let memory = memory();
    let words = LoomWords::weakened(&memory, reader);
    let attaching = thread::spawn(move || match TableReader::attach(words) {
        Ok(reader) => {
            assert_eq!(reader.epoch(), EPOCH, "{HALF_MADE}");
            let found = reader.lookup(mac(0), 0);
            assert!(found.is_none_or(|found| found == entry(0)), "{TORN}");
        }
        Err(error) => assert_eq!(error, TableError::Layout(0), "{HALF_MADE}"),
    });
    let words = LoomWords::weakened(&memory, writer);
    let mut writer = TableWriter::new(words, SEED, EPOCH).expect("room for two buckets");
    writer.insert(entry(0)).expect("room");
    attaching.join().expect("the look-up ends");
}

/// A reader looks up while an entry is moved to make room for another. With `stays` the one that
/// is moved must be found.
fn make_room(writer: LoomWords, reader: LoomWords, stays: bool) {
    let mut writer = TableWriter::new(writer, SEED, EPOCH).expect("room for two buckets");
    let reader = TableReader::attach(reader).expect("a table");
    for index in 0..4 {
        writer.insert(entry(index)).expect("room");
    }
    writer.words().arm();
    let looking = thread::spawn(move || {
        let found = reader.lookup(mac(0), 0);
        assert!(found.is_none_or(|found| found == entry(0)), "{TORN}");
        assert!(found.is_some() || !stays, "{LOST}");
        if !stays {
            let found = reader.lookup(mac(4), 0);
            assert!(found.is_none_or(|found| found == entry(4)), "{TORN}");
        }
    });
    writer.insert(entry(4)).expect("room when the first is moved");
    looking.join().expect("the look-ups end");
}

/// As [`make_room`], with a writer that dies after so many stores.
fn die_while_moving(stores: u32, weakness: Weakness) {
    let memory = memory();
    let writer = LoomWords::weakened(&memory, Weakness::DiesAfter(stores)).and(weakness);
    make_room(writer, LoomWords::of(&memory), true);
}

/// Stores of a move: the new copy's four (the first word is zeroed before) and its tag, and the old
/// one's tag away.
const MOVE: u32 = 6;

#[test]
fn a_table_that_is_being_made_is_refused_or_whole() {
    check(2, || make(Weakness::None, Weakness::None));
}

#[test]
fn a_hit_is_a_whole_entry_while_others_make_room() {
    check(3, || {
        let memory = memory();
        make_room(LoomWords::of(&memory), LoomWords::of(&memory), false);
    });
}

#[test]
fn an_entry_is_found_wherever_its_move_stops() {
    for stores in 0..=MOVE {
        check(3, move || die_while_moving(stores, Weakness::None));
    }
}

#[test]
fn a_layout_without_release_or_acquire_is_caught() {
    let release = Weakness::ReleaseRelaxed(LAYOUT_AT);
    caught(2, HALF_MADE, move || make(release, Weakness::None));
    let acquire = Weakness::AcquireRelaxed(LAYOUT_AT);
    caught(2, HALF_MADE, move || make(Weakness::None, acquire));
}

#[test]
fn a_move_that_takes_the_old_copy_away_without_release_is_caught() {
    let weak = Weakness::ReleaseRelaxed(BUCKETS_AT);
    caught(3, LOST, move || die_while_moving(MOVE, weak));
}

#[test]
fn entries_without_versions_are_caught() {
    caught(3, TORN, || {
        let memory = memory();
        // The first bucket's tags, which have none, come before its entries.
        let weak = Weakness::NoVersions(BUCKETS_AT + 8);
        let writer = LoomWords::weakened(&memory, weak);
        make_room(writer, LoomWords::of(&memory), false);
    });
}
