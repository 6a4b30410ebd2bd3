//! Frames that came whole inside an envelope, made frames again where they lie.

use core::ops::Range;

use super::layout::{DONE_LEN, HEAD_LEN, RECORD_LEN};
use super::record::Plain;
use super::{Deliver, MAX_ENVELOPE};
use crate::ethernet::{EthernetHeader, TAGGED_LEN, UNTAGGED_LEN};

/// The frames of a validated envelope all of whose bytes came inside it, and of whose checksums
/// there is nothing to say, one after the other.
///
/// A frame's Ethernet header is that of the envelope but for the type, and takes the place of what
/// is in front of its payload: the record, which has been read by then, and the end of the frame
/// before it, which must have been, too.
#[derive(Clone, Debug)]
pub struct InPlace {
    /// Where the next record is.
    next: usize,
    left: u8,
    tagged: bool,
    ethernet: [u8; TAGGED_LEN],
}

impl InPlace {
    /// Those of an envelope with that header, if they are all of this kind.
    #[inline]
    pub fn of(header: &EthernetHeader, deliver: &Deliver<'_>) -> Option<InPlace> {
        let left = deliver.frames.all_plain()?;
        let mut ethernet = [0; TAGGED_LEN];
        let length = header.write(&mut ethernet);
        let done = if deliver.done.is_some() { DONE_LEN } else { 0 };
        let tagged = header.tci.is_some();
        Some(InPlace { next: length + HEAD_LEN + done, left, tagged, ethernet })
    }

    /// Makes the next frame whole in `envelope`, the private copy that was validated. Where it is,
    /// Ethernet header included. The frames before it are no longer there.
    #[inline]
    pub fn next(&mut self, envelope: &mut [u8; MAX_ENVELOPE]) -> Option<Range<usize>> {
        self.left = self.left.checked_sub(1)?;
        let record = envelope.get(self.next..)?.first_chunk::<RECORD_LEN>()?;
        let (ether_type, length) = Plain::type_and_length(*record);
        let payload = self.next + RECORD_LEN;
        self.next = payload + length;
        let ether_type = ether_type.to_be_bytes();
        let start = if self.tagged {
            let header: &mut [u8; TAGGED_LEN] = &mut self.ethernet;
            header[TAGGED_LEN - 2..].copy_from_slice(&ether_type);
            let start = payload.checked_sub(TAGGED_LEN)?;
            *envelope.get_mut(start..)?.first_chunk_mut()? = *header;
            start
        } else {
            let header: &mut [u8; UNTAGGED_LEN] = self.ethernet.first_chunk_mut()?;
            header[UNTAGGED_LEN - 2..].copy_from_slice(&ether_type);
            let start = payload.checked_sub(UNTAGGED_LEN)?;
            *envelope.get_mut(start..)?.first_chunk_mut()? = *header;
            start
        };
        Some(start..self.next)
    }

    /// How many are left.
    #[inline]
    pub fn left(&self) -> usize {
        usize::from(self.left)
    }
}
