//! Routes against frame size, and against the bandwidth of the I/O bus.

use super::{by_route, cpu_s_per_gb, look, series};
use crate::measure::{CellResult, RouteName};
use crate::plot::{Axis, BusPoint, Figure, Kind, Mark, Panel, Point, Scale, Series};

/// Bus bytes for each payload byte that are none of the payload's.
const BROADCASTS: f64 = 0.001;

/// Goodput of every route against frame size, with the size from which on envelopes carry more
/// than frames through the card.
pub(super) fn goodput_by_frame(cells: &[CellResult]) -> Option<Figure> {
    let series = by_route(cells, &RouteName::ALL, |cell| cell.gbit_per_s);
    if series.is_empty() {
        return None;
    }
    let crossing = crossing_of(&series, RouteName::NicFrame, RouteName::NicEnvelope);
    let finding = match &crossing {
        Compared::From(bytes) => {
            format!("through the card, envelopes carry more than frames from {bytes:.0} bytes on")
        }
        Compared::Always => {
            "through the card, envelopes carry more than frames at every size measured".to_owned()
        }
        Compared::Never => {
            "through the card, frames carry more than envelopes at the largest size measured"
                .to_owned()
        }
        Compared::Unknown => "nothing to compare".to_owned(),
    };
    Some(Figure {
        id: "goodput-frame-size",
        title: "Goodput against frame size, by route".to_owned(),
        caption: "TCP payload from one guest to another (external: to the peer on the wire; stock: \
                  to a guest that knows netif only). Above 1500 bytes a frame is a TCP segment that \
                  is cut only where it leaves the host. All domains and the card share the machine's \
                  processors, and moving bytes by DMA takes processor time here too: compare shapes \
                  and break-evens, not Gbit/s with those of a real card."
            .to_owned(),
        finding,
        command: "xenvelope-sim --frame BYTES --route NAME".to_owned(),
        columns: 1,
        panels: vec![Panel {
            title: String::new(),
            x: frame_axis(&series),
            y: Axis::new("goodput (Gbit/s)", Scale::Linear),
            kind: Kind::Lines,
            marks: crossing.mark("break-even of envelopes through the card"),
            series,
        }],
    })
}

/// Bus bytes of the routes that use the bus.
pub(super) fn bus_by_frame(cells: &[CellResult]) -> Option<Figure> {
    let bus = |cell: &CellResult| cell.bus_bytes_per_payload_byte;
    // A logarithmic axis has no zero: routes that put nothing on the bus, or no more than the
    // broadcasts with which guests look for each other, are named in the caption.
    let (uses, spares): (Vec<RouteName>, Vec<RouteName>) =
        RouteName::ALL.into_iter().partition(|route| {
            cells.iter().any(|cell| cell.cell.route == *route && bus(cell) > BROADCASTS)
        });
    let series = by_route(cells, &uses, bus);
    let last = |route: RouteName| {
        let of = series.iter().find(|series| series.name == route.name())?;
        of.points.last().map(|point| (point.x, point.median))
    };
    let finding = match (last(RouteName::NicFrame), last(RouteName::NicEnvelope)) {
        (Some((bytes, frames)), Some((_, envelopes))) => format!(
            "at {bytes:.0} bytes, frames put {frames:.2} bytes on the bus for each byte of payload, \
             envelopes {envelopes:.4}: 1/{:.0}",
            frames / envelopes.max(1e-9)
        ),
        _ => "nothing to compare".to_owned(),
    };
    let spares: Vec<&str> = spares
        .into_iter()
        .filter(|route| cells.iter().any(|cell| cell.cell.route == *route))
        .map(RouteName::name)
        .collect();
    let none = match &spares[..] {
        [] => String::new(),
        names => format!(" Nothing, but for broadcasts: {}.", names.join(", ")),
    };
    (!series.is_empty()).then(|| Figure {
        id: "bus-frame-size",
        title: "I/O bus load against frame size, by route".to_owned(),
        caption: format!(
            "DMA bytes of all ports of the card, descriptors and write-backs included, for each \
             byte of TCP payload. A frame between two guests crosses the bus twice, into the card \
             and out of it; of an envelope only the references do.{none}"
        ),
        finding,
        command: "xenvelope-sim --frame BYTES --route NAME".to_owned(),
        columns: 1,
        panels: vec![Panel {
            title: String::new(),
            x: frame_axis(&series),
            y: Axis::new("bus bytes per payload byte", Scale::Log10),
            kind: Kind::Lines,
            marks: Vec::new(),
            series,
        }],
    })
}

