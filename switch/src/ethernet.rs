//! MAC addresses and the Ethernet header, with or without an 802.1Q tag.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// The longest frame that is ever carried, in bytes: 64 KiB less one after a tagged header.
pub const MAX_FRAME: usize = 65535 + TAGGED_LEN;

/// What an Ethernet header says that follows it (`ETH_P_*` in `include/uapi/linux/if_ether.h`).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86DD;
}

/// `ETH_P_8021Q`: the next two bytes are a tag control word, then the real EtherType.
pub const TPID_CUSTOMER: u16 = 0x8100;
/// `ETH_P_8021AD`: a provider's tag. Never parsed as one here.
pub const TPID_SERVICE: u16 = 0x88A8;

/// Bytes of an Ethernet header without a tag.
pub(crate) const UNTAGGED_LEN: usize = 14;
/// Bytes of an Ethernet header with an 802.1Q tag.
pub(crate) const TAGGED_LEN: usize = 18;

/// The part of a tag control word that is the VLAN's number.
const VID_MASK: u16 = 0x0FFF;

/// The address of a network interface, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `ff:ff:ff:ff:ff:ff`: everybody.
    pub const BROADCAST: MacAddress = MacAddress([0xFF; 6]);

    /// It names a group of interfaces. Broadcast is one such group.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// It names every interface.
    pub const fn is_broadcast(self) -> bool {
        self.to_bits() == Self::BROADCAST.to_bits()
    }

    /// The address as a number of 48 bits, its first byte the most significant.
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        (u32::from_be_bytes([a, b, c, d]) as u64) << 16 | u16::from_be_bytes([e, f]) as u64
    }

    /// The address from the low 48 bits of a number; higher bits are ignored.
    pub const fn from_bits(bits: u64) -> MacAddress {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        MacAddress([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a MAC address: six pairs of hexadecimal digits with colons between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not a MAC address: six pairs of hexadecimal digits with colons between them")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<MacAddress, MacAddressError> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(MacAddressError)?;
            // `from_str_radix` alone would accept "+1".
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacAddressError);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| MacAddressError)?;
        }
        if pairs.next().is_some() {
            return Err(MacAddressError);
        }
        Ok(MacAddress(bytes))
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// They end inside the Ethernet header.
    #[error("{len} bytes are too few for an Ethernet header")]
    TooShort {
        /// How many bytes there were.
        len: usize,
    },
}

/// The header of a frame: 14 bytes, or 18 with an 802.1Q tag.
///
/// Only the outermost tag is looked at, and only if it is a customer's (0x8100).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EthernetHeader {
    /// Where the frame goes.
    pub destination: MacAddress,
    /// Where it says that it comes from.
    pub source: MacAddress,
    /// The 802.1Q tag control word: priority in 3 bits, drop eligibility in 1, VLAN in 12.
    pub tci: Option<u16>,
    /// What follows the header.
    pub ether_type: u16,
}

/// The VLAN that a tag control word names.
pub(crate) const fn vid_of(tci: Option<u16>) -> u16 {
    match tci {
        Some(tci) => tci & VID_MASK,
        None => 0,
    }
}

