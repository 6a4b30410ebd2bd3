//! The payload: pseudo-random bytes that both ends can make from a seed.

use sha2::{Digest, Sha256};

/// A stream of bytes (SplitMix64).
pub struct Stream(u64);

impl Stream {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Fills `out`; its length is a multiple of 8 but for the last piece of a stream.
    pub fn fill(&mut self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            piece.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..piece.len()]);
        }
    }
}

/// SHA-256, or nothing where nobody asked for it.
pub struct Sum(Option<Sha256>);

impl Sum {
    pub fn new(unchecked: bool) -> Self {
        Self((!unchecked).then(Sha256::new))
    }

    pub fn add(&mut self, bytes: &[u8]) {
        if let Some(sum) = &mut self.0 {
            sum.update(bytes);
        }
    }

    /// All zeroes if unchecked.
    pub fn finish(self) -> [u8; 32] {
        self.0.map_or([0; 32], |sum| sum.finalize().into())
    }
}

/// `sum` in hexadecimal digits.
pub fn hex(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}
