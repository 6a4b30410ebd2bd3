//! The table against a map, at and over its capacity.

use std::collections::HashMap;
use std::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::prelude::*;

use super::super::words::Memory;
use super::super::{Entry, TableFull, TableReader, TableWriter};
use super::{entry, mac};

/// What a manager does.
#[derive(Clone, Debug)]
enum Op {
    Insert { number: u64, vid: u16, channel: u16 },
    Remove { number: u64, vid: u16 },
    Clear,
}

fn op(numbers: u64) -> impl Strategy<Value = Op> {
    prop_oneof![
        60 => (0..numbers, 0u16..2, 0u16..8)
            .prop_map(|(number, vid, channel)| Op::Insert { number, vid, channel }),
        20 => (0..numbers, 0u16..2).prop_map(|(number, vid)| Op::Remove { number, vid }),
        1 => Just(Op::Clear),
    ]
}

fn run(ops: &[Op], size: usize, seed: u64, numbers: u64) {
    let memory = Memory::new(size);
    let mut writer = TableWriter::new(&memory, seed, 1).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    let mut model: HashMap<(u64, u16), Entry> = HashMap::new();
    for op in ops {
        match *op {
            Op::Insert { number, vid, channel } => {
                let wanted = Entry { channel, ..entry(number, vid) };
                match writer.insert(wanted) {
                    Ok(()) => {
                        model.insert((number, vid), wanted);
                    }
                    Err(TableFull) => {
                        // What is there already can always be replaced.
                        assert!(!model.contains_key(&(number, vid)));
                        assert!(model.len() >= writer.capacity() / 2, "{}", model.len());
                    }
                }
            }
            Op::Remove { number, vid } => {
                let was_there = model.remove(&(number, vid)).is_some();
                assert_eq!(writer.remove(mac(number), vid), was_there);
            }
            Op::Clear => {
                writer.clear();
                model.clear();
            }
        }
        assert_eq!(writer.len(), model.len());
    }
    for number in 0..numbers {
        for vid in 0..2 {
            assert_eq!(reader.lookup(mac(number), vid), model.get(&(number, vid)).copied());
        }
    }
    let entries: Vec<Entry> = writer.entries().collect();
    assert_eq!(entries.len(), model.len());
    assert!(entries.iter().all(|entry| model.values().any(|known| known == entry)));
}

proptest! {
    #[test]
    fn a_table_of_a_page_is_a_map(ops in vec_of(op(40), 1..300), seed: u64) {
        // 80 keys for 64 places.
        run(&ops, 4096, seed, 40);
    }

    #[test]
    fn a_tiny_table_is_a_map(ops in vec_of(op(8), 1..200), seed: u64) {
        run(&ops, 384, seed, 8);
    }
}

#[test]
fn a_table_fills_to_nine_tenths_by_moving_entries() {
    for seed in 0..20 {
        let memory = Memory::new(64 * 1024);
        let mut writer = TableWriter::new(&memory, seed, 1).unwrap();
        let reader = TableReader::attach(&memory).unwrap();
        let many = writer.capacity() as u64 * 9 / 10;
        for number in 0..many {
            writer.insert(entry(number, 0)).unwrap();
        }
        for number in 0..many {
            assert_eq!(reader.lookup(mac(number), 0), Some(entry(number, 0)));
        }
    }
}

#[test]
fn a_full_table_stays_as_it_is() {
    let memory = Memory::new(4096);
    let mut writer = TableWriter::new(&memory, 3, 1).unwrap();
    let reader = TableReader::attach(&memory).unwrap();
    let mut kept = Vec::new();
    for number in 0..200 {
        let before = snapshot(&memory);
        match writer.insert(entry(number, 0)) {
            Ok(()) => kept.push(number),
            Err(TableFull) => assert_eq!(snapshot(&memory), before),
        }
    }
    assert!(kept.len() > 57 && kept.len() <= 64, "{}", kept.len());
    for number in 0..200 {
        let wanted = kept.contains(&number).then(|| entry(number, 0));
        assert_eq!(reader.lookup(mac(number), 0), wanted);
    }
}

fn snapshot(memory: &Memory) -> Vec<u8> {
    use xenvelope_grant::Words;

    let mut bytes = std::vec![0; memory.size()];
    memory.copy_out(0, &mut bytes);
    bytes
}
