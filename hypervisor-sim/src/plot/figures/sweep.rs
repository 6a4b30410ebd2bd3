//! Guests against cost, for mesh, hybrid and switch.

use super::series;
use crate::measure::{SweepRound, SweepRow, Topology};
use crate::plot::{Axis, Figure, Kind, Look, Panel, Scale, Series};
use crate::report::summary;

/// Six costs against the number of guests.
pub(super) fn guests(rows: &[SweepRow]) -> Option<Figure> {
    if rows.is_empty() {
        return None;
    }
    let timed =
        |of: fn(&SweepRound) -> f64| by_topology(rows, |row| row.rounds.iter().map(of).collect());
    let counted = |of: fn(&SweepRow) -> usize| by_topology(rows, |row| vec![of(row) as f64]);
    let panel = |title: &str, label: &str, scale, series| Panel {
        title: title.to_owned(),
        x: guest_axis(rows),
        y: Axis::new(label, scale),
        kind: Kind::Lines,
        series,
        marks: Vec::new(),
    };
    Some(Figure {
        id: "guests-cost",
        title: "Guests against cost: mesh of direct channels, hybrid, switch".to_owned(),
        caption: "Every guest sends, turn by turn, a burst of frames to its partner and single \
                  frames to others in rotation, until it has reached all; it begins a turn when it \
                  has all frames of the last. Mesh: a direct channel for every pair; hybrid: for \
                  partners, and the driver domain's switch for the rest; switch: no direct channel. \
                  No stack and no hash: the processor time is that of frontends, driver domain and \
                  hypervisor."
            .to_owned(),
        finding: summary(rows),
        command: "xenvelope-sim sweep --guests N,N,...".to_owned(),
        columns: 2,
        panels: vec![
            panel(
                "Processor time of all domains",
                "CPU (µs/packet)",
                Scale::Linear,
                timed(|round| round.cpu_ns() / 1000.0),
            ),
            panel("Events sent", "events/packet", Scale::Linear, timed(|round| round.events)),
            panel(
                "Hypercalls, events included",
                "hypercalls/packet",
                Scale::Linear,
                timed(|round| round.hypercalls),
            ),
            panel(
                "Ports found pending",
                "ports polled/packet",
                Scale::Linear,
                timed(|round| round.ports_polled),
            ),
            panel("Channels", "channels of the host", Scale::Log10, counted(|row| row.channels)),
            panel(
                "Pages shared for rings and tables",
                "pages of 4 KiB",
                Scale::Log10,
                counted(|row| row.shared_pages),
            ),
        ],
    })
}

fn by_topology(rows: &[SweepRow], values: impl Fn(&SweepRow) -> Vec<f64>) -> Vec<Series> {
    Topology::ALL
        .into_iter()
        .filter_map(|topology| {
            let look = match topology {
                Topology::Mesh => Look::Green,
                Topology::Hybrid => Look::Vermillion,
                Topology::Switch => Look::Blue,
            };
            let of: Vec<(f64, f64)> = rows
                .iter()
                .filter(|row| row.topology == topology)
                .flat_map(|row| values(row).into_iter().map(|value| (row.guests as f64, value)))
                .collect();
            series(topology.name(), look, &of, |(guests, _)| *guests, |(_, value)| *value)
        })
        .collect()
}

fn guest_axis(rows: &[SweepRow]) -> Axis {
    let mut guests: Vec<usize> = rows.iter().map(|row| row.guests).collect();
    guests.sort_unstable();
    guests.dedup();
    let ticks = guests.into_iter().map(|guests| (guests as f64, guests.to_string())).collect();
    Axis::with_ticks("guests", Scale::Log2, ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::Point;

    #[test]
    fn all_rounds_of_a_row_make_one_point() {
        let round = |events| SweepRound {
            packets: 1,
            packets_per_s: 1.0,
            guests_ns: 1.0,
            driver_domain_ns: 1.0,
            events,
            hypercalls: 1.0,
            ports_polled: 1.0,
        };
        let row = SweepRow {
            guests: 4,
            topology: Topology::Mesh,
            rounds: vec![round(3.0), round(1.0), round(2.0)],
            channels: 10,
            shared_pages: 100,
            direct_share: 1.0,
            drops: 0,
            wrong: 0,
        };
        let figure = guests(&[row]).expect("there is a row");
        let events = &figure.panels[1].series[0].points;
        let three = Point { x: 4.0, median: 2.0, least: 1.0, most: 3.0, rounds: 3 };
        assert_eq!(events[..], [three]);
        assert_eq!(figure.panels[4].series[0].points[..], [Point::once(4.0, 10.0)]);
    }
}
