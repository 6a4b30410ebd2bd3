//! What time it is, without asking the kernel.
//!
//! The clock is looked at several times in each turn. In a PV guest without a stable TSC the vDSO
//! cannot read the precise clock and every look is a system call, which there means two switches
//! of address space; the coarse clock is in the vDSO's own page everywhere.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use xenvelope_grant::seam::Instant;

/// Looks that are timed to find out what one costs.
const LOOKS: u32 = 32;
/// What one may cost, in nanoseconds: a vDSO call takes some 30, a system call 100 at the least.
const CHEAP: u64 = 90;

/// The clock that is cheap to look at.
#[derive(Clone, Copy)]
pub(super) struct Clock(ClockId);

impl Clock {
    /// The precise clock if it is cheap; else the one that moves at the kernel's ticks (1 to 10
    /// ms).
    pub fn choose() -> Clock {
        let precise = Clock(ClockId::CLOCK_MONOTONIC);
        let begin = precise.now();
        for _ in 1..LOOKS {
            precise.now();
        }
        let cost = precise.now().0.saturating_sub(begin.0) / u64::from(LOOKS);
        tracing::debug!(cost, "nanoseconds for a look at the precise clock");
        if cost <= CHEAP { precise } else { Clock::coarse() }
    }

    /// The clock that moves at the kernel's ticks.
    pub fn coarse() -> Clock {
        Clock(ClockId::CLOCK_MONOTONIC_COARSE)
    }

    pub fn now(self) -> Instant {
        // Both clocks exist on every Linux, and do not fail.
        let time = clock_gettime(self.0).unwrap_or(TimeSpec::new(0, 0));
        Instant(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    }
}
