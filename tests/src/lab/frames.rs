//! Frames of the tests.

use xenvelope_switch::{EthernetHeader, MacAddress};

/// The EtherType of the tests' frames: IEEE 802's local experimental EtherType 2.
pub const TEST_TYPE: u16 = 0x88B6;

/// An untagged frame.
pub fn frame(destination: MacAddress, source: MacAddress, payload: &[u8]) -> Vec<u8> {
    frame_tagged(destination, source, None, payload)
}

/// A frame, with a tag if there is one.
pub fn frame_tagged(
    destination: MacAddress,
    source: MacAddress,
    tci: Option<u16>,
    payload: &[u8],
) -> Vec<u8> {
    let header = EthernetHeader { destination, source, tci, ether_type: TEST_TYPE };
    let mut bytes = vec![0; header.len()];
    header.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// A frame of TCP over IPv4, of `length` bytes, with a blank checksum.
pub fn tcp_frame(destination: MacAddress, source: MacAddress, length: usize) -> Vec<u8> {
    let mut bytes = [&destination.0[..], &source.0, &[8, 0]].concat();
    bytes.resize(length, 7);
    bytes[14..54].fill(0);
    (bytes[14], bytes[23], bytes[46]) = (0x45, 6, 0x50);
    bytes[16..18].copy_from_slice(&(length as u16 - 14).to_be_bytes());
    bytes
}

/// What follows the header of an untagged frame.
pub fn payload(frame: &[u8]) -> &[u8] {
    frame.get(14..).unwrap_or(&[])
}

/// A payload of at least 46 bytes that begins with a number.
pub fn numbered(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; length.max(46)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The numbers of the frames from `source`, in order of arrival.
///
/// # Panics
/// If a frame does not hold what [`numbered`] put there.
pub fn numbers_from(source: MacAddress, frames: &[Vec<u8>]) -> Vec<u64> {
    let from = frames.iter().filter(|frame| frame.get(6..12) == Some(&source.0[..]));
    from.map(|frame| {
        let payload = payload(frame);
        let number = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
        assert!(payload[8..].iter().all(|byte| *byte == number as u8), "the payload is whole");
        number
    })
    .collect()
}
