//! How far the two cores are from each other: what a cache line takes there and back.
//!
//! In a virtual machine that is not always the same: its host moves virtual processors, and two
//! that share a cache now may share none a minute later, after which everybody who moves frames
//! is some four times slower, and a loop on one core is not.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use super::statistics::median;
use super::two::{CORES, pin};

/// Trips of a batch, and batches of which the median is taken: some milliseconds.
const TRIPS: u64 = 2000;
const BATCHES: usize = 5;
/// Two distances are the same if neither is so many times the other.
const SAME: f64 = 1.5;

/// A line, and its neighbour, which comes with it.
#[repr(align(128))]
struct Line(AtomicU64);

/// Nanoseconds there and back, by two threads that are started for it.
pub fn round_trip_ns() -> Result<f64> {
    let line = Line(AtomicU64::new(0));
    let all = TRIPS * BATCHES as u64;
    std::thread::scope(|scope| {
        // Odd numbers are ours, even ones the answers. The line itself is all that is handed over.
        let answering = scope.spawn(|| {
            let pinned = pin(CORES[1]);
            for trip in 0..all {
                while line.0.load(Ordering::Relaxed) != 2 * trip + 1 {
                    spin_loop();
                }
                line.0.store(2 * trip + 2, Ordering::Relaxed);
            }
            pinned
        });
        // Pinned or not, the other side has to be answered.
        let pinned = pin(CORES[0]);
        let mut times = Vec::new();
        for batch in 0..BATCHES as u64 {
            let start = Instant::now();
            for trip in batch * TRIPS..(batch + 1) * TRIPS {
                line.0.store(2 * trip + 1, Ordering::Relaxed);
                while line.0.load(Ordering::Relaxed) != 2 * trip + 2 {
                    spin_loop();
                }
            }
            times.push(start.elapsed().as_nanos() as f64 / TRIPS as f64);
        }
        answering.join().map_err(|_| anyhow::anyhow!("a side has panicked"))??;
        pinned?;
        median(&times).context("no line came back")
    })
}

/// Whether two samples were taken at the same distance.
pub fn is_same(one: f64, other: f64) -> bool {
    one <= other * SAME && other <= one * SAME
}
