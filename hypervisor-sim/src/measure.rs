//! Measuring a host: transfers over each route, counted and timed; and one transfer whose route
//! changes under way.

mod cell;
mod flip;
mod route;
mod sample;
mod under;

pub use cell::{Bench, Cell, CellResult, FrameSize, Limits, MeasureError};
pub use flip::{FlipPhase, FlipResult, flip};
pub use route::{RouteName, UnknownRoute, plan};
pub use sample::Sample;
pub use under::{NotUnder, exists_under};
