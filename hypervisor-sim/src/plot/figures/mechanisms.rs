//! Grant mechanisms side by side.

use serde::Serialize;
use xenvelope_grant::seam::Mechanism;

use crate::measure::{CellResult, RouteName};
use crate::plot::{Axis, Figure, Kind, Look, Panel, Point, Scale, Series};

/// What one grant mechanism came to on one route.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MechanismRow {
    /// Its name: `destination`, `transitive`, `keyed`.
    pub mechanism: String,
    /// The route.
    pub route: String,
    /// Processor time of all domains for a packet, in nanoseconds, by round.
    pub cpu_ns: Vec<f64>,
    /// Calls into the hypervisor for a packet, by everybody, by round.
    pub hypercalls: Vec<f64>,
    /// Events for a packet, by everybody, by round.
    pub events: Vec<f64>,
    /// Whether every pass of the payload had the right SHA-256.
    pub sha256_ok: bool,
}

impl MechanismRow {
    /// The row of a mechanism's rounds on one route.
    pub fn of(mechanism: Mechanism, route: RouteName, rounds: &[CellResult]) -> MechanismRow {
        let each = |value: fn(&CellResult) -> f64| rounds.iter().map(value).collect();
        MechanismRow {
            mechanism: mechanism.name().to_owned(),
            route: route.name().to_owned(),
            cpu_ns: each(|round| {
                let seconds = round.payload_bytes as f64 * 8.0 / 1e9 / round.gbit_per_s;
                round.cpu.domains().as_secs_f64() * 1e9 / (round.packets_per_s * seconds)
            }),
            hypercalls: each(|round| round.hypercalls_per_packet),
            events: each(|round| round.events_per_packet),
            sha256_ok: rounds.iter().all(|round| round.sha256_ok),
        }
    }
}

/// What a packet costs with each mechanism; nothing if none was measured.
pub fn mechanisms(rows: &[MechanismRow]) -> Option<Figure> {
    let dearest = rows.iter().max_by(|one, other| cpu(one).total_cmp(&cpu(other)))?;
    let cheapest = rows.iter().min_by(|one, other| cpu(one).total_cmp(&cpu(other)))?;
    let names: Vec<String> =
        rows.iter().map(|row| format!("{}, {}", row.mechanism, row.route)).collect();
    let panel = |title: &str, label: &str, look, of: fn(&MechanismRow) -> &[f64]| {
        let points: Vec<Point> = rows
            .iter()
            .enumerate()
            .filter_map(|(bar, row)| Point::of_rounds(bar as f64, of(row)))
            .collect();
        Panel {
            title: title.to_owned(),
            x: Axis::new(label, Scale::Linear),
            y: Axis::new("", Scale::Linear),
            kind: Kind::StackedBars(names.clone()),
            series: vec![Series { name: title.to_owned(), look, points }],
            marks: Vec::new(),
        }
    };
    Some(Figure {
        id: "mechanisms",
        title: "What a packet costs with each grant mechanism".to_owned(),
        caption: "Guest destination mapping grants a frame to the domain that the sender's table \
                  names; with transitive grants the driver domain passes its right on; a keyed grant \
                  is for whoever has the key, once."
            .to_owned(),
        finding: format!(
            "cheapest {} on {} with {:.0} ns a packet, dearest {} on {} with {:.0} ns",
            cheapest.mechanism,
            cheapest.route,
            cpu(cheapest),
            dearest.mechanism,
            dearest.route,
            cpu(dearest)
        ),
        command: "xenvelope-sim --mechanism NAME".to_owned(),
        columns: 1,
        panels: vec![
            panel("processor time", "CPU of all domains (ns/packet)", Look::Blue, |row| &row.cpu_ns),
            panel("hypercalls", "hypercalls/packet", Look::Orange, |row| &row.hypercalls),
            panel("events", "events/packet", Look::Green, |row| &row.events),
        ],
    })
}

fn cpu(row: &MechanismRow) -> f64 {
    Point::of_rounds(0.0, &row.cpu_ns).map_or(0.0, |point| point.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_that_were_not_measured_make_no_figure() {
        assert_eq!(mechanisms(&[]), None);
        let row = |mechanism: &str, ns: f64| MechanismRow {
            mechanism: mechanism.to_owned(),
            route: "switch-envelope".to_owned(),
            cpu_ns: vec![ns + 5.0, ns, ns - 5.0],
            hypercalls: vec![1.0],
            events: vec![0.5],
            sha256_ok: true,
        };
        let rows = [row("destination", 900.0), row("transitive", 1200.0)];
        let figure = mechanisms(&rows).expect("two were measured");
        assert!(figure.finding.contains("cheapest destination"), "{}", figure.finding);
        let point = figure.panels[0].series[0].points[1];
        assert_eq!((point.least, point.median, point.most), (1195.0, 1200.0, 1205.0));
    }
}
