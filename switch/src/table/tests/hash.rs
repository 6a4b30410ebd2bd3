//! What is asked of the hash, of addresses that somebody chose who does not know the seed.

use std::vec;
use std::vec::Vec;

use super::super::hash::Hash;
use crate::ethernet::MacAddress;

const BUCKETS: usize = 512;
const SEEDS: u64 = 64;
/// As many as there are buckets: then a pair of addresses shares a bucket 255.5 times on the
/// average if each lands anywhere, and the number of pairs varies by its root.
const ADDRESSES: usize = BUCKETS;

/// Addresses as somebody may choose them.
fn choices() -> Vec<(&'static str, Vec<u64>)> {
    let of = |address: fn(u64) -> u64| (0..ADDRESSES as u64).map(address).collect();
    vec![
        ("one after the other", of(|n| 0x0216_3E00_0000 + n)),
        ("at the distance of a power of two", of(|n| 0x0200_0000_0000 + (n << 16))),
        ("differing in the highest bits", of(|n| n << 39 | 0x33_0000)),
        ("multiples of a prime", of(|n| (n * 0x1_0000_01B3) & 0xFFFF_FFFF_FFFF)),
        ("two bits each", of(|n| 1 << (n % 48) | 1 << ((n + n / 48 + 1) % 48))),
        ("in steps of the golden ratio", of(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16)),
    ]
}

fn loads(seed: u64, addresses: &[u64], choice: usize) -> Vec<usize> {
    let hash = Hash::new(seed, BUCKETS as u32 - 1);
    let mut loads = vec![0; BUCKETS];
    for address in addresses {
        loads[hash.place(MacAddress::from_bits(*address), 0).buckets[choice]] += 1;
    }
    loads
}

#[test]
fn chosen_addresses_share_buckets_no_more_often_than_random_ones() {
    for (what, addresses) in choices() {
        for choice in 0..2 {
            let (mut pairs, mut fullest) = (0, 0);
            for seed in 0..SEEDS {
                let loads = loads(seed, &addresses, choice);
                pairs += loads.iter().map(|load| load * load.saturating_sub(1) / 2).sum::<usize>();
                fullest = fullest.max(loads.into_iter().max().unwrap());
            }
            let average = pairs / SEEDS as usize;
            assert!(average < 280, "{what}, {choice}: {average} pairs in a bucket");
            // Of 512 balls in 512 bins, 10 are in one bin once in 20,000 throws of all of them.
            assert!(fullest <= 10, "{what}, {choice}: {fullest} in a bucket");
        }
    }
}

#[test]
fn one_choice_says_nothing_of_the_other() {
    for (what, addresses) in choices() {
        let mut both = 0;
        for seed in 0..SEEDS {
            let hash = Hash::new(seed, 15);
            let same = |address: &&u64| {
                let [first, second] = hash.place(MacAddress::from_bits(**address), 0).buckets;
                first == second
            };
            both += addresses.iter().filter(same).count();
        }
        // One of 16 is expected; with so many, a tenth more or less is many times what varies.
        let expected = ADDRESSES * SEEDS as usize / 16;
        assert!(both.abs_diff(expected) < expected / 4, "{what}: {both} for {expected}");
    }
}

#[test]
fn another_seed_is_another_hash() {
    let addresses: Vec<u64> = (0..ADDRESSES as u64).collect();
    // Those in one bucket under one seed are not together under the next.
    let (one, other) = (Hash::new(1, 15), Hash::new(2, 15));
    let bucket = |hash: &Hash, address| hash.place(MacAddress::from_bits(address), 0).buckets[0];
    let together = addresses.iter().copied().filter(|&address| bucket(&one, address) == 3);
    let mut seen = [0; 16];
    together.for_each(|address| seen[bucket(&other, address)] += 1);
    assert!(seen.iter().all(|&count| count < 12), "{seen:?}");
}
