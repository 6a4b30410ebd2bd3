//! Where the transport checksum of a frame is.
//!
//! netif says only that the checksum is blank; a card wants to know from where to sum and where
//! to put the result. Linux' netback finds that out from the headers too
//! (`skb_partial_csum_set`).

use crate::ethernet::{EthernetHeader, ether_type};

/// So many bytes of a frame are enough to find it: a tagged header, and IPv4's longest.
pub const CHECKSUM_HEAD: usize = 18 + 60;

/// Protocol number of TCP, and where in its header the checksum is.
const TCP: (u8, u16) = (6, 16);
/// The same of UDP.
const UDP: (u8, u16) = (17, 6);

/// Where the transport header starts, from the start of the frame, and where in it the checksum
/// is. `None` if these bytes are not the beginning of TCP or UDP over IP.
pub fn locate_checksum(beginning: &[u8]) -> Option<(u16, u16)> {
    let header = EthernetHeader::parse(beginning).ok()?;
    let packet = beginning.get(header.len()..)?;
    let first = packet.first()?;
    let (length, protocol) = match (header.ether_type, first >> 4) {
        (ether_type::IPV4, 4) => (usize::from(first & 0x0f) * 4, *packet.get(9)?),
        // Extension headers are not followed: no stack here sends them before TCP.
        (ether_type::IPV6, 6) => (40, *packet.get(6)?),
        _ => return None,
    };
    if length < 20 {
        return None;
    }
    let at = [TCP, UDP].into_iter().find(|(number, _)| *number == protocol)?.1;
    // At most 18 + 60.
    Some(((header.len() + length) as u16, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn frame(ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &ether_type, packet].concat()
    }

    #[test]
    fn finds_tcp_and_udp_over_both_versions_of_ip() {
        let mut v4 = [0; 40];
        (v4[0], v4[9]) = (0x46, 6);
        assert_eq!(locate_checksum(&frame([8, 0], &v4)), Some((14 + 24, 16)));
        v4[9] = 17;
        assert_eq!(locate_checksum(&frame([8, 0], &v4)), Some((14 + 24, 6)));
        let mut v6 = [0; 60];
        (v6[0], v6[6]) = (0x60, 6);
        assert_eq!(locate_checksum(&frame([0x86, 0xdd], &v6)), Some((14 + 40, 16)));
    }

    #[test]
    fn a_guest_that_claims_a_blank_checksum_in_something_else_gets_none() {
        for packet in [&[][..], &[0x45], &[0x41; 40], &[0x45; 40], &[0xff; 60]] {
            for ether_type in [[8, 0], [0x86, 0xdd], [0x88, 0xb5], [0x81, 0]] {
                assert_eq!(locate_checksum(&frame(ether_type, packet)), None);
            }
        }
    }
}
