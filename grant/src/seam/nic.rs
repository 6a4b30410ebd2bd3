//! A queue pair of a network card: a VF in a guest, the PF in the driver domain.

use core::fmt;
use core::ops::Range;

use thiserror::Error;

use super::{Granter, PortId};

/// What a card's port can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NicCapabilities {
    /// The MAC address that the card gave the port.
    pub mac: [u8; 6],
    /// The longest frame it carries, in bytes, Ethernet header included.
    pub max_frame: usize,
    /// It fills in transport checksums.
    pub checksum: bool,
}

/// Checksum and segmentation state of a frame, in the terms of `virtio_net_hdr`
/// (VirtIO 1.3, 5.1.6). A peer's is validated before it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// The transport checksum is not filled in: one's complement sum from `checksum_start` to
    /// the end, put at `checksum_start + checksum_offset`.
    pub needs_checksum: bool,
    /// The transport checksum was checked, or the frame never left the host.
    pub checksum_valid: bool,
    /// 0 none, 1 TCP over IPv4, 4 TCP over IPv6 (`VIRTIO_NET_HDR_GSO_*`).
    pub gso_type: u8,
    /// Bytes of payload in each segment when the frame must be cut; 0 if never.
    pub gso_size: u16,
    /// From the start of the frame, Ethernet header included.
    pub checksum_start: u16,
    /// From `checksum_start`.
    pub checksum_offset: u16,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NicError {
    /// The transmit ring is full.
    #[error("the card's transmit ring is full")]
    Full,
    /// The port is gone or has no link.
    #[error("the card's port has no link")]
    NoLink,
    /// Longer than the card carries.
    #[error("the frame is longer than the card carries")]
    TooLong,
}

/// A frame that was not taken, and why.
pub struct Unsent<B> {
    /// Why.
    pub cause: NicError,
    /// The buffer.
    pub buffer: B,
}

impl<B> fmt::Debug for Unsent<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("cause", &self.cause).finish_non_exhaustive()
    }
}

/// A frame that came in.
pub struct Arrival<B> {
    /// The buffer that holds it.
    pub buffer: B,
    /// Where in the buffer the frame lies, Ethernet header included.
    pub frame: Range<usize>,
    /// What the card says of it.
    pub offload: Offload,
}

/// A queue pair of a network card. One owner at a time.
pub trait NicPort {
    /// What frames live in: the same buffers that can be granted.
    type Buf;

    /// What the port can do.
    fn capabilities(&self) -> NicCapabilities;
    /// Whether it is there and has a link. A VF that was pulled has none.
    fn link(&self) -> bool;
    /// The event that says that frames came in or went out.
    fn interrupt(&self) -> PortId;
    /// Lets the interrupt fire again. Look at the queues only after this.
    fn unmask(&self);

    /// Puts a frame into the transmit ring. The card may not see it before [`NicPort::kick`].
    fn send(
        &self,
        buffer: Self::Buf,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), Unsent<Self::Buf>>;
    /// Tells the card of all frames since the last kick: one doorbell a batch.
    fn kick(&self);
    /// A buffer whose frame has left, oldest first.
    fn completed(&self) -> Option<Self::Buf>;
    /// How many frames were put in and have not completed.
    fn in_flight(&self) -> usize;
    /// How many more receive buffers the port wants, and of how many bytes.
    fn wanted(&self) -> (usize, usize);
    /// Gives the card a buffer for a frame to come. The frame will start `headroom` bytes in.
    fn post(&self, buffer: Self::Buf, headroom: usize) -> Result<(), Self::Buf>;
    /// Gives the card all the buffers that it wants and that there are.
    fn refill(&self, granter: &impl Granter<Buf = Self::Buf>, headroom: usize) {
        let (count, length) = self.wanted();
        for _ in 0..count {
            let Ok(buffer) = granter.take(None, headroom + length) else { break };
            if self.post(buffer, headroom).is_err() {
                break;
            }
        }
    }
    /// The next frame that came in, in order of arrival.
    fn receive(&self) -> Option<Arrival<Self::Buf>>;
}

/// A port towards this domain's own network stack, which takes and gives many frames with one
/// call: what comes in is what the stack has sent.
pub trait StackPort: NicPort {
    /// Hands frames to the stack, as many as go in one call, and takes what it has sent meanwhile:
    /// [`NicPort::receive`] hands that out. How many the stack took, and how many it did not: it
    /// is down, or has no room.
    fn exchange<'f>(&self, frames: impl Iterator<Item = (&'f [u8], Offload)>) -> (usize, usize);
}
