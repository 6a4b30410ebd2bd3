//! The writer: the manager, which never reads back what it shares.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Relaxed, Release};

use thiserror::Error;
use xenvelope_grant::Words;

use super::entry::{Entry, EntryWords};
use super::hash::Hash;
use super::{
    BUCKET_ENTRIES, BUCKET_LEN, BUCKETS_AT, CHANNEL_DRIVER_DOMAIN, DEFAULT_ROUTE_AT, EPOCH_AT,
    FLOODS_AT, HEARTBEAT_AT, LAYOUT, LAYOUT_AT, MASK_AT, MAX_CHANNEL, MIN_SIZE, SEED_AT, TAG_BITS,
    TableError, bucket_at, entry_at,
};
use crate::ethernet::MacAddress;

/// Most buckets that are looked at for a place to move entries to.
const SEARCH_LIMIT: usize = 256;

/// There is no place for the entry, however others are moved. The table is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the forwarding table is full")]
pub struct TableFull;

/// Writes a table that a frontend reads at the same time.
///
/// What is in the table is kept privately as well, and only that is ever looked at.
#[derive(Debug)]
pub struct TableWriter<W> {
    words: W,
    hash: Hash,
    slots: Vec<Slot>,
    len: usize,
    heartbeat: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    entry: Option<Entry>,
    /// The version that was last used here; 0 before the first.
    version: u16,
    /// The tag that readers see.
    tag: u16,
}

/// A bucket on the way of a search for a free place.
#[derive(Clone, Copy)]
struct Step {
    bucket: usize,
    /// The step before, and the slot of its bucket whose entry may move here.
    from: Option<(usize, usize)>,
}

impl<W: Words> TableWriter<W> {
    /// Makes an empty table in memory that nobody reads yet, with as many buckets as fit: a
    /// power of two, 4 entries each. Unguessable, `seed` keeps guests who choose their addresses
    /// from filling chosen buckets. The default route is the driver domain.
    ///
    /// # Errors
    /// [`TableError::TooSmall`] if there is no room for a header and a bucket.
    pub fn new(words: W, seed: u64, epoch: u64) -> Result<TableWriter<W>, TableError> {
        let size = words.size();
        if size < MIN_SIZE {
            return Err(TableError::TooSmall { size });
        }
        // At least 1, by the check above; the mask has 32 bits.
        let fit = ((size - BUCKETS_AT) / BUCKET_LEN).min(1 << 31);
        let count = 1usize << fit.ilog2();
        let mask = (count - 1) as u32;
        let slots = vec![Slot::default(); count * BUCKET_ENTRIES];

        words.store_u32(LAYOUT_AT, 0, Relaxed);
        for at in (8..BUCKETS_AT + count * BUCKET_LEN).step_by(8) {
            words.store_u64(at, 0, Relaxed);
        }
        words.store_u32(MASK_AT, mask, Relaxed);
        words.store_u64(SEED_AT, seed, Relaxed);
        words.store_u64(EPOCH_AT, epoch, Relaxed);
        words.store_u32(DEFAULT_ROUTE_AT, u32::from(CHANNEL_DRIVER_DOMAIN), Relaxed);
        // Who sees the layout sees all that was written before.
        words.store_u32(LAYOUT_AT, LAYOUT, Release);
        Ok(TableWriter { words, hash: Hash::new(seed, mask), slots, len: 0, heartbeat: 0 })
    }

    /// Puts an entry in, in place of the one with the same address and VLAN if there is one.
    /// While it is written, and while others are moved for it, readers may miss it, never see
    /// half of it. When this returns, no look-up that starts later gives what was replaced.
    ///
    /// # Errors
    /// [`TableFull`] if there is no place for it. Nothing has changed then.
    ///
    /// # Panics
    /// If VLAN, channel or incarnation is larger than the table can hold (12, 12 and 48 bits).
    pub fn insert(&mut self, entry: Entry) -> Result<(), TableFull> {
        assert!(entry.fits(), "{entry:?} does not fit a table's entry");
        if let Some(slot) = self.find(entry.mac, entry.vid) {
            // A readers' miss less: what is there is what is wanted.
            if self.slots[slot].entry != Some(entry) {
                self.publish(slot, entry);
                self.words.full_barrier();
            }
            return Ok(());
        }
        let slot = self.make_room(entry.mac, entry.vid)?;
        self.publish(slot, entry);
        self.len += 1;
        Ok(())
    }

    /// Takes an entry out; `false` if there was none. When this returns, no look-up that starts
    /// later gives the entry.
    pub fn remove(&mut self, mac: MacAddress, vid: u16) -> bool {
        let Some(slot) = self.find(mac, vid) else {
            return false;
        };
        self.withdraw(slot);
        self.words.full_barrier();
        self.len -= 1;
        true
    }

