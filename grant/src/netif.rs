//! The slots of Xen's network protocol (`xen/include/public/io/netif.h`), bit for bit.
//!
//! Transmit and receive flags share names but not values: bits 0 and 1 are swapped, and more
//! than one driver has got that wrong. So they are distinct types here.

use bitflags::bitflags;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// `NETTXF_*`: flags of a transmit request.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct TxFlags: u16 {
        /// The transport checksum is blank.
        const CSUM_BLANK = 1;
        /// The data has been checked.
        const DATA_VALIDATED = 2;
        /// More fragments follow in the next slots.
        const MORE_DATA = 4;
        /// An extra info slot follows.
        const EXTRA_INFO = 8;
    }

    /// `NETRXF_*`: flags of a receive response.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RxFlags: u16 {
        /// The data has been checked.
        const DATA_VALIDATED = 1;
        /// The transport checksum is blank.
        const CSUM_BLANK = 2;
        /// More fragments follow in the next slots.
        const MORE_DATA = 4;
        /// An extra info slot follows.
        const EXTRA_INFO = 8;
        /// Of an older protocol; never offered here.
        const GSO_PREFIX = 16;
    }
}

/// `netif_tx_request`.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TxRequest {
    /// Grant of the page.
    pub gref: u32,
    /// Where in the page.
    pub offset: u16,
    /// [`TxFlags`].
    pub flags: u16,
    /// Echoed in the response.
    pub id: u16,
    /// First slot of a frame: bytes of the whole frame. Others: bytes of this fragment.
    pub size: u16,
}

/// `netif_tx_response`.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TxResponse {
    /// Of the request.
    pub id: u16,
    /// `NETIF_RSP_*`.
    pub status: i16,
}

/// `netif_rx_request`.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RxRequest {
    /// Echoed in the response.
    pub id: u16,
    /// Unused.
    pub pad: u16,
    /// Grant of a page that the backend may write.
    pub gref: u32,
}

/// `netif_rx_response`.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RxResponse {
    /// Of the request.
    pub id: u16,
    /// Where in the page the fragment starts.
    pub offset: u16,
    /// [`RxFlags`].
    pub flags: u16,
    /// Bytes of the fragment, or a negative `NETIF_RSP_*`.
    pub status: i16,
}

/// `netif_extra_info` of type GSO, as it lies in a slot.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ExtraInfo {
    /// `XEN_NETIF_EXTRA_TYPE_*`.
    pub kind: u8,
    /// [`EXTRA_MORE`].
    pub flags: u8,
    /// GSO: bytes of payload in each segment.
    pub gso_size: u16,
    /// GSO: `XEN_NETIF_GSO_TYPE_*`.
    pub gso_type: u8,
    /// Unused.
    pub pad: u8,
    /// GSO: extra features, 0.
    pub gso_features: u16,
}

impl ExtraInfo {
    /// The extra info in a transmit slot: it takes a request's place there.
    pub fn from_tx(slot: &TxRequest) -> ExtraInfo {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&slot.as_bytes()[..8]);
        zerocopy::transmute!(bytes)
    }

    /// As a transmit slot.
    pub fn to_tx(&self) -> TxRequest {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(self.as_bytes());
        zerocopy::transmute!(bytes)
    }

    /// The extra info in a receive slot: it takes a response's place there.
    pub fn from_rx(slot: &RxResponse) -> ExtraInfo {
        zerocopy::transmute!(*slot)
    }

    /// As a receive slot.
    pub fn to_rx(&self) -> RxResponse {
        zerocopy::transmute!(*self)
    }
}

const _: () = {
    assert!(size_of::<TxRequest>() == 12);
    assert!(offset_of!(TxRequest, offset) == 4 && offset_of!(TxRequest, flags) == 6);
    assert!(offset_of!(TxRequest, id) == 8 && offset_of!(TxRequest, size) == 10);
    assert!(size_of::<TxResponse>() == 4);
    assert!(size_of::<RxRequest>() == 8 && offset_of!(RxRequest, gref) == 4);
    assert!(size_of::<RxResponse>() == 8 && offset_of!(RxResponse, status) == 6);
    assert!(size_of::<ExtraInfo>() == 8 && offset_of!(ExtraInfo, gso_features) == 6);
};

/// `NETIF_RSP_OKAY`.
pub const RSP_OKAY: i16 = 0;
/// `NETIF_RSP_ERROR`.
pub const RSP_ERROR: i16 = -1;
/// `NETIF_RSP_DROPPED`.
pub const RSP_DROPPED: i16 = -2;
/// `NETIF_RSP_NULL`: the slot was an extra info.
pub const RSP_NULL: i16 = 1;

/// `XEN_NETIF_EXTRA_TYPE_GSO`.
pub const EXTRA_TYPE_GSO: u8 = 1;
/// `XEN_NETIF_EXTRA_FLAG_MORE`.
pub const EXTRA_MORE: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV4`.
pub const GSO_TYPE_TCPV4: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV6`.
pub const GSO_TYPE_TCPV6: u8 = 2;

/// netif's kind of GSO in the terms of `virtio_net_hdr`: TCP over IPv4 is 1 in both, TCP over
/// IPv6 is 2 here and 4 there.
pub const fn gso_to_virtio(kind: u8) -> Option<u8> {
    match kind {
        GSO_TYPE_TCPV4 => Some(1),
        GSO_TYPE_TCPV6 => Some(4),
        _ => None,
    }
}

/// The other way round.
pub const fn gso_from_virtio(kind: u8) -> Option<u8> {
    match kind {
        1 => Some(GSO_TYPE_TCPV4),
        4 => Some(GSO_TYPE_TCPV6),
        _ => None,
    }
}

/// `XEN_NETIF_NR_SLOTS_MIN`: slots that every backend must take for one frame.
pub const NR_SLOTS_MIN: usize = 18;
/// Slots beyond the first at which Linux's netback takes the frontend for hostile
/// (`fatal_skb_slots`).
pub const FATAL_SLOTS: usize = 20;
/// `XEN_NETIF_MAX_TX_SIZE`: bytes of the longest frame.
pub const MAX_TX_SIZE: usize = 0xFFFF;
/// Slots of the transmit ring: 12 bytes each in one page, a power of two.
pub const TX_RING_SLOTS: u32 = 256;
/// Slots of the receive ring.
pub const RX_RING_SLOTS: u32 = 256;
