//! The table against a model, against garbage, and with a reader at work while it is written.

mod hash;
mod layout;
mod model;

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use xenvelope_grant::{DomId, Peer, Words};

use super::entry::EntryWords;
use super::hash::Hash;
use super::words::Memory;
use super::{
    BUCKET_ENTRIES, CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, Entry, EntryFlags, LAYOUT, MAX_EXAMINED,
    TAG_BITS, TableError, TableReader, TableWriter, bucket_at, entry_at,
};
use crate::ethernet::MacAddress;

fn mac(number: u64) -> MacAddress {
    MacAddress::from_bits(0x0200_0000_0000 | number)
}

fn entry(number: u64, vid: u16) -> Entry {
    Entry {
        mac: mac(number),
        vid,
        peer: Peer { domid: DomId(number as u16 & 0x3FFF), incarnation: number << 16 | 7 },
        channel: (number & 0xFFF) as u16,
        flags: EntryFlags::ENVELOPE,
    }
}

/// Where an entry's words lie.
fn places(bucket: usize, slot: usize) -> [usize; 3] {
    [0, 8, 16].map(|word| entry_at(bucket, slot) + word)
}

#[test]
fn a_guest_finds_its_peers_and_no_others() {
    let memory = Memory::new(4096);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    assert_eq!(reader.lookup(mac(1), 0), None);
    writer.insert(entry(1, 0)).unwrap();
    writer.insert(entry(1, 10)).unwrap();
    assert_eq!(reader.lookup(mac(1), 0), Some(entry(1, 0)));
    assert_eq!(reader.lookup(mac(1), 10), Some(entry(1, 10)));
    assert_eq!(reader.lookup(mac(1), 11), None);
    assert_eq!(reader.lookup(mac(2), 0), None);
    assert!(writer.remove(mac(1), 0) && !writer.remove(mac(1), 0));
    assert_eq!(reader.lookup(mac(1), 0), None);
    assert_eq!((reader.lookup(mac(1), 10), writer.len()), (Some(entry(1, 10)), 1));
    writer.clear();
    assert_eq!((reader.lookup(mac(1), 10), writer.is_empty()), (None, true));
}

#[test]
fn a_reused_domid_is_another_peer() {
    let memory = Memory::new(4096);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    let old = entry(1, 0);
    writer.insert(old).unwrap();
    let peer = Peer { incarnation: Peer::INCARNATION_MASK, ..old.peer };
    writer.insert(Entry { peer, ..old }).unwrap();
    assert_eq!(reader.lookup(mac(1), 0).unwrap().peer, peer);
    assert_eq!(writer.len(), 1);
}

#[test]
fn a_reader_hears_of_the_manager() {
    let memory = Memory::new(4096);
    let mut writer = TableWriter::new(&memory, 1, 77).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    assert_eq!((reader.epoch(), reader.heartbeat()), (77, 0));
    assert_eq!(reader.default_route(), CHANNEL_DRIVER_DOMAIN);
    writer.beat();
    writer.set_default_route(CHANNEL_VF);
    assert_eq!((reader.default_route(), reader.heartbeat()), (CHANNEL_VF, 1));
    assert!(!reader.floods_by_driver_domain());
    writer.set_floods_by_driver_domain(true);
    assert_eq!((reader.default_route(), reader.floods_by_driver_domain()), (CHANNEL_VF, true));
    // Nonsense leads to the channel that always exists.
    memory.store_u32(24, 4096, Relaxed);
    assert_eq!(reader.default_route(), CHANNEL_DRIVER_DOMAIN);
}

#[test]
fn memory_that_is_no_table_is_refused() {
    let too_small = Memory::new(248);
    let error = TableReader::attach(&too_small).unwrap_err();
    assert_eq!(error, TableError::TooSmall { size: 248 });
    assert_eq!(TableWriter::new(&too_small, 0, 0).unwrap_err(), error);

    let memory = Memory::new(4096);
    assert_eq!(TableReader::attach(&memory).unwrap_err(), TableError::Layout(0));
    TableWriter::new(&memory, 1, 2).unwrap();
    // One page has 16 buckets; a mask may say less, never more.
    for (mask, right) in [(0, true), (7, true), (15, true), (14, false), (31, false), (!0, false)] {
        memory.store_u32(4, mask, Relaxed);
        assert_eq!(TableReader::attach(&memory).is_ok(), right, "{mask}");
    }
}

