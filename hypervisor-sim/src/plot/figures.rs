//! From what was measured to what is drawn.

mod mechanisms;
mod processors;
mod routes;
mod sweep;
mod timeline;

pub use mechanisms::{MechanismRow, mechanisms};
pub use routes::last_crossing;

use super::model::{Figure, Look};
use super::{Measured, Point, Series};
use crate::measure::{CellResult, RouteName};

/// All figures for which there is something to draw.
pub fn figures(measured: &Measured) -> Vec<Figure> {
    [
        routes::goodput_by_frame(&measured.cells),
        routes::bus_by_frame(&measured.cells),
        routes::goodput_by_bus(&measured.buses),
        sweep::guests(&measured.sweep),
        measured.timeline.as_ref().map(timeline::over_time),
        processors::by_domain(&measured.cells),
        mechanisms(&measured.mechanisms),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a route looks like, in every figure.
fn look(route: RouteName) -> Look {
    match route {
        RouteName::BridgeCopy | RouteName::BridgeReceiverCopy => Look::Ink,
        RouteName::SwitchEnvelope => Look::Blue,
        RouteName::DirectEnvelope => Look::Green,
        RouteName::NicFrame => Look::Orange,
        RouteName::NicEnvelope => Look::Vermillion,
        RouteName::Stock => Look::Purple,
        RouteName::External | RouteName::NicQueue => Look::Sky,
    }
}

/// A series of a value against another, both taken from what was measured: what has the same `x`
/// was measured in several rounds. Nothing of none.
fn series<T>(
    name: &str,
    look: Look,
    of: &[T],
    x: impl Fn(&T) -> f64,
    value: impl Fn(&T) -> f64,
) -> Option<Series> {
    let mut places: Vec<f64> = of.iter().map(&x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let at = |place: f64| {
        let rounds: Vec<f64> = of.iter().filter(|one| x(one) == place).map(&value).collect();
        Point::of_rounds(place, &rounds)
    };
    let points: Vec<Point> = places.into_iter().filter_map(at).collect();
    (!points.is_empty()).then(|| Series { name: name.to_owned(), look, points })
}

/// A series of each route that was measured, in the order of the table.
fn by_route(
    cells: &[CellResult],
    routes: &[RouteName],
    value: impl Fn(&CellResult) -> f64,
) -> Vec<Series> {
    routes
        .iter()
        .filter_map(|route| {
            let of: Vec<&CellResult> =
                cells.iter().filter(|cell| cell.cell.route == *route).collect();
            series(
                route.name(),
                look(*route),
                &of,
                |cell| cell.frame_bytes as f64,
                |cell| value(cell),
            )
        })
        .collect()
}

/// Processor seconds of all domains for a gigabyte (10^9 bytes) of payload.
fn cpu_s_per_gb(cell: &CellResult) -> f64 {
    per_gb(cell, cell.cpu.domains().as_secs_f64())
}

fn per_gb(cell: &CellResult, amount: f64) -> f64 {
    amount * 1e9 / cell.payload_bytes.max(1) as f64
}
