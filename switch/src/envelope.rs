//! The envelope: a small Ethernet frame that is sent in place of the frames that were granted.
//!
//! Its destination, source and VLAN are the frames' own, so every switch on the way polices what
//! will really arrive. After that Ethernet header (14 bytes, or 18 with a tag), whose EtherType
//! is [`ETHER_TYPE`], everything is little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | kind: 1 deliver, 2 done, 3 reset |
//! | 2 | 2 | length in bytes from the version to the end, without padding |
//! | 4 | 1 | frames: how many records follow; 0 unless it is a deliver |
//! | 5 | 1 | flags: 1 `TAGGED`, 2 `HAS_DONE`, 4 `WANT_DONE`, 32 `KEYED`, 64 `PASSED_ON` |
//! | 6 | 2 | 0 |
//! | 8 | 4 | epoch: the sender's, with this peer |
//! | 12 | 4 | sequence; 0 unless it is a deliver |
//! | 16 | 8 | nonce; 0 unless it is a deliver |
//!
//! With `HAS_DONE` (always in a done, perhaps in a deliver, never in a reset), a done block:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | epoch of the side whose envelopes are acknowledged |
//! | 4 | 4 | cumulative: all sequences before it are finished |
//! | 8 | 8 | selective: bit `i` is sequence `cumulative + 1 + i` |
//! | 16 | 8 | nonce of the newest sequence that is acknowledged |
//!
//! Then a record for each frame:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 2 | EtherType of the frame |
//! | 2 | 1 | segments: 0 if the frame is inline |
//! | 3 | 1 | flags: 1 `OFFLOAD`, 2 `NEEDS_CHECKSUM`, 4 `CHECKSUM_VALID`, 8 `HEADERS_INLINE` |
//! | 4 | 2 | total: bytes of the frame after its Ethernet header, at least 1 |
//! | 6 | 2 | inline: how many of them are in this record |
//! | 8 | 8 | with `OFFLOAD`: GSO type (1), 0 (1), GSO size (2), checksum start (2), offset (2) |
//! | | 8 each | segments: grant reference (4), offset (2), length (2) |
//! | | inline | the inline bytes |
//!
//! The checksum start is counted on the wire from the end of the Ethernet header, since a switch
//! between an access port and a trunk adds or removes four bytes there. [`FrameHead`] has it as
//! [`Offload`] defines it, from the frame's start, on both sides.
//!
//! # A frame is one of three
//! - **Inline**: no segments, all of it in the record.
//! - **Granted**: nothing inline; its segments hold all of it, after a [`Tag`] if the envelope
//!   is `TAGGED`.
//! - **Granted with headers inline**: its first bytes are in the record, its segments hold the
//!   rest (after a tag, as before). What a switch inspected is what is delivered.
//!
//! Data that is granted to another guest is tagged on every path, but for frames with headers
//! inline on a path that vouches for the source. Inline frames may stand beside tagged ones; a
//! receiver takes them, and headers inline, only where the path vouches.
//!
//! # Whose references they are
//! The sender's, granted to the receiver, unless a flag says otherwise. `KEYED` (never in a done):
//! the sender's, granted to whoever names the key, which is the nonce. `PASSED_ON`: the driver
//! domain's, by which it passes on what the sender has granted to it; in a done: it is for the
//! driver domain itself. What is passed on only the driver domain may say, on its own channel.
//!
//! # What is refused
//! All that is not as above, and: an envelope in an envelope; a VLAN tag as a frame's EtherType,
//! which would put the frame into a VLAN that no switch on the way has seen; a segment that is
//! empty or leaves its page, or more than [`MAX_SEGMENTS`] of them; a checksum outside the
//! frame; segmentation without a checksum to fill in (VirtIO 1.3, 5.1.6.2). Padding behind the
//! envelope is allowed, for Ethernet's minimum of 60 bytes, and never read.
//!
//! [`MAX_SEGMENTS`]: xenvelope_grant::seam::MAX_SEGMENTS

mod builder;
mod in_place;
mod layout;
mod parse;
mod record;
#[cfg(test)]
mod tests;

use xenvelope_grant::seam::Offload;

pub use builder::{EnvelopeBuilder, EnvelopeFull};
pub use in_place::InPlace;
pub use parse::{Body, Deliver, Envelope, EnvelopeError, claimed_length, is_envelope};
pub use record::{FrameRecord, Frames, Segments};

use crate::ethernet::{EthernetHeader, MacAddress};

