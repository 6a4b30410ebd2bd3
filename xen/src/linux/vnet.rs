//! `struct virtio_net_hdr` (VirtIO 1.3, 5.1.6; `include/uapi/linux/virtio_net.h`), which TAPs and
//! packet sockets put in front of a frame.

use xenvelope_grant::seam::Offload;

/// Its length without `num_buffers`.
pub(super) const HEADER: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`.
const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_ECN`, a bit beside the kind.
const ECN: u8 = 0x80;
/// The longest header that a segmentation begins with: Ethernet with a tag, IPv6, TCP with options.
const LONGEST: usize = 18 + 40 + 60;

/// What the kernel says of a frame.
pub(super) fn parse(header: &[u8; HEADER]) -> Offload {
    let [flags, kind, _, _, gso_0, gso_1, start_0, start_1, offset_0, offset_1] = *header;
    let gso_type = kind & !ECN;
    Offload {
        needs_checksum: flags & NEEDS_CHECKSUM != 0,
        checksum_valid: flags & DATA_VALID != 0,
        gso_type,
        gso_size: if gso_type == 0 { 0 } else { u16::from_ne_bytes([gso_0, gso_1]) },
        checksum_start: u16::from_ne_bytes([start_0, start_1]),
        checksum_offset: u16::from_ne_bytes([offset_0, offset_1]),
    }
}

/// What the kernel is to be told of a frame that begins with `beginning`.
pub(super) fn build(offload: &Offload, beginning: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    if offload.needs_checksum {
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&offload.checksum_start.to_ne_bytes());
        header[8..10].copy_from_slice(&offload.checksum_offset.to_ne_bytes());
    } else if offload.checksum_valid {
        header[0] = DATA_VALID;
    }
    if offload.gso_size > 0 {
        // Where the payload begins: the TCP header says how long it is itself.
        let tcp = usize::from(offload.checksum_start);
        let words = beginning.get(tcp + 12).map_or(5, |byte| usize::from(byte >> 4).max(5));
        let payload_at = (tcp + 4 * words).min(LONGEST).min(beginning.len()) as u16;
        header[1] = offload.gso_type;
        header[2..4].copy_from_slice(&payload_at.to_ne_bytes());
        header[4..6].copy_from_slice(&offload.gso_size.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_said_can_be_said_to_it_again() {
        let offload = Offload {
            needs_checksum: true,
            gso_type: 1,
            gso_size: 1448,
            checksum_start: 34,
            checksum_offset: 16,
            ..Offload::default()
        };
        let mut frame = [0; 100];
        frame[34 + 12] = 8 << 4;
        let header = build(&offload, &frame);
        assert_eq!(u16::from_ne_bytes([header[2], header[3]]), 34 + 32);
        assert_eq!(parse(&header), offload);
        let valid = Offload { checksum_valid: true, ..Offload::default() };
        assert_eq!(parse(&build(&valid, &frame)), valid);
    }

    #[test]
    fn ecn_is_not_a_kind_of_its_own_and_a_kind_without_cutting_has_no_size() {
        let header = [0, 1 | ECN, 0, 0, 100, 0, 0, 0, 0, 0];
        assert_eq!((parse(&header).gso_type, parse(&header).gso_size), (1, 100));
        assert_eq!(parse(&[0, 0, 0, 0, 100, 0, 0, 0, 0, 0]).gso_size, 0);
    }

    #[test]
    fn a_frame_that_ends_before_its_headers_is_said_to() {
        let offload =
            Offload { gso_size: 1, gso_type: 1, checksum_start: u16::MAX, ..Offload::default() };
        assert_eq!(build(&offload, &[0; 20])[2..4], 20u16.to_ne_bytes());
    }
}
