//! Randomness that can be had again.

/// The seed of this run: `XENVELOPE_SEED`, or something new. It is printed, so that a run that
/// failed can be repeated.
///
/// # Panics
/// If `XENVELOPE_SEED` is no number.
pub fn seed(test: &str) -> u64 {
    let seed = match std::env::var("XENVELOPE_SEED") {
        Ok(text) => text.parse().expect("XENVELOPE_SEED is a number"),
        Err(_) => {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(1, |since| since.as_nanos() as u64)
        }
    };
    println!("{test}: XENVELOPE_SEED={seed}");
    seed
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
