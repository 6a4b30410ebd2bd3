//! In which two buckets an address may be.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{LAYOUT, TAG_BITS};
use crate::ethernet::MacAddress;

/// The hash of one table: its keys, made of the table's seed once, and its mask.
///
/// What is asked of it: who chooses addresses without knowing the seed must not be able to fill
/// chosen buckets. The first step, a product with a key of 128 bits plus a key of 128 bits of
/// which the upper half is kept, is strongly universal for 64 bits (Dietzfelbinger 1996): with
/// random keys, the 64 bits for any two addresses are as those of two dice. The other steps can be
/// undone, so that holds to the end, for both bucket numbers together: addresses that were chosen
/// beforehand share a bucket no more often, on the average, than random ones do. The other steps
/// are there so that addresses at equal distances do not have buckets at equal distances.
///
/// What it is not: a hash that keeps its keys from somebody who sees what it gives for addresses
/// of his choice, as SipHash does, which costs more. Nobody is shown that. The seed is known
/// to the manager and to the one guest that the table is for, which has nobody but itself to
/// trouble; and what is gained by filling a bucket is that an address is not in that guest's table
/// and takes the default route. No look-up becomes longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash {
    mask: u32,
    factor: u128,
    addend: u128,
    /// Odd.
    spread: u64,
}

impl Hash {
    /// The hash for a seed and as many buckets as the mask says, a power of two less one.
    pub(super) fn new(seed: u64, mask: u32) -> Hash {
        let key = |number: u64| {
            let mut hasher = SipHasher13::new_with_keys(seed, u64::from(LAYOUT));
            hasher.write(&number.to_le_bytes());
            hasher.finish()
        };
        let wide = |low, high| u128::from(key(low)) | u128::from(key(high)) << 64;
        Hash { mask, factor: wide(0, 1), addend: wide(2, 3), spread: key(4) | 1 }
    }

    /// Where an address in a VLAN may be.
    #[inline]
    pub(super) fn place(&self, mac: MacAddress, vid: u16) -> Place {
        let key = mac.to_bits() << 16 | u64::from(vid);
        let product = self.factor.wrapping_mul(u128::from(key)).wrapping_add(self.addend);
        let hash = (product >> 64) as u64;
        let hash = (hash ^ hash >> 32).wrapping_mul(self.spread);
        let hash = hash ^ hash >> 32;
        // The two halves of the hash.
        let buckets = [hash as u32 & self.mask, (hash >> 32) as u32 & self.mask];
        Place { buckets: buckets.map(|bucket| bucket as usize), tag: (hash >> 48) as u16 | 1 }
    }
}

/// Where an address may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The two buckets. They may be the same one.
    pub buckets: [usize; 2],
    /// Its tag there, which is not 0. It is of the same bits as the second bucket if there are
    /// more than 65536, which makes it worth less, never wrong.
    pub tag: u16,
}

impl Place {
    /// Which of a bucket's tags are this one: the highest bit of each that is. Where one is,
    /// those above may be named as well that differ in the lowest bit alone.
    #[inline]
    pub(super) fn among(self, tags: u64) -> u64 {
        const LOWEST: u64 = u64::MAX / 0xFFFF;
        let differences = tags ^ (LOWEST * u64::from(self.tag));
        // All four at once: only of a difference of 0 less 1 the highest bit is set anew.
        differences.wrapping_sub(LOWEST) & !differences & LOWEST << (TAG_BITS - 1)
    }
}