#[test]
fn a_mask_that_changes_later_does_not_lead_out_of_the_table() {
    let memory = Memory::new(4096);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    writer.insert(entry(1, 0)).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    memory.store_u32(4, !0, Relaxed);
    memory.store_u64(8, 0, Relaxed);
    assert_eq!(reader.lookup(mac(1), 0), Some(entry(1, 0)));
}

#[test]
fn a_writer_that_dies_half_way_leaves_a_miss() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    writer.insert(entry(1, 0)).unwrap();
    let places = places(0, 0);
    let old = places.map(|at| memory.load_u64(at, Relaxed));
    writer.insert(Entry { channel: 9, ..entry(1, 0) }).unwrap();
    let new = places.map(|at| memory.load_u64(at, Relaxed));
    // Every mixture of an old entry and a new one.
    for mixture in 1..7 {
        for (word, at) in places.into_iter().enumerate() {
            let value = if mixture >> word & 1 == 0 { old[word] } else { new[word] };
            memory.store_u64(at, value, Relaxed);
        }
        assert_eq!(reader.lookup(mac(1), 0), None, "{mixture:#b}");
    }
}

#[test]
fn versions_skip_zero_when_they_wrap() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    for round in 0..70_000u32 {
        let wanted = Entry { channel: (round % 2) as u16, ..entry(1, 0) };
        writer.insert(wanted).unwrap();
        assert_eq!(reader.lookup(mac(1), 0), Some(wanted), "{round}");
    }
}

#[test]
fn a_lookup_examines_eight_entries_at_most() {
    let memory = Memory::new(8192);
    let mut writer = TableWriter::new(&memory, 5, 2).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    // The worst table: every entry is this address in another VLAN, with this one's tag.
    let fill = |tag: u16| {
        for bucket in 0..32 {
            let tags = (0..BUCKET_ENTRIES).fold(0, |tags, _| tags << TAG_BITS | u64::from(tag));
            memory.store_u64(bucket_at(bucket), tags, Relaxed);
        }
    };
    fill(Hash::new(5, 31).place(mac(1), 0).tag);
    for (bucket, slot) in (0..32).flat_map(|bucket| (0..BUCKET_ENTRIES).map(move |s| (bucket, s))) {
        let EntryWords { first, place, incarnation } = entry(1, 99).words(1);
        for (at, word) in places(bucket, slot).into_iter().zip([first, place, incarnation]) {
            memory.store_u64(at, word, Relaxed);
        }
    }
    memory.loads();
    assert_eq!(reader.lookup(mac(1), 0), None);
    assert_eq!(memory.loads(), 2 + 3 * MAX_EXAMINED);
    // Two choices that are one bucket are looked at once.
    let vid = (0..4096).find(|&vid| {
        let [first, second] = Hash::new(5, 31).place(mac(1), vid).buckets;
        first == second
    });
    let vid = vid.unwrap();
    fill(Hash::new(5, 31).place(mac(1), vid).tag);
    memory.loads();
    assert_eq!(reader.lookup(mac(1), vid), None);
    assert_eq!(memory.loads(), 1 + 3 * MAX_EXAMINED / 2);
    // Where no tag is the right one, no entry is looked at.
    fill(0);
    assert_eq!((reader.lookup(mac(1), vid), memory.loads()), (None, 1));
    assert!(writer.insert(entry(1, 0)).is_ok());
}

