//! What a driver lets be seen of its work: for captures.

use crate::Peer;

/// Which way something goes, seen from the domain whose driver says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It came.
    In,
    /// It leaves.
    Out,
}

/// By which way something travels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// By the network card.
    Nic,
    /// By the channel to the driver domain.
    DriverDomain,
    /// By a channel between two guests.
    Direct,
}

/// How a frame travels in an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enclosed {
    /// The other side: who copies it, or whose it was.
    pub peer: Peer,
    /// All of it is in the envelope. Otherwise it is granted, or the part of it that was not
    /// inspected.
    pub inline: bool,
}

/// How a frame travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Travel {
    /// By which way.
    pub way: Way,
    /// In an envelope, or as it is.
    pub enclosed: Option<Enclosed>,
}

/// Something that a driver lets be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight<'a> {
    /// A frame of the stack, once its way is known: Ethernet header and all, before any checksum
    /// that was left blank is filled in. One that finds its way closed and takes another is seen
    /// once more.
    Frame {
        /// Whether the stack sent it or gets it.
        direction: Direction,
        /// How it travels.
        travel: Travel,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// An envelope on a channel that is not the card's: of any kind, and as the peer wrote it.
    Envelope {
        /// Whether we sent it.
        direction: Direction,
        /// Its bytes: as many as it says that it has, with its padding.
        bytes: &'a [u8],
    },
}