/// The EtherType of an envelope: IEEE 802's local experimental EtherType 1.
pub const ETHER_TYPE: u16 = 0x88B5;

/// The longest envelope in bytes, Ethernet header included.
pub const MAX_ENVELOPE: usize = 1024;

/// Bytes of a [`Tag`] at the start of a frame's granted data.
pub const TAG_LEN: usize = 16;

/// The shortest Ethernet frame in bytes, without its check sequence.
const MIN_FRAME: usize = 60;

/// The Ethernet addresses of an envelope and of the frames in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Where the frames go.
    pub destination: MacAddress,
    /// Where they come from.
    pub source: MacAddress,
    /// Their 802.1Q tag control word.
    pub tci: Option<u16>,
}

/// What an envelope says of itself when it carries frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliverHead {
    /// The sender's epoch with this peer. Sequences start anew in each.
    pub epoch: u32,
    /// The envelope's number in its epoch. Wraps.
    pub sequence: u32,
    /// A number that a third party cannot guess. The done echoes it.
    pub nonce: u64,
    /// The granted data of each frame begins with [`DeliverHead::tag`].
    pub tagged: bool,
    /// The sender waits for buffers: a done should not wait for a frame to ride on.
    pub want_done: bool,
}

impl EthernetHeader {
    /// From where to where, and in which VLAN.
    #[inline]
    pub const fn addresses(&self) -> Addresses {
        Addresses { destination: self.destination, source: self.source, tci: self.tci }
    }
}

impl Addresses {
    /// The VLAN that the tag names: 0 for none, as [`crate::EthernetHeader::vid`].
    pub const fn vid(&self) -> u16 {
        crate::ethernet::vid_of(self.tci)
    }
}

impl DeliverHead {
    /// The tag that the granted data begins with if [`tagged`](Self::tagged) is set.
    pub const fn tag(&self) -> Tag {
        Tag { epoch: self.epoch, sequence: self.sequence, nonce: self.nonce }
    }
}

/// What an envelope says of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// The frame's EtherType.
    pub ether_type: u16,
    /// Bytes of the frame after its Ethernet header: 1 to 65535.
    pub total: u16,
    /// Checksum and segmentation. Without `needs_checksum` the other numbers are 0.
    pub offload: Offload,
}

/// The proof that granted data belongs to an envelope: only who can write the sender's page can
/// put it there, and a reference that has been used again by then names a page with another tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The sender's epoch with this peer.
    pub epoch: u32,
    /// The envelope's number.
    pub sequence: u32,
    /// The envelope's nonce.
    pub nonce: u64,
}

impl Tag {
    /// The bytes that the granted data begins with: the fields in order, little-endian.
    pub fn to_bytes(self) -> [u8; TAG_LEN] {
        let number =
            u128::from(self.epoch) | u128::from(self.sequence) << 32 | u128::from(self.nonce) << 64;
        number.to_le_bytes()
    }

    /// The tag that these bytes are. All bytes are one.
    pub fn from_bytes(bytes: [u8; TAG_LEN]) -> Tag {
        let number = u128::from_le_bytes(bytes);
        // Each cast keeps the bits of one field.
        Tag { epoch: number as u32, sequence: (number >> 32) as u32, nonce: (number >> 64) as u64 }
    }

    /// Whether bytes that were copied from a sender's page are this tag.
    pub fn matches(&self, copied: &[u8; TAG_LEN]) -> bool {
        self.to_bytes() == *copied
    }
}

/// Which envelopes a receiver is finished with: it will not look at their grants again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// The epoch of the side whose envelopes these are.
    pub epoch: u32,
    /// Every sequence before this one is finished.
    pub cumulative: u32,
    /// If bit `i` is set, sequence `cumulative + 1 + i` is finished.
    pub selective: u64,
    /// The nonce of the envelope [`Done::newest`].
    pub nonce: u64,
}

impl Done {
    /// Whether a sequence is finished. Sequences wrap: those in the half of the circle before
    /// `cumulative` are before it. Ask only for sequences that are outstanding.
    pub const fn covers(&self, sequence: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.cumulative);
        match ahead {
            0 => false,
            1..=64 => self.selective >> (ahead - 1) & 1 != 0,
            _ => ahead > u32::MAX / 2,
        }
    }

    /// The newest sequence that is finished: the one whose nonce is echoed.
    pub const fn newest(&self) -> u32 {
        let bits = u64::BITS - self.selective.leading_zeros();
        if bits == 0 { self.cumulative.wrapping_sub(1) } else { self.cumulative.wrapping_add(bits) }
    }
}