#[test]
fn a_reader_never_sees_parts_of_two_entries() {
    let memory = Memory::new(256);
    let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let reader = TableReader::attach(&memory).unwrap();
            let mut hits = 0;
            while !stop.load(Relaxed) {
                if let Some(found) = reader.lookup(mac(1), 0) {
                    let number = u64::from(found.channel);
                    assert_eq!(found.peer, entry(number, 0).peer);
                    hits += 1;
                }
            }
            hits
        });
        for round in 0..200_000u64 {
            let other = entry(round % 4096, 0);
            writer.insert(Entry { mac: mac(1), ..other }).unwrap();
            if round % 7 == 0 {
                writer.remove(mac(1), 0);
            }
        }
        stop.store(true, Relaxed);
        assert!(reading.join().unwrap() > 0);
    });
}

proptest! {
    #[test]
    fn a_page_of_garbage_does_no_harm(
        mut words in proptest::collection::vec(any::<u64>(), 0..512),
        header: bool,
        wanted: [u8; 6],
        vid: u16,
    ) {
        if header && !words.is_empty() {
            words[0] = u64::from(LAYOUT) | words[0] << 32 & 0x3_0000_0000;
        }
        let memory = Memory::of(&words);
        if let Ok(reader) = TableReader::attach(&memory) {
            memory.loads();
            reader.lookup(MacAddress(wanted), vid);
            prop_assert!(memory.loads() <= 2 + 3 * MAX_EXAMINED);
            reader.heartbeat();
            reader.epoch();
            reader.still_leads_to(Peer { domid: DomId(1), incarnation: 1 }, MacAddress(wanted), vid);
            prop_assert!(reader.default_route() <= super::MAX_CHANNEL);
        }
    }

    #[test]
    fn an_entry_of_garbage_is_a_miss_or_makes_sense(
        garbage: [u64; 3],
        version: u16,
        same: bool,
    ) {
        let words = if same {
            garbage.map(|word| word & !0xFFFF | u64::from(version))
        } else {
            garbage
        };
        let [first, place, incarnation] = words;
        let (wanted, vid) = (MacAddress::from_bits(first >> 16), (place >> 32) as u16 & 0xFFF);
        let found = EntryWords { first, place, incarnation }.entry(wanted, vid);
        let versions = words.map(|word| word as u16);
        if versions[0] == 0 || versions.iter().any(|&one| one != versions[0]) {
            prop_assert_eq!(found, None);
        }
        if let Some(found) = found {
            prop_assert!(found.fits() && found.peer.domid.0 < DomId::FIRST_RESERVED);
        }
    }

    #[test]
    fn tags_that_are_the_right_one_are_named(tags: [u16; 4], right: u16, places: [bool; 4]) {
        let mut place = Hash::new(1, 0).place(mac(1), 0);
        place.tag = right | 1;
        let tags: [u16; 4] =
            core::array::from_fn(|at| if places[at] { place.tag } else { tags[at] });
        let word = tags.iter().rev().fold(0, |word, &tag| word << TAG_BITS | u64::from(tag));
        let named = place.among(word);
        prop_assert_eq!(named & !0x8000_8000_8000_8000, 0, "no more than four");
        for (at, tag) in tags.into_iter().enumerate() {
            let is_named = named >> (at * TAG_BITS) & 0x8000 != 0;
            prop_assert!(is_named || tag != place.tag);
            prop_assert!(!is_named || tag | 1 == place.tag, "{tag:#x} is another");
        }
    }

    #[test]
    fn wrong_tags_hide_an_entry_and_show_no_wrong_one(tags: [u64; 16], wanted in 0u64..30) {
        let memory = Memory::new(4096);
        let mut writer = TableWriter::new(&memory, 1, 2).unwrap();
        for number in 0..30 {
            writer.insert(entry(number, 0)).unwrap();
        }
        for (bucket, tags) in tags.into_iter().enumerate() {
            memory.store_u64(bucket_at(bucket), tags, Relaxed);
        }
        let found = TableReader::attach(&memory).unwrap().lookup(mac(wanted), 0);
        prop_assert!(found.is_none_or(|found| found == entry(wanted, 0)));
    }
}
