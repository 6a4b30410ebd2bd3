//! The reader: the frontend, which trusts the manager no further than it must.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use xenvelope_grant::{Peer, Words};

use super::entry::{Entry, EntryWords};
use super::hash::Hash;
use super::{
    BUCKET_LEN, BUCKETS_AT, CHANNEL_DRIVER_DOMAIN, DEFAULT_ROUTE_AT, EPOCH_AT, FLOODS_AT,
    HEARTBEAT_AT, LAYOUT, LAYOUT_AT, MASK_AT, MAX_CHANNEL, MIN_SIZE, SEED_AT, TAG_BITS, TableError,
    bucket_at, entry_at,
};
use crate::ethernet::MacAddress;

/// Reads a table that the manager writes at the same time.
///
/// A look-up loads at most 26 words, never waits and never tries again. No content of the memory
/// makes it panic.
#[derive(Debug)]
pub struct TableReader<W> {
    words: W,
    /// Copied at attach: what the memory says later cannot lead us out of it.
    hash: Hash,
}

impl<W: Words> TableReader<W> {
    /// Takes a table that was imported.
    ///
    /// Mask and seed are read once, here. Attach again when [`epoch`](Self::epoch) changes: a
    /// new manager makes a new table.
    ///
    /// # Errors
    /// [`TableError`] if the memory does not hold a table of this layout.
    pub fn attach(words: W) -> Result<TableReader<W>, TableError> {
        let size = words.size();
        if size < MIN_SIZE {
            return Err(TableError::TooSmall { size });
        }
        // The writer stores the layout last, with Release.
        let layout = words.load_u32(LAYOUT_AT, Acquire);
        if layout != LAYOUT {
            return Err(TableError::Layout(layout));
        }
        let mask = words.load_u32(MASK_AT, Relaxed);
        let fit = ((size - BUCKETS_AT) / BUCKET_LEN) as u64;
        let count = u64::from(mask) + 1;
        if !count.is_power_of_two() || count > fit {
            return Err(TableError::Mask { mask, size });
        }
        let seed = words.load_u64(SEED_AT, Relaxed);
        Ok(TableReader { words, hash: Hash::new(seed, mask) })
    }

    /// Who has an address in a VLAN, and how to reach them. `None` is the default route.
    #[inline(always)]
    pub fn lookup(&self, mac: MacAddress, vid: u16) -> Option<Entry> {
        let place = self.hash.place(mac, vid);
        // In this order: an entry that is moved is in the second before it leaves the first.
        let [mut bucket, second] = place.buckets;
        loop {
            // Acquire: with a tag we see at least the entry that was written before it, and
            // without one at least the copy in the other bucket that was.
            let [tags] = self.words.load_u64s(bucket_at(bucket), Acquire);
            let mut left = place.among(tags);
            // Each turn takes a bit away, of four.
            while left != 0 {
                let slot = left.trailing_zeros() as usize / TAG_BITS;
                // Acquire: with the first word we see at least the others that were written
                // before it. Should they be newer, the versions differ.
                let [first, place, incarnation] =
                    self.words.load_u64s(entry_at(bucket, slot), Acquire);
                let found = EntryWords { first, place, incarnation }.entry(mac, vid);
                if found.is_some() {
                    return found;
                }
                left &= left - 1;
            }
            if bucket == second {
                return None;
            }
            bucket = second;
        }
    }

    /// A number that grows as long as the manager lives. If it stands still for too long, the
    /// default route is the only one to use.
    pub fn heartbeat(&self) -> u64 {
        self.words.load_u64(HEARTBEAT_AT, Acquire)
    }

    /// The channel for all that is not in the table. One that cannot exist is taken for the
    /// driver domain's, which always does.
    pub fn default_route(&self) -> u16 {
        let channel = self.words.load_u32(DEFAULT_ROUTE_AT, Acquire);
        u16::try_from(channel)
            .ok()
            .filter(|&channel| channel <= MAX_CHANNEL)
            .unwrap_or(CHANNEL_DRIVER_DOMAIN)
    }

    /// Whether broadcast and multicast go to the driver domain, whatever the default route is.
    pub fn floods_by_driver_domain(&self) -> bool {
        self.words.load_u32(FLOODS_AT, Acquire) != 0
    }

    /// The manager's epoch.
    pub fn epoch(&self) -> u64 {
        self.words.load_u64(EPOCH_AT, Acquire)
    }

    /// The second look, after granting to a peer that the first look gave: whether the table
    /// still leads to it. It is not done before the grant is visible, so an entry that was taken
    /// out between the first look and the grant is missed, and the grant must be revoked.
    pub fn still_leads_to(&self, peer: Peer, mac: MacAddress, vid: u16) -> bool {
        // The grant before the look. The writer takes the entry out, and then a barrier too.
        self.words.full_barrier();
        self.lookup(mac, vid).is_some_and(|entry| entry.peer == peer)
    }
}