    /// Takes all entries out.
    pub fn clear(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].entry.is_some() {
                self.withdraw(slot);
            }
        }
        self.words.full_barrier();
        self.len = 0;
    }

    /// Tells the readers that the manager lives.
    pub fn beat(&mut self) {
        self.heartbeat = self.heartbeat.wrapping_add(1);
        self.words.store_u64(HEARTBEAT_AT, self.heartbeat, Release);
    }

    /// Sets the channel for all that is not in the table.
    ///
    /// # Panics
    /// If `channel` is above [`MAX_CHANNEL`].
    pub fn set_default_route(&mut self, channel: u16) {
        assert!(channel <= MAX_CHANNEL, "there is no channel {channel}");
        self.words.store_u32(DEFAULT_ROUTE_AT, u32::from(channel), Release);
    }

    /// Sets whether broadcast and multicast go to the driver domain, whatever the default route
    /// is: where that leads to the outside and to no other guest of the host.
    pub fn set_floods_by_driver_domain(&mut self, apart: bool) {
        self.words.store_u32(FLOODS_AT, u32::from(apart), Release);
    }

    /// The entry for an address, if there is one.
    pub fn get(&self, mac: MacAddress, vid: u16) -> Option<Entry> {
        self.find(mac, vid).and_then(|slot| self.slots[slot].entry)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many entries there could be. In practice a table is full a little earlier.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.slots.iter().filter_map(|slot| slot.entry)
    }

    /// The shared memory.
    pub fn words(&self) -> &W {
        &self.words
    }

    /// The shared memory, when the table is no longer kept.
    pub fn into_words(self) -> W {
        self.words
    }

    fn find(&self, mac: MacAddress, vid: u16) -> Option<usize> {
        let is_it = |entry: Entry| entry.mac == mac && entry.vid == vid;
        self.hash
            .place(mac, vid)
            .buckets
            .into_iter()
            .flat_map(slots_of)
            .find(|&slot| self.slots[slot].entry.is_some_and(is_it))
    }

    fn free_slot(&self, bucket: usize) -> Option<usize> {
        slots_of(bucket).find(|&slot| self.slots[slot].entry.is_none())
    }

    /// A free slot in a bucket of this address, after moving others if need be. Searches in
    /// breadth, so the fewest are moved, and moves nothing unless it ends at a free slot.
    fn make_room(&mut self, mac: MacAddress, vid: u16) -> Result<usize, TableFull> {
        let roots = self.hash.place(mac, vid).buckets.map(|bucket| Step { bucket, from: None });
        if let Some(slot) = roots.iter().find_map(|root| self.free_slot(root.bucket)) {
            return Ok(slot);
        }
        let mut steps = Vec::from(roots);
        let mut next = 0;
        while next < steps.len() && steps.len() < SEARCH_LIMIT {
            let bucket = steps[next].bucket;
            for (index, slot) in slots_of(bucket).enumerate() {
                let Some(entry) = self.slots[slot].entry else {
                    continue;
                };
                let [first, second] = self.hash.place(entry.mac, entry.vid).buckets;
                let other = if bucket == first { second } else { first };
                if steps.iter().any(|step| step.bucket == other) {
                    continue;
                }
                steps.push(Step { bucket: other, from: Some((next, index)) });
                if let Some(free) = self.free_slot(other) {
                    return Ok(self.shift(&steps, free));
                }
            }
            next += 1;
        }
        Err(TableFull)
    }

    /// Moves entries along the way of the last step, the last one first into `free`. Returns the
    /// slot that became free at the way's start. No bucket is twice on a way.
    fn shift(&mut self, steps: &[Step], mut free: usize) -> usize {
        let mut at = steps.len() - 1;
        while let Some((before, index)) = steps[at].from {
            let source = steps[before].bucket * BUCKET_ENTRIES + index;
            if let Some(entry) = self.slots[source].entry {
                // First the new copy, then the old one away: between them both are right.
                self.publish(free, entry);
                self.withdraw(source);
            }
            free = source;
            at = before;
        }
        free
    }

    fn publish(&mut self, slot: usize, entry: Entry) {
        let record = &mut self.slots[slot];
        // Zero is the version of no entry.
        record.version = record.version.checked_add(1).unwrap_or(1);
        record.entry = Some(entry);
        let EntryWords { first, place, incarnation } = entry.words(record.version);
        let at = entry_at(slot / BUCKET_ENTRIES, slot % BUCKET_ENTRIES);
        self.words.store_u64(at, 0, Relaxed);
        // Release: the zero comes before each of them.
        self.words.store_u64(at + 8, place, Release);
        self.words.store_u64(at + 16, incarnation, Release);
        // Release: who sees this word sees the others.
        self.words.store_u64(at, first, Release);
        self.tag(slot, self.hash.place(entry.mac, entry.vid).tag);
    }

    /// Takes an entry out: from now on nobody looks at its words.
    fn withdraw(&mut self, slot: usize) {
        self.slots[slot].entry = None;
        self.tag(slot, 0);
    }

    /// Says which tag a slot has; 0 for none.
    fn tag(&mut self, slot: usize, tag: u16) {
        if self.slots[slot].tag == tag {
            return;
        }
        self.slots[slot].tag = tag;
        let bucket = slot / BUCKET_ENTRIES;
        let tags = self.slots[slots_of(bucket)]
            .iter()
            .rev()
            .fold(0, |tags, slot| tags << TAG_BITS | u64::from(slot.tag));
        // Release: who sees the tag sees the entry; and after a move, who does not see the old
        // copy's any more sees the new one.
        self.words.store_u64(bucket_at(bucket), tags, Release);
    }
}

/// The slots of a bucket.
fn slots_of(bucket: usize) -> core::ops::Range<usize> {
    bucket * BUCKET_ENTRIES..(bucket + 1) * BUCKET_ENTRIES
}
