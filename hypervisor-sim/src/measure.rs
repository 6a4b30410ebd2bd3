//! Measuring a host: transfers over each route, counted and timed; and one transfer whose route
//! changes under way.

mod cell;
mod flip;
mod mixed;
mod route;
mod sample;
mod sweep;
mod timeline;
mod under;

pub use cell::{Bench, Cell, CellResult, FrameSize, Limits, MeasureError};
pub use flip::{FlipPhase, FlipResult, flip};
pub use mixed::{Mixed, MixedPlan, Pair, PairResult, PlanError, mixed};
pub use route::{RouteName, UnknownRoute, plan};
pub use sample::{DomainShare, ENGINE, Sample};
pub use sweep::{Sweep, SweepRound, SweepRow, Topology, sweep_point};
pub use timeline::{Tick, Timeline, Turn, timeline};
pub use under::{NotUnder, exists_under};

/// The median of values in order: the middle one, or the mean of the two in the middle; 0 of none.
pub fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}
