//! Transport checksums, as the card fills them in and checks them (RFC 1071).

use xenvelope_switch::ethernet::ether_type;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ETHERNET_HEADER: usize = 14;

/// The one's complement sum of `bytes`, not folded, of 16-bit words in memory order: the sum
/// does not care about byte order as long as the result is stored the same way.
fn sum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut total = 0u64;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        total += (word & 0xFFFF_FFFF) + (word >> 32);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let word = u64::from_le_bytes(last);
    total + (word & 0xFFFF_FFFF) + (word >> 32)
}

fn fold(mut total: u64) -> u16 {
    while total > 0xFFFF {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u16
}

/// The checksum of `bytes`, in which its own place is zero, as it is stored.
pub(super) fn of(bytes: &[u8]) -> [u8; 2] {
    (!fold(sum(bytes))).to_le_bytes()
}

/// The checksum of a transport segment between `addresses`, in which its own place is zero, as
/// it is stored.
pub(super) fn of_transport(addresses: &[u8], protocol: u8, segment: &[u8]) -> [u8; 2] {
    (!fold(pseudo_header(addresses, protocol, segment) + sum(segment))).to_le_bytes()
}

/// The sum of the pseudo-header of a segment of up to 64 KiB.
fn pseudo_header(addresses: &[u8], protocol: u8, segment: &[u8]) -> u64 {
    // Length and protocol in the byte order in which `sum` adds.
    let length = u64::from((segment.len() as u16).swap_bytes());
    sum(addresses) + length + u64::from(u16::from(protocol).swap_bytes())
}

/// Sums from `start` to the end and puts the complement at `start + offset`, where the sum of the
/// pseudo-header waits (VirtIO 1.3, 5.1.6.2). `false` if that is not inside the frame.
pub(super) fn fill(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let at = start + offset;
    if at + 2 > frame.len() {
        return false;
    }
    let mut checksum = !fold(sum(&frame[start..]));
    if checksum == 0 {
        // Zero means "no checksum" in UDP; for TCP the two zeros are the same.
        checksum = 0xFFFF;
    }
    frame[at..at + 2].copy_from_slice(&checksum.to_le_bytes());
    true
}

/// Whether this is TCP or UDP, not a fragment, with a checksum that is right. Frames that the
/// card cannot judge are not vouched for.
pub(super) fn verify(frame: &[u8]) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET_HEADER) else {
        return false;
    };
    let transport = match u16::from_be_bytes([header[12], header[13]]) {
        ether_type::IPV4 => ipv4(packet),
        ether_type::IPV6 => ipv6(packet),
        _ => None,
    };
    let Some((protocol, addresses, segment)) = transport else {
        return false;
    };
    let smallest = if protocol == TCP { 20 } else { 8 };
    if segment.len() < smallest || (protocol == UDP && segment[6..8] == [0, 0]) {
        return false;
    }
    fold(pseudo_header(addresses, protocol, segment) + sum(segment)) == 0xFFFF
}

fn ipv4(packet: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let header = packet.get(..20)?;
    let header_length = usize::from(header[0] & 0xF) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0;
    if header[0] >> 4 != 4 || header_length < 20 || fragment || ![TCP, UDP].contains(&header[9]) {
        return None;
    }
    Some((header[9], &packet[12..20], packet.get(header_length..total)?))
}

fn ipv6(packet: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let header = packet.get(..40)?;
    if header[0] >> 4 != 6 || ![TCP, UDP].contains(&header[6]) {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    Some((header[6], &packet[8..40], packet.get(40..40 + length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, 3.
    #[test]
    fn rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_le_bytes(), [0xdd, 0xf2]);
        assert_eq!(fold(sum(&bytes[..7])).to_le_bytes(), [0xdc, 0xfb]);
    }

    #[test]
    fn outside_the_frame_is_refused() {
        assert!(!fill(&mut [0; 20], 18, 1));
        assert!(!fill(&mut [0; 20], 60000, 60000));
        assert!(fill(&mut [0; 20], 18, 0));
    }

    #[test]
    fn nonsense_is_not_vouched_for() {
        assert!(!verify(&[]));
        assert!(!verify(&[0; 14]));
        let mut frame = [0u8; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x4F]);
        frame[23] = TCP;
        assert!(!verify(&frame));
    }
}
