//! A transfer over time.

use crate::measure::{Tick, Timeline};
use crate::plot::{Axis, Figure, Kind, Look, Mark, Panel, Point, Scale, Series};

/// Goodput and bus load over time, through changes of route.
pub(super) fn over_time(timeline: &Timeline) -> Figure {
    let trace = |name: &str, look, of: fn(&Tick) -> f64| Series {
        name: name.to_owned(),
        look,
        points: timeline.ticks.iter().map(|tick| Point::once(tick.at, of(tick))).collect(),
    };
    let marks: Vec<Mark> = timeline
        .turns
        .iter()
        .map(|turn| Mark { x: turn.at, label: turn.what.to_owned() })
        .collect();
    let unnamed: Vec<Mark> =
        marks.iter().map(|mark| Mark { label: String::new(), ..mark.clone() }).collect();
    let panel = |label: &str, series, marks| Panel {
        title: String::new(),
        x: Axis::new("time (s)", Scale::Linear),
        y: Axis::new(label, Scale::Linear),
        kind: Kind::Trace,
        series: vec![series],
        marks,
    };
    Figure {
        id: "route-change",
        title: "One transfer while its route changes and its VF is pulled".to_owned(),
        caption: format!(
            "One TCP connection from {} to {}: frames through the card, then envelopes through the \
             card, then the sender's VF is pulled, then it is put back. Read every 20 ms. What is \
             underway to a VF that is pulled is lost; where that was the last acknowledgement of a \
             window, TCP waits for its own timer.",
            timeline.from, timeline.to
        ),
        finding: format!(
            "the longest time without payload was {:.0} ms; SHA-256 {}",
            timeline.longest_gap * 1000.0,
            if timeline.sha256_ok { "right" } else { "WRONG" }
        ),
        command: "xenvelope-sim (its first part, without the VF put back)".to_owned(),
        columns: 1,
        panels: vec![
            panel("goodput (Gbit/s)", trace("goodput", Look::Blue, |tick| tick.gbit_per_s), marks),
            panel(
                "I/O bus (Gbit/s)",
                trace("I/O bus, both directions", Look::Orange, |tick| tick.bus_gbit_per_s),
                unnamed,
            ),
        ],
    }
}
