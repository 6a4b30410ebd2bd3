//! Processor time by domain and route.

use super::per_gb;
use crate::measure::{CellResult, RouteName};
use crate::plot::{Axis, Figure, Kind, Look, Panel, Point, Scale, Series};

/// A part of a bar: its name, what it looks like, and seconds of a transfer.
type Part = (&'static str, Look, fn(&CellResult) -> f64);

const ALL: &str = "all domains, least to most";

/// Who pays.
const PARTS: [Part; 5] = [
    ("sender", Look::Blue, |cell| guest(cell, &cell.cell.from)),
    ("driver domain", Look::Orange, |cell| cell.cpu.driver_domain.as_secs_f64()),
    ("receiver", Look::Green, |cell| guest(cell, &cell.cell.to)),
    ("not the host's: card, peer outside", Look::Grey, |cell| {
        (cell.cpu.card + cell.cpu.external).as_secs_f64()
    }),
    (ALL, Look::Ink, |cell| cell.cpu.domains().as_secs_f64()),
];

fn guest(cell: &CellResult, name: &str) -> f64 {
    cell.cpu.guests.get(name).map_or(0.0, std::time::Duration::as_secs_f64)
}

/// Processor seconds for a gigabyte, by domain: at the MTU and at the largest frame.
pub(super) fn by_domain(cells: &[CellResult]) -> Option<Figure> {
    let largest = cells.iter().map(|cell| cell.frame_bytes).max()?;
    let mut sizes = vec![1500, largest];
    sizes.retain(|size| cells.iter().any(|cell| cell.frame_bytes == *size));
    sizes.dedup();
    let panels: Vec<Panel> = sizes.iter().map(|size| panel(cells, *size)).collect();
    let last = panels.last()?;
    let Kind::StackedBars(names) = &last.kind else { return None };
    let of = |route: RouteName, part: &str| {
        let bar = names.iter().position(|name| name == route.name())? as f64;
        let series = last.series.iter().find(|series| series.name == part)?;
        series.points.iter().find(|point| point.x == bar).map(|point| point.median)
    };
    let (bridge, switch) = (RouteName::BridgeCopy, RouteName::SwitchEnvelope);
    let finding = match (of(bridge, "driver domain"), of(switch, "driver domain")) {
        (Some(bridge), Some(switch)) => format!(
            "at {largest} bytes a frame, the driver domain uses {bridge:.2} s/GB to bridge and \
             {switch:.2} s/GB to switch envelopes"
        ),
        _ => "nothing to compare".to_owned(),
    };
    Some(Figure {
        id: "cpu-by-domain",
        title: "Processor time per gigabyte, by domain and route".to_owned(),
        caption: "CPU time of each domain's thread, in seconds for 10^9 bytes of payload. Guests \
                  include their stack (smoltcp) and the receiver's SHA-256, the same on every route; \
                  hypercalls and events are spent where they are made. Grey is not the host's: the \
                  thread that plays the card, which moves bytes where hardware would, and the peer \
                  outside."
            .to_owned(),
        finding,
        command: "xenvelope-sim plot (figures are not in the table of routes)".to_owned(),
        columns: 2,
        panels,
    })
}

fn panel(cells: &[CellResult], size: usize) -> Panel {
    let routes: Vec<RouteName> = RouteName::ALL
        .into_iter()
        .filter(|route| {
            cells.iter().any(|cell| cell.cell.route == *route && cell.frame_bytes == size)
        })
        .collect();
    let point = |bar: usize, route: RouteName, seconds: fn(&CellResult) -> f64| {
        let rounds: Vec<f64> = cells
            .iter()
            .filter(|cell| cell.cell.route == route && cell.frame_bytes == size)
            .map(|cell| per_gb(cell, seconds(cell)))
            .collect();
        Point::of_rounds(bar as f64, &rounds)
    };
    let series = PARTS
        .into_iter()
        .map(|(name, look, seconds)| Series {
            name: name.to_owned(),
            look,
            points: routes
                .iter()
                .enumerate()
                .filter_map(|(bar, route)| point(bar, *route, seconds))
                .collect(),
        })
        .collect();
    Panel {
        title: format!("{size} bytes a frame"),
        x: Axis::new("CPU (s/GB)", Scale::Linear),
        y: Axis::new("", Scale::Linear),
        kind: Kind::StackedBars(routes.iter().map(|route| route.name().to_owned()).collect()),
        series,
        marks: Vec::new(),
    }
}
