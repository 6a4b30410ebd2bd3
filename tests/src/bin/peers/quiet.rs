//! Waiting until nobody else computes.

use std::time::{Duration, Instant};

/// Cores that others may keep busy while something is measured.
pub const QUIET: f64 = 0.15;
/// Over how long one look goes.
const LOOK: Duration = Duration::from_millis(100);

/// Busy and all time of all cores so far, in ticks.
fn ticks() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let numbers: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|number| number.parse().ok()).collect();
    let all: u64 = numbers.iter().sum();
    // Idle, and waiting for a disk.
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// Cores that are busy, over a short time in which this process sleeps.
fn busy_cores(look: Duration) -> f64 {
    let before = ticks();
    std::thread::sleep(look);
    let after = ticks();
    let all = (after.1 - before.1).max(1) as f64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores as f64 * (after.0 - before.0) as f64 / all
}

/// Waits until it is quiet, but no longer than `patience`. How many cores are busy.
pub fn wait(patience: Duration, stopped: &dyn Fn() -> bool) -> f64 {
    let end = Instant::now() + patience;
    // Who does not wait does not look for long either.
    let look = if patience.is_zero() { LOOK / 5 } else { LOOK };
    loop {
        let busy = busy_cores(look);
        if busy < QUIET || Instant::now() >= end || stopped() {
            return busy;
        }
        std::thread::sleep(2 * LOOK);
    }
}
