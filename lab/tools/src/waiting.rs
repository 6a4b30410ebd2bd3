//! Waiting for a file. A loop in a shell with `sleep` starts a process each time, which under
//! emulation takes tens of milliseconds of a processor: it would show in what is measured.

use std::fs::metadata;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::Verdict;

/// Pauses between two looks: short at first, then longer, so that a quick answer is had quickly
/// and a long wait costs nothing.
pub struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(50);
    const LAST: Duration = Duration::from_millis(500);

    /// The first is the shortest.
    pub const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The next one, grown by a quarter.
    pub fn rest(&mut self) {
        sleep(self.0);
        self.0 = (self.0 * 5 / 4).min(Self::LAST);
    }
}

#[derive(Args)]
pub struct Options {
    /// Any of these.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only one that is not empty.
    #[arg(long)]
    filled: bool,
    /// Seconds; without, for ever.
    #[arg(long)]
    limit: Option<u64>,
}

/// Waits; exit status 1 if time is up.
pub fn await_file(options: &Options) -> Result<Verdict> {
    let began = Instant::now();
    let limit = options.limit.map(Duration::from_secs);
    let mut pause = Pause::new();
    loop {
        let there =
            |file: &PathBuf| metadata(file).is_ok_and(|found| !options.filled || found.len() > 0);
        if options.files.iter().any(there) {
            return Ok(Verdict::Good);
        }
        if limit.is_some_and(|limit| began.elapsed() > limit) {
            return Ok(Verdict::Bad);
        }
        pause.rest();
    }
}
