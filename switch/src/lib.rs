//! Where a frame goes, and what travels in its place.
//!
//! | module | what |
//! |---|---|
//! | [`ethernet`] | MAC addresses, the Ethernet header with its 802.1Q tag |
//! | [`envelope`] | the small frame that a sender sends for the ones it has granted |
//! | [`table`] | the forwarding table that a manager shares with a guest: writer and reader |
//! | [`forwarding`] | the driver domain's switch: guest ports that never learn, one uplink that does |
//! | [`channel`] | two shared rings of envelopes: the path between two domains |
//! | [`window`] | sequence numbers: what is outstanding at a sender, what a receiver has seen |
//!
//! Nothing here trusts what it reads. An envelope is validated whole before any of it is used, a
//! table of garbage is a table of misses, and the switch takes a frame from a guest only with a
//! source and a VLAN that are that guest's.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod channel;
pub mod checksum;
pub mod envelope;
pub mod ethernet;
pub mod forwarding;
pub mod table;
pub mod window;

pub use envelope::{
    Addresses, Body, Deliver, DeliverHead, Done, ETHER_TYPE, Envelope, EnvelopeBuilder,
    EnvelopeError, EnvelopeFull, FrameHead, FrameRecord, Frames, MAX_ENVELOPE, Segments, TAG_LEN,
    Tag, is_envelope,
};
pub use ethernet::{EthernetHeader, FrameError, MAX_FRAME, MacAddress, MacAddressError};
pub use forwarding::{Destination, Discard, Forward, PortConfig, PortError, PortId, Switch, Vlan};
pub use table::{
    CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, Entry, EntryFlags, FIRST_DIRECT_CHANNEL, MAX_CHANNEL,
    TableError, TableFull, TableReader, TableWriter,
};
