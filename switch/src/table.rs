//! The forwarding table: which peer has which MAC address, in pages that a guest can only read.
//!
//! The manager keeps one table for each frontend and lists in it only the peers that policy lets
//! that frontend reach. All numbers are little-endian.
//!
//! | at | bytes | header |
//! |---|---|---|
//! | 0 | 4 | layout: magic in the upper half, version in the lower |
//! | 4 | 4 | mask: buckets less one |
//! | 8 | 8 | seed of the hash |
//! | 16 | 8 | the manager's epoch |
//! | 24 | 4 | default route: the channel for all that is not in the table |
//! | 28 | 4 | floods: 0 if broadcast and multicast take the default route, else the driver domain |
//! | 64 | 8 | heartbeat, on a cache line of its own |
//! | 128 | 128 each | buckets of 4 entries |
//!
//! An entry is three words of 64 bits. Each has a value in its upper 48 bits and the entry's
//! version in its lower 16:
//!
//! | word | value |
//! |---|---|
//! | 0 | MAC address, its first byte the most significant |
//! | 1 | from bit 0: domid (16), VLAN (12), channel (12), flags (8) |
//! | 2 | the peer's incarnation |
//!
//! A bucket begins with a word of tags, so that one look tells which of its entries it may be. The
//! first two entries are in the same cache line:
//!
//! | at | bytes | bucket |
//! |---|---|---|
//! | 0 | 2 each | tags of entries 0 to 3; 0: there is no entry |
//! | 8 | 24 each | entries 0 to 3 |
//! | 104 | 24 | 0 |
//!
//! An address may be in either of two buckets. They are the lower and the upper half of a hash of
//! 64 bits, each under the mask. With x as `address << 16 | VLAN`, and keys k0 to k4, of which ki
//! is the SipHash-1-3 of the number i in 8 bytes under the keys seed and layout:
//!
//! * u is bits 64 to 127 of `x * (k0 + k1 * 2^64) + (k2 + k3 * 2^64)`
//! * v is `(u ^ u >> 32) * (k4 | 1)`, of which the lower 64 bits are kept
//! * the hash is `v ^ v >> 32`
//!
//! The tag is the hash's upper 16 bits, the lowest of them set.
//!
//! A reader looks at no more than the eight entries of the two buckets, and only at those with the
//! right tag. That is a hint and no more: it takes an entry only if address and VLAN are the right
//! ones and all three versions are equal and not zero. Anything else is a miss, and a miss is the default
//! route: a reader never waits, and a writer that dies half way leaves a miss.

mod entry;
mod hash;
mod reader;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod words;
mod writer;

use thiserror::Error;

pub use entry::{Entry, EntryFlags};
pub use reader::TableReader;
pub use writer::{TableFull, TableWriter};

/// The channel that is the guest's own VF.
pub const CHANNEL_VF: u16 = 0;
/// The channel to the driver domain.
pub const CHANNEL_DRIVER_DOMAIN: u16 = 1;
/// The first channel that leads straight to another guest.
pub const FIRST_DIRECT_CHANNEL: u16 = 2;
/// The last channel that an entry can name.
pub const MAX_CHANNEL: u16 = 4095;

/// Most entries that a look-up examines.
pub const MAX_EXAMINED: usize = 2 * BUCKET_ENTRIES;

/// "xF" and version 2. Version 1 had no tags, a fourth word in each entry, and SipHash.
const LAYOUT: u32 = 0x7846_0002;

const LAYOUT_AT: usize = 0;
const MASK_AT: usize = 4;
const SEED_AT: usize = 8;
const EPOCH_AT: usize = 16;
const DEFAULT_ROUTE_AT: usize = 24;
const FLOODS_AT: usize = 28;
const HEARTBEAT_AT: usize = 64;
const BUCKETS_AT: usize = 128;

const BUCKET_ENTRIES: usize = 4;
const BUCKET_LEN: usize = 128;
const TAG_BITS: usize = 64 / BUCKET_ENTRIES;
/// Where entries begin in a bucket, after the tags.
const ENTRIES_AT: usize = 8;
const ENTRY_LEN: usize = 24;
const _: () = assert!(ENTRIES_AT + BUCKET_ENTRIES * ENTRY_LEN <= BUCKET_LEN);

/// The smallest table: a header and one bucket.
const MIN_SIZE: usize = BUCKETS_AT + BUCKET_LEN;

/// Why shared memory is not a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TableError {
    /// There is no room for a header and a bucket.
    #[error("{size} bytes are too few for a forwarding table")]
    TooSmall {
        /// How many bytes there are.
        size: usize,
    },
    /// The header names a layout that is not known here.
    #[error("forwarding table layout {0:#010x} is not known")]
    Layout(u32),
    /// The mask is not one less than a power of two, or says that there are more buckets than
    /// fit into the memory.
    #[error("forwarding table mask {mask:#x} does not fit {size} bytes")]
    Mask {
        /// The mask.
        mask: u32,
        /// How many bytes there are.
        size: usize,
    },
}

/// Where a bucket lies, in bytes, and its tags.
fn bucket_at(bucket: usize) -> usize {
    BUCKETS_AT + bucket * BUCKET_LEN
}

/// Where an entry lies, in bytes.
fn entry_at(bucket: usize, slot: usize) -> usize {
    bucket_at(bucket) + ENTRIES_AT + slot * ENTRY_LEN
}
