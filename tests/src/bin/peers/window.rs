//! The time in which frames are counted: the same for both sides, by the system's monotonic clock,
//! and how much of it a thread could run.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// From when to when, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Frames count from here on.
    pub begin: u64,
    /// And no longer than to here.
    pub end: u64,
}

/// From the start of both sides to the first frame that counts: pools are warm, links are up.
pub const WARM_UP: Duration = Duration::from_millis(150);
/// How long a sender goes on after the end, so that the receiver has to the end what to do.
pub const RUN_OUT: Duration = Duration::from_millis(20);

/// The monotonic clock, in nanoseconds.
pub fn now() -> u64 {
    // It exists on every Linux.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

impl Window {
    /// Of that length, after the warm-up.
    pub fn soon(length: Duration) -> Window {
        let begin = now() + WARM_UP.as_nanos() as u64;
        Window { begin, end: begin + length.as_nanos() as u64 }
    }

    /// As a sender sees it.
    pub fn for_sender(self) -> Window {
        Window { end: self.end + RUN_OUT.as_nanos() as u64, ..self }
    }
}

/// What one side did in a window.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Frames.
    pub frames: u64,
    /// Frames of a wrong length or out of order, in all the time.
    #[serde(default)]
    pub wrong: u64,
    /// The window as it really was, in nanoseconds.
    pub elapsed_ns: u64,
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Time in which it could have run, and another had its core, in nanoseconds.
    pub waited_ns: u64,
    /// Calls into the hypervisor, where they are counted.
    #[serde(default)]
    pub hypercalls: u64,
    /// Events sent, where they are counted.
    #[serde(default)]
    pub events: u64,
}

impl Part {
    /// The part of the window in which it ran or had nothing to do, 0 to 1.
    pub fn share(&self) -> f64 {
        1.0 - self.waited_ns as f64 / self.elapsed_ns.max(1) as f64
    }
}

/// Processor time of the calling thread, and its time in the queue for a core, in nanoseconds.
fn scheduled() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the system counts what [`Part::share`] needs.
pub fn check() -> Result<()> {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .context("this kernel does not say how long a thread waits for its core (schedstat)")?;
    Ok(())
}

/// Follows a window in a loop.
pub struct Meter {
    window: Window,
    began: Option<(u64, u64, (u64, u64))>,
}

impl Meter {
    /// Of that window.
    pub fn new(window: Window) -> Meter {
        Meter { window, began: None }
    }

    /// To be called in each turn, with the time and the frames so far. The part, once it is over.
    pub fn tick(&mut self, now: u64, frames: u64) -> Option<Part> {
        if now < self.window.begin {
            return None;
        }
        let Some((at, before, (cpu, waited))) = self.began else {
            self.began = Some((now, frames, scheduled()));
            return None;
        };
        if now < self.window.end {
            return None;
        }
        let after = scheduled();
        Some(Part {
            frames: frames - before,
            elapsed_ns: now - at,
            cpu_ns: after.0 - cpu,
            waited_ns: after.1 - waited,
            ..Part::default()
        })
    }

    /// Whether the window has begun.
    pub fn has_begun(&self) -> bool {
        self.began.is_some()
    }
}
