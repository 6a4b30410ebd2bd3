//! Frames that came whole inside an envelope, until the stack has read them.
//!
//! They are small, and most of what there is. One after the other in one piece of memory they are
//! in as few cache lines as they have bytes for, and none needs a buffer of its own.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes of memory: some thousand of the smallest frames. When it is full, frames come into buffers
/// of their own.
const SIZE: usize = 64 * 1024;
/// On such a boundary begins what follows the Ethernet header.
const ALIGN: usize = 16;

/// The memory.
pub(crate) struct SmallFrames {
    bytes: Vec<u8>,
    /// Where the next one goes.
    end: usize,
    /// Frames in it that have not been read.
    unread: usize,
}

impl Default for SmallFrames {
    fn default() -> Self {
        SmallFrames { bytes: vec![0; SIZE], end: 0, unread: 0 }
    }
}

impl SmallFrames {
    /// Puts a frame in. Where it is, if there was room.
    #[inline]
    pub(super) fn put(&mut self, header: &[u8], payload: &[u8]) -> Option<Range<usize>> {
        let payload_at = (self.end + header.len()).next_multiple_of(ALIGN);
        let frame = payload_at - header.len()..payload_at + payload.len();
        let (before, after) = self.bytes.get_mut(frame.clone())?.split_at_mut(header.len());
        before.copy_from_slice(header);
        after.copy_from_slice(payload);
        self.end = frame.end;
        self.unread += 1;
        Some(frame)
    }

    /// The bytes of a frame that [`SmallFrames::put`] has put in, and that was not released.
    pub(crate) fn bytes(&self, frame: Range<usize>) -> &[u8] {
        self.bytes.get(frame).unwrap_or_default()
    }

    /// One of them has been read, or will not be.
    pub(crate) fn release(&mut self) {
        self.unread = self.unread.saturating_sub(1);
        if self.unread == 0 {
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an untagged frame, and of a tagged one.
    fn header(number: u8) -> Vec<u8> {
        vec![number; if number.is_multiple_of(3) { 18 } else { 14 }]
    }

    #[test]
    fn frames_stay_as_they_came_until_they_are_read() {
        let mut frames = SmallFrames::default();
        let kept: Vec<_> = (0..100)
            .map(|number| {
                let payload = vec![number ^ 0xff; 1 + usize::from(number)];
                (frames.put(&header(number), &payload).expect("room"), payload)
            })
            .collect();
        for (number, (frame, payload)) in (0..).zip(kept) {
            let (before, after) = frames.bytes(frame).split_at(header(number).len());
            assert_eq!((before, after), (&header(number)[..], &payload[..]));
            assert_eq!(after.as_ptr().addr() % 4, 0, "as stacks want it");
        }
    }

    #[test]
    fn it_is_full_until_all_have_been_read() {
        let mut frames = SmallFrames::default();
        let mut count = 0;
        while frames.put(&header(1), &[1; 100]).is_some() {
            count += 1;
        }
        assert!(count > 500, "{count}");
        for _ in 1..count {
            frames.release();
            assert!(frames.put(&header(1), &[1; 100]).is_none(), "others are unread");
        }
        frames.release();
        assert!(frames.put(&header(1), &[1; 100]).is_some());
    }
}
