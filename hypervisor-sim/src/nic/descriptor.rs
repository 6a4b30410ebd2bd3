//! Descriptors: the 16 bytes in which driver and card speak of a buffer.
//!
//! | bytes | transmit | transmit context | receive | receive, written back |
//! |---|---|---|---|---|
//! | 0..2 | address | checksum start | address | length |
//! | 2..4 | | checksum offset | | |
//! | 4..6 | | segment size | | checksum start |
//! | 6..8 | | GSO type, 0 | | checksum offset |
//! | 8..12 | length | 0 | length | segment size, GSO type, 0 |
//! | 12..14 | flags | flags | flags | flags |
//! | 14..16 | 0 | 0 | 0 | 0 |
//!
//! All numbers are little-endian. A transmit descriptor is written back with nothing but
//! [`DONE`]. A context descriptor goes before the data descriptors of its frame and is not
//! written back, as on Intel's 82576 (datasheet, 7.2.2.2).

use xenvelope_grant::seam::Offload;

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_BYTES: usize = 16;
/// Most bytes that one transmit descriptor carries.
pub(super) const MAX_PIECE: usize = 16 << 10;
/// Most descriptors of one frame: a context and the pieces of 64 KiB and some.
pub(super) const MAX_DESCRIPTORS: usize = 8;

/// The card is done with the descriptor.
pub(super) const DONE: u16 = 1 << 0;
/// The last piece of its frame.
pub(super) const END: u16 = 1 << 1;
/// A context descriptor.
pub(super) const CONTEXT: u16 = 1 << 2;
/// The card is to fill in the transport checksum.
pub(super) const FILL_CHECKSUM: u16 = 1 << 3;
/// The card filled in or checked the transport checksum.
pub(super) const CHECKSUM_VALID: u16 = 1 << 4;
/// The buffer was used up, but holds no frame.
pub(super) const ERROR: u16 = 1 << 5;

/// One descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Descriptor(pub(super) [u8; DESCRIPTOR_BYTES]);

impl Descriptor {
    /// A piece of a frame to send, or a buffer for one to come.
    pub(super) fn data(address: u64, length: u32, flags: u16) -> Descriptor {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[0..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        Descriptor(bytes)
    }

    /// What the card is to do with the frame in the descriptors after it.
    pub(super) fn context(offload: &Offload) -> Descriptor {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[0..2].copy_from_slice(&offload.checksum_start.to_le_bytes());
        bytes[2..4].copy_from_slice(&offload.checksum_offset.to_le_bytes());
        bytes[4..6].copy_from_slice(&offload.gso_size.to_le_bytes());
        bytes[6] = offload.gso_type;
        let fill = if offload.needs_checksum { FILL_CHECKSUM } else { 0 };
        bytes[12..14].copy_from_slice(&(CONTEXT | fill).to_le_bytes());
        Descriptor(bytes)
    }

    /// A transmit descriptor, written back.
    pub(super) fn sent() -> Descriptor {
        Descriptor::data(0, 0, DONE)
    }

    /// A receive descriptor, written back with a frame of `length` bytes.
    pub(super) fn received(length: u32, offload: &Offload) -> Descriptor {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..6].copy_from_slice(&offload.checksum_start.to_le_bytes());
        bytes[6..8].copy_from_slice(&offload.checksum_offset.to_le_bytes());
        bytes[8..10].copy_from_slice(&offload.gso_size.to_le_bytes());
        bytes[10] = offload.gso_type;
        let valid = if offload.checksum_valid { CHECKSUM_VALID } else { 0 };
        bytes[12..14].copy_from_slice(&(DONE | valid).to_le_bytes());
        Descriptor(bytes)
    }

    /// A receive descriptor, written back without a frame.
    pub(super) fn failed() -> Descriptor {
        Descriptor::data(0, 0, DONE | ERROR)
    }

    /// The flags.
    pub(super) fn flags(&self) -> u16 {
        self.u16_at(12)
    }

    /// The address of a data descriptor.
    pub(super) fn address(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[0..8]);
        u64::from_le_bytes(bytes)
    }

    /// The length of a data descriptor, in bytes.
    pub(super) fn length(&self) -> usize {
        self.u32_at(8) as usize
    }

    /// What a context descriptor asks for.
    pub(super) fn requested(&self) -> Offload {
        Offload {
            needs_checksum: self.flags() & FILL_CHECKSUM != 0,
            checksum_valid: false,
            gso_type: self.0[6],
            gso_size: self.u16_at(4),
            checksum_start: self.u16_at(0),
            checksum_offset: self.u16_at(2),
        }
    }

    /// The frame's length in bytes and its state, from a receive descriptor that was written
    /// back.
    pub(super) fn arrived(&self) -> (usize, Offload) {
        let offload = Offload {
            needs_checksum: false,
            checksum_valid: self.flags() & CHECKSUM_VALID != 0,
            gso_type: self.0[10],
            gso_size: self.u16_at(8),
            checksum_start: self.u16_at(4),
            checksum_offset: self.u16_at(6),
        };
        (self.u32_at(0) as usize, offload)
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let offload = Offload {
            needs_checksum: true,
            checksum_valid: false,
            gso_type: 1,
            gso_size: 1448,
            checksum_start: 34,
            checksum_offset: 16,
        };
        assert_eq!(Descriptor::context(&offload).requested(), offload);
        let data = Descriptor::data(0x1234_5678_9ABC, 16384, END);
        assert_eq!((data.address(), data.length()), (0x1234_5678_9ABC, 16384));
        assert_eq!(data.flags(), END);
        let filled = Offload { needs_checksum: false, checksum_valid: true, ..offload };
        assert_eq!(Descriptor::received(65553, &filled).arrived(), (65553, filled));
        assert_eq!(Descriptor::failed().flags(), DONE | ERROR);
    }
}
