//! An entry, and its four words.

use bitflags::bitflags;
use xenvelope_grant::{DomId, Peer};

use super::MAX_CHANNEL;
use crate::ethernet::MacAddress;

/// VLANs are numbers of 12 bits.
const MAX_VID: u16 = 4095;

const VERSION_BITS: u32 = 16;
const VID_AT: u32 = 16;
const CHANNEL_AT: u32 = 28;
const FLAGS_AT: u32 = 40;

bitflags! {
    /// How a peer is reached.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct EntryFlags: u8 {
        /// It understands envelopes.
        const ENVELOPE = 1;
        /// The VF's path cannot vouch for the source: nothing travels inline, and what is granted
        /// counts only if its tag is right.
        const TAGGED = 2;
        /// A switch on the way looks at L3 or L4: headers travel inline.
        const INSPECT = 4;
    }
}

/// Who has an address, and how to reach them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The address.
    pub mac: MacAddress,
    /// The VLAN that the address is in: 0 to 4095, 0 for none.
    pub vid: u16,
    /// The domain that may be granted what goes to the address.
    pub peer: Peer,
    /// The channel: 0 to [`MAX_CHANNEL`].
    pub channel: u16,
    /// How the peer is reached.
    pub flags: EntryFlags,
}

impl Entry {
    /// Whether all fields fit their places in the table.
    pub(super) const fn fits(&self) -> bool {
        self.vid <= MAX_VID
            && self.channel <= MAX_CHANNEL
            && self.peer.incarnation <= Peer::INCARNATION_MASK
    }

    /// The words of the entry under a version.
    pub(super) fn words(&self, version: u16) -> EntryWords {
        let place = u64::from(self.peer.domid.0)
            | u64::from(self.vid) << VID_AT
            | u64::from(self.channel) << CHANNEL_AT
            | u64::from(self.flags.bits()) << FLAGS_AT;
        let word = |value| value << VERSION_BITS | u64::from(version);
        let [first, place, incarnation] =
            [self.mac.to_bits(), place, self.peer.incarnation].map(word);
        EntryWords { first, place, incarnation }
    }
}

/// The words of an entry as they were read, which may be garbage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryWords {
    /// The address.
    pub first: u64,
    /// Domid, VLAN, channel and flags.
    pub place: u64,
    /// The incarnation.
    pub incarnation: u64,
}

impl EntryWords {
    /// The entry for that address in that VLAN, if the words are one and belong together, and it
    /// can be used. Words of garbage may well be an entry; one whose domid or flags mean nothing
    /// here is none, since a flag that is not known may forbid what would be done.
    #[inline]
    pub(super) fn entry(self, mac: MacAddress, vid: u16) -> Option<Entry> {
        // Of the first word the version is left if the address is this one.
        let version = self.first ^ mac.to_bits() << VERSION_BITS;
        if version == 0 || version > u64::from(u16::MAX) {
            return None;
        }
        if version_of(self.place ^ version) | version_of(self.incarnation ^ version) != 0 {
            return None;
        }
        let [place, incarnation] = [self.place, self.incarnation].map(|word| word >> VERSION_BITS);
        if (place >> VID_AT) as u16 & MAX_VID != vid {
            return None;
        }
        // Each cast keeps the bits of one field.
        Some(Entry {
            mac,
            vid,
            peer: Peer { domid: DomId::ordinary(place as u16)?, incarnation },
            channel: (place >> CHANNEL_AT) as u16 & MAX_CHANNEL,
            flags: EntryFlags::from_bits((place >> FLAGS_AT) as u8)?,
        })
    }
}

const fn version_of(word: u64) -> u16 {
    word as u16
}
