//! Bytes as decisions.

use xenvelope_grant::Words;

/// Most acts of a peer in one run.
const ACTS: usize = 48;

/// What is left of the bytes. When nothing is left, everything is 0.
pub struct Input<'a> {
    bytes: &'a [u8],
    acts: usize,
}

impl<'a> Input<'a> {
    /// All bytes.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, acts: 0 }
    }

    /// The next act, of so many kinds; `None` when nothing is left.
    pub fn act(&mut self, kinds: u8) -> Option<u8> {
        self.acts += 1;
        (!self.bytes.is_empty() && self.acts <= ACTS).then(|| self.byte() % kinds)
    }

    /// A number.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) | u32::from(self.short()) << 16
    }

    /// So many bytes, or what is left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// A string with its length in front.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte());
        self.take(count)
    }

    /// Writes some words anywhere into shared memory, most often where indices are.
    pub fn scribble(&mut self, words: &impl Words) {
        let at = self.short();
        // Every other time into the header.
        let end = if at & 0x8000 == 0 { 160 } else { words.size() };
        let count = usize::from(self.byte() % 8) + 1;
        let first = usize::from(at & 0x7FFF) * 4;
        for index in 0..count {
            let at = (first + index * 4) % end.min(words.size());
            words.copy_in(at, &self.word().to_le_bytes());
        }
    }
}
