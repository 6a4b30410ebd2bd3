//! Blank checksums, filled in for who does not take them blank.

use xenvelope_switch::checksum::locate_checksum;
use xenvelope_switch::ethernet::{EthernetHeader, ether_type};

/// Fills in the blank checksum of a whole frame (RFC 1071). `false` if it is not TCP or UDP over
/// IP, or says that it is longer than it is.
pub fn fill_checksum(frame: &mut [u8]) -> bool {
    filled(frame).is_some()
}

fn filled(frame: &mut [u8]) -> Option<()> {
    let (start, at) = locate_checksum(frame)?;
    let (start, at) = (usize::from(start), usize::from(start + at));
    let header = EthernetHeader::parse(frame).ok()?;
    let packet = frame.get(header.len()..)?;
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    // What follows the packet is padding. A fragment has no checksum of its own.
    let (addresses, protocol, length) = match header.ether_type {
        ether_type::IPV4 if word(6)? & 0x3fff == 0 => (12..20, *packet.get(9)?, word(2)?.into()),
        ether_type::IPV6 => (8..40, *packet.get(6)?, usize::from(word(4)?) + 40),
        _ => return None,
    };
    let end = header.len() + length;
    let segment = end.checked_sub(start)?;
    let pseudo = sum(packet.get(addresses)?) + segment as u64 + u64::from(protocol);
    if at + 2 > end || end > frame.len() {
        return None;
    }
    frame[at..at + 2].fill(0);
    let mut total = pseudo + sum(&frame[start..end]);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // Zero means "no checksum" in UDP; for TCP the two zeros are the same.
    let checksum = if total == 0xffff { 0xffff } else { !(total as u16) };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// The sum of words of 16 bits, the last one filled up with a zero.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    bytes.chunks(2).map(word).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &ether_type, packet].concat()
    }

    /// The example of a UDP datagram over IPv4 from 10.0.0.1 to 10.0.0.2, ports 1 and 2, "hi".
    #[test]
    fn fills_in_the_checksum_of_a_datagram() {
        let mut packet = vec![0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0, 1, 0, 2, 0, 10, 0xaa, 0xaa, b'h', b'i']);
        let mut bytes = frame([8, 0], &packet);
        bytes.extend([9; 16]);
        assert!(fill_checksum(&mut bytes));
        // 0a00+0001+0a00+0002 + 0011+000a + 0001+0002+000a+6869 = 7c94.
        assert_eq!(bytes[14 + 26..14 + 28], (!0x7c94u16).to_be_bytes());
        bytes.truncate(40);
        assert!(!fill_checksum(&mut bytes), "cut short");
    }

    proptest! {
        /// The receiver's sum over segment and pseudo-header is all ones, whatever was there.
        #[test]
        fn a_filled_checksum_is_right(v6: bool, tcp: bool, data in prop::collection::vec(any::<u8>(), 40..100)) {
            let mut packet = data.clone();
            packet.extend([0; 40]);
            let protocol = if tcp { 6 } else { 17 };
            let length = packet.len() as u16;
            let start = if v6 { 40 } else { 20 };
            if v6 {
                (packet[0], packet[6]) = (0x60, protocol);
                packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
            } else {
                (packet[0], packet[9], packet[6], packet[7]) = (0x45, protocol, 0, 0);
                packet[2..4].copy_from_slice(&length.to_be_bytes());
            }
            let mut bytes = frame(if v6 { [0x86, 0xdd] } else { [8, 0] }, &packet);
            prop_assert!(fill_checksum(&mut bytes));
            let packet = &bytes[14..];
            let addresses = if v6 { &packet[8..40] } else { &packet[12..20] };
            let mut total = sum(addresses) + sum(&packet[start..]);
            total += (packet.len() - start) as u64 + u64::from(protocol);
            prop_assert_eq!(total % 0xffff, 0);
        }

        #[test]
        fn whatever_a_guest_sends_filling_does_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            let types = [[8, 0], [0x86, 0xdd], [0x81, 0]];
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&types[kind as usize]);
            }
            let before = bytes.len();
            fill_checksum(&mut bytes);
            prop_assert_eq!(bytes.len(), before);
        }
    }
}
