//! Segmentation (TSO): how a long TCP frame is cut into frames that the network carries.
//!
//! As the 82576 does it (datasheet, 7.2.4): the headers are replicated, and what differs from
//! frame to frame is filled in. The card parses the headers itself and takes none of its driver's
//! words for where they are.

use xenvelope_grant::seam::Offload;
use xenvelope_switch::ethernet::ether_type;

use super::checksum;
use super::packet::HEADER_BYTES;

const TCP: u8 = 6;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
/// Where the checksum lies in a TCP header.
const CHECKSUM_AT: usize = 16;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Whether a frame is to be cut.
pub(super) fn is_asked(offload: &Offload) -> bool {
    offload.gso_size > 0 && [GSO_TCPV4, GSO_TCPV6].contains(&offload.gso_type)
}

/// How one frame is cut. Offsets count from its start; it has no tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    ipv4: bool,
    /// Where the TCP header starts.
    transport: usize,
    /// Where the payload starts.
    payload: usize,
    /// Where the payload ends.
    end: usize,
    /// Payload of each frame but the last.
    size: usize,
}

impl Cut {
    /// How to cut a frame. `None` if it is not what its driver says: TCP, in one piece, over the
    /// IP that was announced, with headers and lengths that lie inside the frame.
    pub(super) fn plan(frame: &[u8], offload: &Offload) -> Option<Cut> {
        let (header, packet) = frame.split_at_checked(HEADER_BYTES)?;
        let ipv4 = offload.gso_type == GSO_TCPV4;
        let (ip_header, claimed) = if ipv4 {
            (header[12..14] == ether_type::IPV4.to_be_bytes()).then(|| ipv4_lengths(packet))??
        } else {
            (header[12..14] == ether_type::IPV6.to_be_bytes()).then(|| ipv6_lengths(packet))??
        };
        // Drivers of the 82576 leave the length to the card.
        let total = if claimed == 0 { packet.len() } else { ip_header.max(claimed) };
        if total > packet.len() || (ipv4 && total > usize::from(u16::MAX)) {
            return None;
        }
        let segment = packet.get(ip_header..total)?;
        let tcp_header = usize::from(segment.get(12)? >> 4) * 4;
        if tcp_header < TCP_HEADER || tcp_header > segment.len() {
            return None;
        }
        let transport = HEADER_BYTES + ip_header;
        let start = usize::from(offload.checksum_start);
        let offset = usize::from(offload.checksum_offset);
        if offload.needs_checksum && (start, offset) != (transport, CHECKSUM_AT) {
            return None;
        }
        Some(Cut {
            ipv4,
            transport,
            payload: transport + tcp_header,
            end: HEADER_BYTES + total,
            size: usize::from(offload.gso_size).max(1),
        })
    }

    /// How many frames it becomes: at least one.
    pub(super) fn count(&self) -> usize {
        (self.end - self.payload).div_ceil(self.size).max(1)
    }

    /// The part of the payload that frame `index` carries.
    fn part(&self, index: usize) -> std::ops::Range<usize> {
        let from = (self.payload + index * self.size).min(self.end);
        from..(from + self.size).min(self.end)
    }

    /// How many bytes frame `index` has.
    pub(super) fn length(&self, index: usize) -> usize {
        self.payload + self.part(index).len()
    }

    /// Makes frame `index` of `frame`, in `out`, which is as long as [`Cut::length`] says.
    pub(super) fn write(&self, frame: &[u8], index: usize, out: &mut [u8]) {
        let part = self.part(index);
        let (headers, payload) = out.split_at_mut(self.payload);
        headers.copy_from_slice(&frame[..self.payload]);
        payload.copy_from_slice(&frame[part.clone()]);
        let ip = &mut out[HEADER_BYTES..];
        let length = ip.len();
        if self.ipv4 {
            let header = &mut ip[..self.transport - HEADER_BYTES];
            let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(index as u16);
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[10..12].fill(0);
            let sum = checksum::of(header);
            header[10..12].copy_from_slice(&sum);
        } else {
            ip[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
        }
        let (network, tcp) = out.split_at_mut(self.transport);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let sequence = sequence.wrapping_add((part.start - self.payload) as u32);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if index > 0 {
            tcp[13] &= !CWR;
        }
        if index + 1 < self.count() {
            tcp[13] &= !(FIN | PSH);
        }
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
        let addresses = if self.ipv4 { 12..20 } else { 8..40 };
        let addresses = &network[HEADER_BYTES + addresses.start..HEADER_BYTES + addresses.end];
        let sum = checksum::of_transport(addresses, TCP, tcp);
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum);
    }
}

/// The lengths of the header and of all of an IPv4 packet that is TCP and no fragment.
fn ipv4_lengths(packet: &[u8]) -> Option<(usize, usize)> {
    let header = packet.get(..20)?;
    let length = usize::from(header[0] & 0xF) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0;
    let good = header[0] >> 4 == 4 && length >= 20 && !fragment && header[9] == TCP;
    good.then(|| (length, usize::from(u16::from_be_bytes([header[2], header[3]]))))
}

/// The same for IPv6, without extension headers.
fn ipv6_lengths(packet: &[u8]) -> Option<(usize, usize)> {
    let header = packet.get(..IPV6_HEADER)?;
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let total = if payload == 0 { 0 } else { IPV6_HEADER + payload };
    (header[0] >> 4 == 6 && header[6] == TCP).then_some((IPV6_HEADER, total))
}
