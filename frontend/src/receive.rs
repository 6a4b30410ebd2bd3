//! A frame's way in.
//!
//! Everything that has come on all paths is gathered first, then handed over to be copied with one
//! call, then delivered in the order of arrival. Nothing is delivered before its copy has
//! succeeded (see `flight` for copies that take their time).
//!
//! **Order.** A flow that leaves the VF or netif does so when its frames lie where we will find
//! them. So the channels' indices are read first, then netif's, and then the VF is emptied, netif
//! up to that index, the channels up to theirs: what is on a path by the time its index is read
//! was sent after the frames on the paths that are taken before it had arrived. A flow that leaves
//! a channel waits for our done. (From netif to the VF: see `crate::transmit`.)

mod copying;
mod envelopes;
mod flight;
mod inbox;
mod parcel;
mod rings;
mod small;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{
    Buffer, CopyBatch, Hypervisor, Instant, NicPort, Offload, Travel, Way,
};
use xenvelope_switch::EthernetHeader;
use xenvelope_switch::envelope::{Tag, is_envelope};

use crate::counters::DropReason;
use crate::direct::Direct;
use crate::interface::Frontend;
use crate::peers::Path;
pub(crate) use envelopes::Known;
pub(crate) use flight::Flights;
use parcel::Parcel;

pub(crate) use parcel::Parcels;
pub(crate) use rings::ReceiveRing;
pub(crate) use small::SmallFrames;

/// A received frame that waits for the stack.
pub(crate) enum Received<B> {
    /// In a buffer of ours.
    Owned {
        /// The buffer.
        buffer: B,
        /// Where in it the frame lies, Ethernet header included.
        frame: Range<usize>,
        /// Checksum and segmentation state.
        offload: Offload,
    },
    /// Among the small ones.
    Small {
        /// Where.
        frame: Range<usize>,
        /// Checksum and segmentation state.
        offload: Offload,
    },
    /// All those of an envelope, in it.
    Parcel(Box<Parcel>),
    /// In the pages that the driver domain writes.
    Area {
        /// Where in the area.
        frame: Range<usize>,
        /// Checksum and segmentation state.
        offload: Offload,
        /// Up to where the pages can be let again when the frame has been read.
        end: u32,
        /// Whose area.
        ring: ReceiveRing,
    },
}

impl<B> Received<B> {
    pub(crate) fn in_area(&self) -> bool {
        matches!(self, Received::Area { .. })
    }

    /// How many frames it is.
    fn frames(&self) -> usize {
        match self {
            Received::Parcel(parcel) => parcel.left(),
            _ => 1,
        }
    }
}

/// What was gathered, in order of arrival.
enum Gathered<B> {
    /// Complete. How it came.
    Frame(Received<B>, Travel),
    /// To be copied into the next of the batch's buffers.
    Copying(Copying),
}

/// A frame that is being copied.
struct Copying {
    /// Its operations in the batch.
    ops: Range<usize>,
    /// In which of the batch's envelopes it came.
    envelope: usize,
    ether_type: u16,
    /// Bytes after the Ethernet header.
    total: u16,
    /// How many of them came inside the envelope.
    inline: u16,
    offload: Offload,
    /// Where in the buffer what follows the Ethernet header begins.
    payload_at: usize,
}

/// What the frames of an envelope that are being copied have in common.
struct Enclosing {
    header: EthernetHeader,
    from: Peer,
    /// How they came.
    travel: Travel,
    /// The tag that must be found in front.
    tag: Option<Tag>,
    /// They came by a path that cannot vouch for the source.
    unvouched: bool,
}

/// A batch that is being gathered. Its space is kept from one to the next: the data path allocates
/// nothing.
pub(crate) struct Batch<H: Hypervisor> {
    gathered: Vec<Gathered<H::Buf>>,
    copies: CopyBatch<H::Buf>,
    /// Those of which frames are copied.
    envelopes: Vec<Enclosing>,
    /// Who sent what is to be copied.
    senders: Vec<flight::Sent>,
    /// Bytes that are to be copied.
    bytes: usize,
}

impl<H: Hypervisor> Default for Batch<H> {
    fn default() -> Self {
        Batch::with_room(0)
    }
}

/// Peers of which a batch that is made with room can hold frames without more.
const SENDERS: usize = 64;

impl<H: Hypervisor> Batch<H> {
    /// With room for so many frames.
    fn with_room(frames: usize) -> Batch<H> {
        let copies =
            CopyBatch { ops: Vec::with_capacity(2 * frames), buffers: Vec::with_capacity(frames) };
        let senders = Vec::with_capacity(frames.min(SENDERS));
        let (gathered, envelopes) = (Vec::with_capacity(frames), Vec::with_capacity(frames));
        Batch { gathered, copies, envelopes, senders, bytes: 0 }
    }
}

/// What has come by envelope channels, while it is taken. Its space is kept.
#[derive(Default)]
pub(crate) struct Come {
    /// Our copy of the one that is looked at, perhaps for longer.
    parcel: Box<Parcel>,
}

/// By which path something came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Via {
    Vf,
    DriverDomain,
    Direct(Peer),
}