/// Goodput and processor time against what the bus carries.
pub(super) fn goodput_by_bus(points: &[BusPoint]) -> Option<Figure> {
    let of = |value: fn(&CellResult) -> f64| -> Vec<Series> {
        [RouteName::NicFrame, RouteName::NicEnvelope]
            .into_iter()
            .filter_map(|route| {
                let name = match route {
                    RouteName::NicFrame => "nic-frame (DMA)",
                    _ => "nic-envelope",
                };
                let of: Vec<&BusPoint> =
                    points.iter().filter(|point| point.cell.cell.route == route).collect();
                series(name, look(route), &of, |point| point.bus_gbit, |point| value(&point.cell))
            })
            .collect()
    };
    let (goodput, cpu) = (of(|cell| cell.gbit_per_s), of(cpu_s_per_gb));
    let [frames, envelopes] = &goodput[..] else { return None };
    // Frames carry more once the bus is no limit: seen from the other side.
    let crossing = compare(&envelopes.points, &frames.points);
    let finding = match crossing {
        Compared::From(gbit) => format!(
            "envelopes carry more than DMA up to a bus of {gbit:.1} Gbit/s, DMA more beyond"
        ),
        Compared::Always => {
            "DMA carries more than envelopes at every bandwidth measured".to_owned()
        }
        Compared::Never => {
            "envelopes carry more than DMA up to the fastest bus measured".to_owned()
        }
        Compared::Unknown => "nothing to compare".to_owned(),
    };
    let frame = points.first().map_or(0, |point| point.cell.frame_bytes);
    let axis = || {
        let ticks = goodput.iter().flat_map(|series| &series.points);
        let mut ticks: Vec<(f64, String)> =
            ticks.map(|point| (point.x, format!("{}", point.x))).collect();
        ticks.sort_by(|one, other| one.0.total_cmp(&other.0));
        ticks.dedup();
        Axis::with_ticks("I/O bus, each direction (Gbit/s)", Scale::Log2, ticks)
    };
    let panel = |title: &str, label: &str, series: Vec<Series>, marks| Panel {
        title: title.to_owned(),
        x: axis(),
        y: Axis::new(label, Scale::Linear),
        kind: Kind::Lines,
        series,
        marks,
    };
    let marks = crossing.mark("break-even");
    Some(Figure {
        id: "goodput-bus",
        title: "Behind a slow I/O bus: frames by DMA against envelopes".to_owned(),
        caption: format!(
            "The same transfer between two guests with a VF, {frame} bytes a frame, with the I/O \
             bus cut to what the x axis says. DMA is bound by the bus, which each byte crosses \
             twice, once in each direction; an envelope's data is copied by the receiver's \
             processor. The processor time of all domains, stacks and SHA-256 included, is what \
             that costs."
        ),
        finding,
        command: "xenvelope-sim --bus-gbit GBIT --route nic-frame --route nic-envelope".to_owned(),
        columns: 2,
        panels: vec![
            panel("Goodput", "goodput (Gbit/s)", goodput.clone(), marks),
            panel("Processor time of all domains", "CPU (s/GB)", cpu, Vec::new()),
        ],
    })
}

fn frame_axis(series: &[Series]) -> Axis {
    let mut sizes: Vec<f64> =
        series.iter().flat_map(|series| &series.points).map(|point| point.x).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let ticks = sizes.into_iter().map(|bytes| (bytes, format!("{bytes}"))).collect();
    Axis::with_ticks("frame size (bytes of IP packet)", Scale::Log2, ticks)
}

/// How the second of two series stands to the first.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Compared {
    /// It is above from here on.
    From(f64),
    /// It is above everywhere.
    Always,
    /// It is not above at the end.
    Never,
    /// They have no points in common.
    Unknown,
}

impl Compared {
    fn mark(self, label: &str) -> Vec<Mark> {
        match self {
            Compared::From(x) => vec![Mark { x, label: label.to_owned() }],
            _ => Vec::new(),
        }
    }
}

fn crossing_of(series: &[Series], one: RouteName, other: RouteName) -> Compared {
    let find = |route: RouteName| series.iter().find(|series| series.name == route.name());
    match (find(one), find(other)) {
        (Some(one), Some(other)) => compare(&one.points, &other.points),
        _ => Compared::Unknown,
    }
}

fn compare(one: &[Point], other: &[Point]) -> Compared {
    let (Some(a), Some(b)) = (one.last(), other.last()) else { return Compared::Unknown };
    match last_crossing(one, other) {
        _ if b.median <= a.median => Compared::Never,
        Some(x) => Compared::From(x),
        None => Compared::Always,
    }
}

/// The last place where the medians of two series cross: between two points on a straight line
/// over a logarithmic x axis. Only places where both have points count.
pub fn last_crossing(one: &[Point], other: &[Point]) -> Option<f64> {
    let differences: Vec<(f64, f64)> = one
        .iter()
        .filter_map(|point| {
            let there = other.iter().find(|there| there.x == point.x)?;
            Some((point.x, there.median - point.median))
        })
        .collect();
    differences.windows(2).rev().find_map(|pair| {
        let [(x0, d0), (x1, d1)] = pair else { return None };
        let crosses = (*d0 <= 0.0) != (*d1 <= 0.0);
        let part = d0 / (d0 - d1);
        crosses.then(|| (x0.ln() + (x1.ln() - x0.ln()) * part).exp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(f64, f64)]) -> Vec<Point> {
        values.iter().map(|(x, value)| Point::once(*x, *value)).collect()
    }

    #[test]
    fn the_break_even_is_where_the_medians_cross_for_the_last_time() {
        let one = points(&[(1.0, 4.0), (4.0, 4.0), (16.0, 4.0)]);
        let rises = points(&[(1.0, 2.0), (4.0, 6.0), (16.0, 8.0)]);
        // Half way between 1 and 4 on a logarithmic axis.
        let crossing = last_crossing(&one, &rises).expect("they cross");
        assert!((crossing - 2.0).abs() < 1e-9, "{crossing}");
        assert_eq!(compare(&one, &rises), Compared::From(crossing));
        assert_eq!(compare(&rises, &one), Compared::Never);
        let above = points(&[(1.0, 5.0), (4.0, 5.0), (16.0, 5.0)]);
        assert_eq!(last_crossing(&one, &above), None);
        assert_eq!(compare(&one, &above), Compared::Always);
        let twice = points(&[(1.0, 5.0), (4.0, 3.0), (16.0, 5.0)]);
        let last = last_crossing(&one, &twice).expect("they cross");
        assert!((last - 8.0).abs() < 1e-9, "{last}");
    }

    #[test]
    fn series_without_a_place_in_common_do_not_cross() {
        let one = points(&[(1.0, 4.0), (4.0, 4.0)]);
        assert_eq!(last_crossing(&one, &points(&[(2.0, 2.0), (8.0, 6.0)])), None);
        assert_eq!(compare(&one, &[]), Compared::Unknown);
    }
}
