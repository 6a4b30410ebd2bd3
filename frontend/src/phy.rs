//! `smoltcp::phy::Device` for the interface.
//!
//! Checksums: between guests of a host the transport checksum stays blank, as netif and
//! `virtio_net_hdr` have it; whoever takes the frame off the host fills it in. What came from
//! outside unchecked is checked here.

use core::num::{NonZeroU16, NonZeroUsize};

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpPacket,
};
use xenvelope_grant::seam::{Buffer, Hypervisor, NicPort, Offload};

use crate::counters::{Delivered, Sent};
use crate::interface::{DriverDomain, Frontend, OUTBOX};
use crate::peers::Staged;
use crate::receive::{Received, SmallFrames};
use crate::transmit::FRAME_AT;

/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCPV4: u8 = 1;
/// Bytes of an untagged Ethernet header.
const ETHERNET_HEADER: usize = 14;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Where in a TCP header the checksum is.
const TCP_CHECKSUM_AT: usize = 16;

/// A frontend as a device of smoltcp's.
pub struct Phy<'f, H: Hypervisor, N: NicPort<Buf = H::Buf>> {
    frontend: &'f mut Frontend<H, N>,
    mtu: usize,
    gso: Option<usize>,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// The interface as a device whose IP packets are at most `mtu` bytes long; with `gso`, the
    /// stack may hand over TCP segments of up to that many bytes of IP packet, which are cut only
    /// where they leave the host.
    pub fn phy(&mut self, mtu: usize, gso: Option<usize>) -> Phy<'_, H, N> {
        Phy { frontend: self, mtu, gso }
    }
}

/// A received frame, for smoltcp.
pub struct Receive<'a, H: Hypervisor> {
    received: Received<H::Buf>,
    driver: Option<&'a mut DriverDomain<H>>,
    small: &'a mut SmallFrames,
    counters: &'a mut Delivered,
}

/// Room for a frame to send, for smoltcp.
pub struct Transmit<'a, H: Hypervisor> {
    host: &'a H,
    outbox: &'a mut alloc::collections::VecDeque<Staged<H::Buf>>,
    counters: &'a mut Sent,
    meta: PacketMeta,
}

impl<H: Hypervisor> RxToken for Receive<'_, H> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let mut deliver = |bytes: &[u8], offload: Offload, read: F| {
            if offload.needs_checksum || offload.checksum_valid || checksum_is_right(bytes) {
                self.counters.frames += 1;
                self.counters.bytes += bytes.len() as u64;
                read(bytes)
            } else {
                self.counters.bad_checksum += 1;
                read(&[])
            }
        };
        match self.received {
            Received::Owned { buffer, frame, offload } => {
                deliver(&buffer.stack_bytes()[frame], offload, read)
            }
            Received::Small { frame, offload } => {
                let result = deliver(self.small.bytes(frame), offload, read);
                self.small.release();
                result
            }
            // Unpacked before.
            Received::Parcel(_) => read(&[]),
            Received::Area { frame, offload, end, ring } => {
                let receiver = self.driver.and_then(|driver| driver.receiver_mut(ring));
                let Some(receiver) = receiver else {
                    return read(&[]);
                };
                let result = match receiver.bytes(frame) {
                    Some(bytes) => deliver(bytes, offload, read),
                    None => {
                        self.counters.bad_response += 1;
                        read(&[])
                    }
                };
                receiver.release(end);
                result
            }
        }
    }
}

