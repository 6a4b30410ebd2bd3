//! `xenvelope-sim plot`: the paper's comparison, measured and drawn.
//!
//! [`Plan::measure`] runs everything and gives [`Measured`]; [`figures`] makes of it [`Figure`]s,
//! which hold every number that is drawn; [`draw`] makes an SVG document of one; and [`Output`]
//! writes documents, data, and the page that has all of them.

mod chart;
mod collect;
mod figures;
mod model;
mod output;
mod page;
mod run;

pub use chart::draw;
pub use collect::{BusPoint, Measured, Plan};
pub use figures::{MechanismRow, figures, last_crossing, mechanisms};
pub use model::{Axis, Figure, Kind, Look, Mark, Panel, Point, Scale, Series};
pub use output::{Output, OutputError, csv};
pub use page::page;
pub use run::{Machine, Run, command_line};