/// The driver domain's receive rings, in the order in which they are emptied: what comes from
/// outside went to the driver domain before the card had a queue for it.
const RINGS: [ReceiveRing; 2] = [ReceiveRing::Netif, ReceiveRing::NicQueue];
/// Envelopes that are taken from one path before the others get their turn.
const PATH_BUDGET: u32 = 64;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Takes in what has come on all paths. Whether there was anything.
    pub(crate) fn collect(&mut self, now: Instant) -> bool {
        let delivered = self.deliver_finished(now);
        if let Some(waits_for_stack) = self.is_full() {
            return delivered || waits_for_stack;
        }
        self.follow_floods(now);
        self.known = None;
        // Indices first: see above.
        let from_driver = match self.driver.as_ref().and_then(|driver| driver.envelopes.as_ref()) {
            Some(channel) => channel.pending(),
            None => Ok(0),
        };
        let mut come = self.come.take().unwrap_or_default();
        for direct in &mut self.direct {
            direct.come = direct.channel.as_ref().map_or(Ok(0), |channel| channel.pending());
        }
        let published = |ring| Some(self.driver.as_ref()?.receiver(ring)?.published());
        let from_rings = RINGS.map(|ring| (ring, published(ring)));
        let mut busy = self.collect_vf(now);
        for (ring, published) in from_rings {
            match published {
                Some(Ok(end)) => busy |= self.collect_ring(ring, end),
                Some(Err(_)) => self.fail(),
                None => {}
            }
        }
        match from_driver {
            Ok(count) => {
                let before = self.batch.bytes;
                for _ in 0..count.min(PATH_BUDGET) {
                    if self.is_crowded(before) {
                        break;
                    }
                    let Some(channel) =
                        self.driver.as_mut().and_then(|driver| driver.envelopes.as_mut())
                    else {
                        break;
                    };
                    let envelope = channel.pop(come.parcel.slot());
                    let whole = self.take_envelope(envelope, Via::DriverDomain, now);
                    self.keep_whole(whole, &mut come.parcel);
                    busy = true;
                }
            }
            Err(_) => self.fail(),
        }
        for index in 0..self.direct.len() {
            let Ok(count) = self.direct[index].come else {
                // The other guest broke the ring: its channel is closed, nobody else's.
                let number = self.direct[index].number;
                self.peers.of(&self.host, self.direct[index].peer).closed = true;
                self.close_direct(|direct| direct.number != number);
                break;
            };
            let peer = self.direct[index].peer;
            let before = self.batch.bytes;
            for _ in 0..count.min(PATH_BUDGET) {
                if self.is_crowded(before) {
                    break;
                }
                let Direct { channel: Some(channel), ending, .. } = &mut self.direct[index] else {
                    break;
                };
                if let Some(left) = ending {
                    *left = left.saturating_sub(1);
                }
                let envelope = channel.pop(come.parcel.slot());
                let whole = self.take_envelope(envelope, Via::Direct(peer), now);
                self.keep_whole(whole, &mut come.parcel);
                busy = true;
            }
        }
        self.come = Some(come);
        self.close_ended();
        self.submit_batch();
        self.deliver_finished(now);
        busy || delivered
    }

    fn collect_vf(&mut self, now: Instant) -> bool {
        let mut busy = false;
        // Bounded by the ring: it gets new buffers when we flush.
        while let Some(arrival) = self.vf.as_ref().and_then(NicPort::receive) {
            busy = true;
            let length = arrival.frame.len();
            let mut head = [0; xenvelope_switch::envelope::MAX_ENVELOPE];
            let seen = length.min(18);
            arrival.buffer.get(arrival.frame.start, &mut head[..seen]);
            if is_envelope(&head[..seen]) {
                let seen = length.min(head.len());
                arrival.buffer.get(arrival.frame.start, &mut head[..seen]);
                self.take_envelope(&head[..seen], Via::Vf, now);
                continue;
            }
            self.counters.received_by.vf_frames += 1;
            match EthernetHeader::parse(&head[..seen]) {
                Ok(header) => match self.acceptable(&header, Path::VfFrame) {
                    Ok(()) => self.batch.gathered.push(Gathered::Frame(
                        Received::Owned {
                            buffer: arrival.buffer,
                            frame: arrival.frame,
                            offload: arrival.offload,
                        },
                        Travel { way: Way::Nic, enclosed: None },
                    )),
                    Err(reason) => self.drop_one(reason),
                },
                Err(_) => self.drop_one(DropReason::Malformed),
            }
        }
        busy
    }

    /// Whether an ordinary frame may be taken from this path.
    fn acceptable(&self, header: &EthernetHeader, path: Path) -> Result<(), DropReason> {
        if header.source == self.mac {
            return Err(DropReason::Looped);
        }
        if header.destination.is_multicast() {
            // A frame flooded on two paths is accepted on one.
            return if self.takes_floods(path) { Ok(()) } else { Err(DropReason::OtherPath) };
        }
        if header.destination == self.mac { Ok(()) } else { Err(DropReason::NotOurs) }
    }

    /// A frame that nobody will read.
    fn discard(&mut self, received: Received<H::Buf>) {
        match received {
            Received::Owned { buffer, .. } => self.warm.keep(buffer),
            Received::Small { .. } => self.small.release(),
            Received::Parcel(parcel) => self.parcels.give_back(parcel),
            Received::Area { ring, .. } => {
                let driver = self.driver.as_mut();
                if let Some(receiver) = driver.and_then(|driver| driver.receiver_mut(ring)) {
                    receiver.discard();
                }
            }
        }
    }
}

/// A frame whose payload has been copied gets the header that travelled in the envelope.
fn finish<B: Buffer>(frame: Copying, envelope: &Enclosing, mut buffer: B) -> Received<B> {
    let mut bytes = [0; 18];
    let header = EthernetHeader { ether_type: frame.ether_type, ..envelope.header };
    let length = header.write(&mut bytes);
    let start = frame.payload_at - length;
    buffer.put(start, &bytes[..length]);
    let end = frame.payload_at + usize::from(frame.total);
    Received::Owned { buffer, frame: start..end, offload: frame.offload }
}
