//! The frames that all send and read, here and in `programs/frame.h` alike.
//!
//! The sender writes each frame anew: the first 42 bytes, which is what Ethernet, IPv4 and UDP
//! headers take, or the whole of it. The receiver sums a word of each 64 bytes, so that every cache
//! line of the frame has come to its core, and looks whether the frames' numbers grow.

use std::hint::black_box;

use xenvelope_switch::MacAddress;

/// Bytes of the part that is always written.
pub const HEAD: usize = 42;
/// Where in it the frame's number lies.
const NUMBER_AT: usize = 34;
/// IEEE 802, local experimental EtherType 2: no stack takes it, and envelopes have the first.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb6];
/// Cache line.
const LINE: usize = 64;

/// The addresses of sender and receiver.
pub const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

/// Writes frames.
pub struct Writer {
    head: [u8; HEAD],
    number: u64,
    full: bool,
}

impl Writer {
    /// Frames from the first to the second of [`MACS`], all of whose bytes are written if `full`.
    pub fn new(full: bool) -> Writer {
        let mut head = [0; HEAD];
        head[..6].copy_from_slice(&MACS[1].0);
        head[6..12].copy_from_slice(&MACS[0].0);
        head[12..14].copy_from_slice(&ETHER_TYPE);
        Writer { head, number: 0, full }
    }

    /// The next frame.
    pub fn write(&mut self, frame: &mut [u8]) {
        self.number += 1;
        if self.full {
            frame.fill(self.number as u8);
        }
        frame[..HEAD].copy_from_slice(&self.head);
        frame[NUMBER_AT..HEAD].copy_from_slice(&self.number.to_le_bytes());
    }
}

/// Reads frames.
pub struct Reader {
    length: usize,
    last: u64,
    sum: u64,
    /// Frames so far.
    pub frames: u64,
    /// Of them those of a wrong length, or out of order.
    pub wrong: u64,
}

impl Reader {
    /// Of frames of `length` bytes.
    pub fn new(length: usize) -> Reader {
        Reader { length, last: 0, sum: 0, frames: 0, wrong: 0 }
    }

    /// Reads one.
    pub fn read(&mut self, frame: &[u8]) {
        self.frames += 1;
        if frame.len() != self.length {
            self.wrong += 1;
            return;
        }
        let mut sum = self.sum;
        for line in frame.chunks(LINE) {
            let word = line.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            sum = sum.wrapping_add(word);
        }
        self.sum = black_box(sum);
        let number = frame[NUMBER_AT..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        if number <= self.last {
            self.wrong += 1;
        }
        self.last = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_come_twice_or_cut_short_are_wrong() {
        let (mut writer, mut reader) = (Writer::new(true), Reader::new(100));
        let mut frames = [[0; 100]; 3];
        for frame in &mut frames {
            writer.write(frame);
        }
        assert_eq!((frames[2][34], frames[2][99]), (3, 3));
        for frame in [&frames[0][..], &frames[2][..], &frames[1][..], &frames[2][..99]] {
            reader.read(frame);
        }
        assert_eq!((reader.frames, reader.wrong), (4, 2));
    }
}