impl EthernetHeader {
    /// Reads the header at the start of a frame.
    ///
    /// # Errors
    /// [`FrameError::TooShort`] if the bytes end inside it.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<EthernetHeader, FrameError> {
        let short = FrameError::TooShort { len: frame.len() };
        let (fixed, rest) = frame.split_first_chunk::<UNTAGGED_LEN>().ok_or(short)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *fixed;
        let mut header = EthernetHeader {
            destination: MacAddress([d0, d1, d2, d3, d4, d5]),
            source: MacAddress([s0, s1, s2, s3, s4, s5]),
            tci: None,
            ether_type: u16::from_be_bytes([t0, t1]),
        };
        if header.ether_type == TPID_CUSTOMER {
            let [c0, c1, t0, t1] = *rest.first_chunk().ok_or(short)?;
            header.tci = Some(u16::from_be_bytes([c0, c1]));
            header.ether_type = u16::from_be_bytes([t0, t1]);
        }
        Ok(header)
    }

    /// How many bytes the header has: 14, or 18 with a tag.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    #[inline]
    pub const fn len(&self) -> usize {
        if self.tci.is_some() { TAGGED_LEN } else { UNTAGGED_LEN }
    }

    /// The VLAN that the tag names, 0 to 4095. 0 if there is no tag or the tag is there for its
    /// priority only.
    #[inline]
    pub const fn vid(&self) -> u16 {
        vid_of(self.tci)
    }

    /// Writes the header to the start of `out` and returns how many bytes it has.
    ///
    /// # Panics
    /// If `out` is shorter than [`len`](Self::len).
    #[inline]
    pub fn write(&self, out: &mut [u8]) -> usize {
        out[..6].copy_from_slice(&self.destination.0);
        out[6..12].copy_from_slice(&self.source.0);
        let mut at = 12;
        if let Some(tci) = self.tci {
            out[at..at + 2].copy_from_slice(&TPID_CUSTOMER.to_be_bytes());
            out[at + 2..at + 4].copy_from_slice(&tci.to_be_bytes());
            at += 4;
        }
        out[at..at + 2].copy_from_slice(&self.ether_type.to_be_bytes());
        at + 2
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let mac: MacAddress = "02:16:3e:0A:ff:00".parse().unwrap();
        assert_eq!(mac, MacAddress([0x02, 0x16, 0x3E, 0x0A, 0xFF, 0x00]));
        assert_eq!(mac.to_string(), "02:16:3e:0a:ff:00");
        assert_eq!(mac.to_bits(), 0x0216_3E0A_FF00);
        assert_eq!(MacAddress::from_bits(mac.to_bits()), mac);
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "02",
            "02:16:3e:0a:ff",
            "02:16:3e:0a:ff:00:01",
            "02:16:3e:0a:ff:0",
            "02:16:3e:0a:ff:+1",
            "02:16:3e:0a:ff:0g",
            "02-16-3e-0a-ff-00",
            "0216:3e:0a:ff:00",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacAddressError), "{text}");
        }
    }

    #[test]
    fn broadcast_is_a_multicast() {
        assert!(MacAddress::BROADCAST.is_broadcast() && MacAddress::BROADCAST.is_multicast());
        let group = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
        assert!(group.is_multicast() && !group.is_broadcast());
        assert!(!MacAddress([0x02, 0, 0, 0, 0, 1]).is_multicast());
    }

    #[test]
    fn a_priority_tag_names_no_vlan() {
        let mut header = EthernetHeader {
            destination: MacAddress::BROADCAST,
            source: MacAddress([2, 0, 0, 0, 0, 1]),
            tci: Some(0xE000),
            ether_type: ether_type::ARP,
        };
        assert_eq!((header.vid(), header.len()), (0, 18));
        header.tci = Some(0xE00A);
        assert_eq!(header.vid(), 10);
        header.tci = None;
        assert_eq!((header.vid(), header.len()), (0, 14));
    }

    #[test]
    fn a_header_that_ends_early_is_too_short() {
        let mut frame = [0; 18];
        frame[12] = 0x81;
        assert_eq!(EthernetHeader::parse(&frame[..13]), Err(FrameError::TooShort { len: 13 }));
        assert_eq!(EthernetHeader::parse(&frame[..17]), Err(FrameError::TooShort { len: 17 }));
        assert!(EthernetHeader::parse(&frame).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            destination: [u8; 6], source: [u8; 6], tci: Option<u16>, ether_type: u16,
        ) {
            prop_assume!(ether_type != TPID_CUSTOMER);
            let header = EthernetHeader {
                destination: MacAddress(destination),
                source: MacAddress(source),
                tci,
                ether_type,
            };
            let mut out = [0; 18];
            let len = header.write(&mut out);
            prop_assert_eq!(len, header.len());
            prop_assert_eq!(EthernetHeader::parse(&out[..len]), Ok(header));
        }
    }
}
