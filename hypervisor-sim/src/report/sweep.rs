//! More and more guests: what a packet costs, and where the mesh stops paying.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::measure::{Sweep, SweepRound, SweepRow, Topology};

/// The headings of the table.
pub const SWEEP_HEADINGS: [&str; 12] = [
    "guests",
    "topology",
    "channels",
    "pages",
    "kpkt/s",
    "CPU ns",
    "(least-most)",
    "of it dd",
    "events",
    "calls",
    "polled",
    "drops",
];

/// For people: the table, what it means, and where the mesh stops paying.
pub fn sweep_text(sweep: &Sweep, rows: &[SweepRow]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(SWEEP_HEADINGS);
    for column in (0..SWEEP_HEADINGS.len()).filter(|column| *column != 1) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        let (least, cpu, most) = row.over_rounds(SweepRound::cpu_ns);
        let median = |of: fn(&SweepRound) -> f64| row.over_rounds(of).1;
        table.add_row([
            row.guests.to_string(),
            row.topology.name().to_owned(),
            row.channels.to_string(),
            row.shared_pages.to_string(),
            format!("{:.0}", median(|round| round.packets_per_s) / 1000.0),
            format!("{cpu:.0}"),
            format!("{least:.0}-{most:.0}"),
            format!("{:.0}", median(|round| round.driver_domain_ns)),
            format!("{:.3}", median(|round| round.events)),
            format!("{:.3}", median(|round| round.hypercalls)),
            format!("{:.3}", median(|round| round.ports_polled)),
            row.drops.to_string(),
        ]);
    }
    let mut lines = vec![
        table.to_string(),
        format!(
            "each guest, in each turn: {} frames of {} bytes to its partner, and one to each of {} others",
            sweep.busy, sweep.frame, sweep.light
        ),
        "CPU, dd (the driver domain's part), events, calls (hypercalls) and polled (ports found \
         pending) are for each packet, by everybody;"
            .to_owned(),
        format!(
            "medians of {} rounds of {} s; pages: mapped of each other, rings and forwarding tables",
            sweep.rounds,
            sweep.time.as_secs_f64()
        ),
        String::new(),
    ];
    lines.extend(verdicts(rows).iter().map(Verdict::sentence));
    lines.join("\n")
}

/// Up to how many guests the mesh costs less of something than another topology.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// What is compared.
    pub what: &'static str,
    /// With which topology.
    pub other: Topology,
    /// The numbers of guests, with what the mesh and the other cost there.
    pub costs: Vec<(usize, f64, f64)>,
}

/// Differences below this part of the cost are none.
const EQUAL: f64 = 0.03;

impl Verdict {
    /// The least number of guests from which on the mesh always costs more than the other.
    pub fn stops_paying_at(&self) -> Option<usize> {
        let dearer = |(_, mesh, other): &&(usize, f64, f64)| *mesh > other * (1.0 + EQUAL);
        self.costs.iter().rev().take_while(dearer).last().map(|(guests, ..)| *guests)
    }

    /// In words.
    pub fn sentence(&self) -> String {
        let Verdict { what, other, costs } = self;
        let other = other.name();
        let Some((most, mesh, there)) = costs.last() else {
            return format!("{what}: nothing to compare the mesh with");
        };
        let figures = format!("at {most} guests {} against {}", short(*mesh), short(*there));
        match self.stops_paying_at() {
            Some(guests) => {
                format!(
                    "{what}: the mesh costs more than {other} from {guests} guests on; {figures}"
                )
            }
            None if *mesh < there * (1.0 - EQUAL) => {
                format!("{what}: the mesh still pays against {other}; {figures}")
            }
            None => format!("{what}: mesh and {other} cost the same; {figures}"),
        }
    }
}

fn short(cost: f64) -> String {
    if cost >= 100.0 { format!("{cost:.0}") } else { format!("{cost:.3}") }
}