impl<H: Hypervisor> TxToken for Transmit<'_, H> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, build: F) -> R {
        self.counters.frames += 1;
        self.counters.bytes += len as u64;
        let Ok(mut buffer) = self.host.take(None, FRAME_AT + len) else {
            // The stack has begun and cannot be stopped: it builds a frame that is dropped.
            self.counters.no_buffer += 1;
            return build(&mut alloc::vec![0; len]);
        };
        let frame = FRAME_AT..FRAME_AT + len;
        let bytes = &mut buffer.stack_bytes_mut()[frame.clone()];
        let result = build(bytes);
        let offload = prepare(bytes, self.meta.segmentation_offload_size);
        self.outbox.push_back(Staged { buffer, frame, offload });
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Device for Phy<'_, H, N> {
    type RxToken<'a>
        = Receive<'a, H>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmit<'a, H>
    where
        Self: 'a;

    fn receive(&mut self, _: SmolInstant) -> Option<(Receive<'_, H>, Transmit<'_, H>)> {
        if self.frontend.outbox.len() >= OUTBOX {
            return None;
        }
        self.frontend.unpack();
        let Frontend { inbox, driver, counters, outbox, host, small, .. } = &mut *self.frontend;
        let received = inbox.pop_front()?;
        let (delivered, sent) = counters.split();
        let receive = Receive { received, driver: driver.as_mut(), small, counters: delivered };
        Some((receive, Transmit { host, outbox, counters: sent, meta: PacketMeta::default() }))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Transmit<'_, H>> {
        if self.frontend.outbox.len() >= OUTBOX {
            return None;
        }
        let Frontend { counters, outbox, host, .. } = &mut *self.frontend;
        let (_, sent) = counters.split();
        Some(Transmit { host, outbox, counters: sent, meta: PacketMeta::default() })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET_HEADER;
        capabilities.checksum.tcp = Checksum::None;
        capabilities.segmentation.tcpv4 =
            self.gso.and_then(|bytes| NonZeroUsize::new(bytes + ETHERNET_HEADER));
        capabilities
    }
}

/// The offload state of a frame that the stack has built. The checksum field of a TCP segment
/// gets the pseudo-header's sum, as `virtio_net_hdr` and the 82576 want it.
fn prepare(bytes: &mut [u8], segment: Option<NonZeroU16>) -> Offload {
    let Some((start, pseudo)) = tcp_over_ipv4(bytes) else {
        return Offload::default();
    };
    let field = start + TCP_CHECKSUM_AT;
    bytes[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    Offload {
        needs_checksum: true,
        checksum_valid: false,
        gso_type: if segment.is_some() { GSO_TCPV4 } else { 0 },
        gso_size: segment.map_or(0, NonZeroU16::get),
        // Both are below 100.
        checksum_start: start as u16,
        checksum_offset: TCP_CHECKSUM_AT as u16,
    }
}

/// Where the TCP header of a frame starts, and its pseudo-header's sum (RFC 9293, 3.1).
fn tcp_over_ipv4(bytes: &[u8]) -> Option<(usize, u16)> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.next_header() != IpProtocol::Tcp || packet.payload().len() < TCP_HEADER {
        return None;
    }
    let [a, b, c, d] = packet.src_addr().octets();
    let [e, f, g, h] = packet.dst_addr().octets();
    let words = [
        u16::from_be_bytes([a, b]),
        u16::from_be_bytes([c, d]),
        u16::from_be_bytes([e, f]),
        u16::from_be_bytes([g, h]),
        u16::from(u8::from(IpProtocol::Tcp)),
        u16::try_from(packet.payload().len()).ok()?,
    ];
    let sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    Some((ETHERNET_HEADER + packet.header_len() as usize, folded as u16))
}

/// Whether the transport checksum of a frame that nobody vouches for is right. What is not TCP
/// over IPv4 is the stack's to check.
fn checksum_is_right(bytes: &[u8]) -> bool {
    let Ok(frame) = EthernetFrame::new_checked(bytes) else {
        return true;
    };
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return true;
    }
    let Ok(packet) = Ipv4Packet::new_checked(frame.payload()) else {
        return true;
    };
    if packet.next_header() != IpProtocol::Tcp {
        return true;
    }
    TcpPacket::new_checked(packet.payload()).is_ok_and(|segment| {
        segment.verify_checksum(
            &IpAddress::Ipv4(packet.src_addr()),
            &IpAddress::Ipv4(packet.dst_addr()),
        )
    })
}
