//! The bytes, written down.

use core::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::{DomId, Peer, Words};

use super::super::entry::EntryWords;
use super::super::hash::{Hash, Place};
use super::super::words::Memory;
use super::super::{Entry, EntryFlags, TableReader, TableWriter};
use crate::ethernet::MacAddress;

const ENTRY: Entry = Entry {
    mac: MacAddress([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]),
    vid: 0xABC,
    peer: Peer { domid: DomId(0x1234), incarnation: 0x6677_8899_AABB },
    channel: 0xDEF,
    flags: EntryFlags::ENVELOPE.union(EntryFlags::INSPECT),
};

#[test]
fn the_words_of_an_entry() {
    let words = EntryWords {
        first: 0x0211_2233_4455_0007,
        place: 0x05DE_FABC_1234_0007,
        incarnation: 0x6677_8899_AABB_0007,
    };
    assert_eq!(ENTRY.words(7), words);
    assert_eq!(words.entry(ENTRY.mac, ENTRY.vid), Some(ENTRY));
}

#[test]
fn a_table_of_one_bucket() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 0x5EED, 9).unwrap();
    writer.insert(ENTRY).unwrap();
    writer.beat();
    let mut bytes = [0; 256];
    memory.copy_out(0, &mut bytes);
    let mut expected = [0; 256];
    expected[..8].copy_from_slice(&[0x02, 0x00, 0x46, 0x78, 0, 0, 0, 0]);
    expected[8..10].copy_from_slice(&[0xED, 0x5E]);
    expected[16] = 9;
    expected[24] = 1;
    expected[64] = 1;
    expected[128..130].copy_from_slice(&[0x21, 0xC6]);
    #[rustfmt::skip]
    expected[136..160].copy_from_slice(&[
        1, 0, 0x55, 0x44, 0x33, 0x22, 0x11, 0x02,
        1, 0, 0x34, 0x12, 0xBC, 0xFA, 0xDE, 0x05,
        1, 0, 0xBB, 0xAA, 0x99, 0x88, 0x77, 0x66,
    ]);
    assert_eq!(bytes, expected);
}

#[test]
fn the_entries_of_a_bucket_lie_beside_each_other() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 0x5EED, 9).unwrap();
    for vid in 0..4 {
        writer.insert(Entry { vid, ..ENTRY }).unwrap();
    }
    for vid in 0..4 {
        let at = usize::from(vid);
        let load = |at| memory.load_u64(at, Relaxed);
        let [first, place, incarnation] = [136, 144, 152].map(|word| load(word + 24 * at));
        let words = EntryWords { first, place, incarnation };
        assert_eq!(words, Entry { vid, ..ENTRY }.words(1));
        let tag = Hash::new(0x5EED, 0).place(ENTRY.mac, vid).tag;
        assert_eq!((load(128) >> (16 * at)) as u16, tag);
    }
    // What is left of the bucket.
    assert!((232..256).step_by(8).all(|at| memory.load_u64(at, Relaxed) == 0));
}

/// Writer and reader may be of different builds: the hash is part of the layout.
#[test]
fn the_buckets_of_an_address() {
    // From another implementation, of the text of this module's parent, in another language.
    let hash = Hash::new(0x0123_4567_89AB_CDEF, u32::MAX >> 4);
    let place = Place { buckets: [154_305_419, 97_359_860], tag: 0x45CD };
    assert_eq!(hash.place(ENTRY.mac, ENTRY.vid), place);
}

#[test]
fn an_entry_that_this_reader_does_not_understand_is_a_miss() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    writer.insert(ENTRY).unwrap();
    let place = memory.load_u64(144, Relaxed);
    for unknown_flag in 59..64 {
        memory.store_u64(144, place | 1 << unknown_flag, Relaxed);
        assert_eq!(reader.lookup(ENTRY.mac, ENTRY.vid), None);
    }
    // DOMID_SELF and the like name nobody who could be granted anything.
    memory.store_u64(144, place & !0xFFFF_0000 | 0x7FF0_0000, Relaxed);
    assert_eq!(reader.lookup(ENTRY.mac, ENTRY.vid), None);
    memory.store_u64(144, place, Relaxed);
    assert_eq!(reader.lookup(ENTRY.mac, ENTRY.vid), Some(ENTRY));
}

#[test]
fn a_table_uses_the_largest_power_of_two_of_buckets() {
    for (size, entries) in [(256, 4), (383, 4), (384, 8), (4096, 64), (4 * 4096, 256)] {
        // Memory is made of words of 8 bytes.
        let memory = Memory::new(size);
        assert_eq!(TableWriter::new(&memory, 0, 0).unwrap().capacity(), entries, "{size}");
    }
}

#[test]
#[should_panic(expected = "does not fit")]
fn an_entry_that_does_not_fit_is_the_managers_mistake() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let _ = writer.insert(Entry { vid: 4096, ..ENTRY });
}