/// All verdicts in two sentences.
pub fn summary(rows: &[SweepRow]) -> String {
    let verdicts = verdicts(rows);
    let against = |other: Topology| {
        let of = verdicts.iter().filter(|verdict| verdict.other == other);
        let said: Vec<String> = of
            .filter(|verdict| !verdict.costs.is_empty())
            .map(|verdict| {
                let what = verdict.what.split([',', '/']).next().unwrap_or_default();
                match (verdict.stops_paying_at(), verdict.costs.last()) {
                    (Some(guests), _) => format!("more {what} from {guests} guests on"),
                    (None, Some((_, mesh, there))) if *mesh < there * (1.0 - EQUAL) => {
                        format!("less {what}")
                    }
                    _ => format!("as much {what}"),
                }
            })
            .collect();
        match &said[..] {
            [] => format!("the mesh was not compared with the {}", other.name()),
            said => format!("than the {} the mesh costs {}", other.name(), said.join(", ")),
        }
    };
    let most = rows.iter().map(|row| row.guests).max().unwrap_or(0);
    format!("up to {most} guests, {}; {}", against(Topology::Hybrid), against(Topology::Switch))
}

/// What of a round, or of a row, is compared.
type Cost = fn(&SweepRow) -> f64;

/// The mesh against the others, for each cost; only where both were measured, and from four guests
/// on: with two, mesh and hybrid are the same.
pub fn verdicts(rows: &[SweepRow]) -> Vec<Verdict> {
    let compared: [(&str, Cost); 5] = [
        ("processor time, ns/packet", |row| row.over_rounds(SweepRound::cpu_ns).1),
        ("events/packet", |row| row.over_rounds(|round| round.events).1),
        ("hypercalls/packet", |row| row.over_rounds(|round| round.hypercalls).1),
        ("ports polled/packet", |row| row.over_rounds(|round| round.ports_polled).1),
        ("shared pages", |row| row.shared_pages as f64),
    ];
    let of = |topology: Topology, guests: usize| {
        rows.iter().find(|row| row.topology == topology && row.guests == guests)
    };
    let mut numbers: Vec<usize> =
        rows.iter().map(|row| row.guests).filter(|guests| *guests > 2).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut verdicts = Vec::new();
    for (what, cost) in compared {
        for other in [Topology::Hybrid, Topology::Switch] {
            let costs = numbers
                .iter()
                .filter_map(|&guests| {
                    let (mesh, there) = (of(Topology::Mesh, guests)?, of(other, guests)?);
                    Some((guests, cost(mesh), cost(there)))
                })
                .collect();
            verdicts.push(Verdict { what, other, costs });
        }
    }
    verdicts
}

/// For machines.
pub fn sweep_json(sweep: &Sweep, rows: &[SweepRow]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let rounds: Vec<Value> = row.rounds.iter().map(round_json).collect();
            json!({
                "guests": row.guests, "topology": row.topology.name(), "channels": row.channels,
                "shared_pages": row.shared_pages, "direct_share": row.direct_share,
                "drops": row.drops, "wrong": row.wrong, "rounds": rounds,
            })
        })
        .collect();
    json!({
        "busy": sweep.busy, "light": sweep.light, "frame_bytes": sweep.frame,
        "seconds": sweep.time.as_secs_f64(), "rows": rows,
    })
}

fn round_json(round: &SweepRound) -> Value {
    json!({
        "packets": round.packets, "packets_per_s": round.packets_per_s,
        "guests_ns_per_packet": round.guests_ns,
        "driver_domain_ns_per_packet": round.driver_domain_ns,
        "events_per_packet": round.events, "hypercalls_per_packet": round.hypercalls,
        "ports_polled_per_packet": round.ports_polled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(costs: &[(usize, f64, f64)]) -> Verdict {
        Verdict { what: "events/packet", other: Topology::Switch, costs: costs.to_vec() }
    }

    #[test]
    fn the_mesh_stops_paying_where_it_is_dearer_and_stays_so() {
        let crosses = verdict(&[
            (4, 1.0, 2.0),
            (8, 2.5, 2.0),
            (16, 1.9, 2.0),
            (32, 2.5, 2.0),
            (64, 3.0, 2.0),
        ]);
        assert_eq!(crosses.stops_paying_at(), Some(32));
        assert!(crosses.sentence().contains("from 32 guests on"), "{}", crosses.sentence());
        let pays = verdict(&[(4, 1.0, 2.0), (8, 1.0, 2.0)]);
        assert_eq!(pays.stops_paying_at(), None);
        assert!(pays.sentence().contains("still pays against switch"), "{}", pays.sentence());
        let same = verdict(&[(4, 1.0, 1.0), (8, 1.01, 1.0)]);
        assert!(same.sentence().contains("cost the same"), "{}", same.sentence());
    }
}
