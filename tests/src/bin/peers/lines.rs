//! The other lines of the table of bars, each a measurement of its own.

mod bridge_copy;
mod hypercalls;
mod many_guests;
mod nic_bus;
mod round_trip;
mod table_lookup;
pub mod tap_iperf;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::bars::{Asks, Bar};
use super::rounds::Taken;
use super::statistics::{interval, median};

/// A figure of ours, and of what it is held against.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Of what.
    pub what: String,
    /// Against what.
    pub against: String,
    /// In which unit.
    pub unit: String,
    /// Ours.
    pub ours: f64,
    /// The other.
    pub other: f64,
}

/// A line.
pub struct Line {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// What it measures.
    pub describes: &'static str,
    /// What is asked of the ratio of ours over the other, by how the figure's name begins.
    pub asks: &'static [(&'static str, Asks)],
    /// Says what is missing for it here, if anything is.
    pub needs: fn() -> Result<()>,
    /// Measures, for about that long.
    pub run: fn(Duration, &Path) -> Result<Vec<Measured>>,
}

/// What a line needs that needs nothing.
fn nothing() -> Result<()> {
    Ok(())
}

/// All lines.
pub const ALL: &[Line] = &[
    table_lookup::LINE,
    hypercalls::LINE,
    many_guests::LINE,
    bridge_copy::LINE,
    tap_iperf::LINE,
    round_trip::LINE,
    nic_bus::LINE,
];

/// The line of a name.
pub fn find(name: &str) -> Option<&'static Line> {
    ALL.iter().find(|line| line.name == name)
}

/// What came of a line: a bar for each of its figures.
pub fn bars(taken: &Taken, line: &Line) -> Vec<Bar> {
    let mut figures: Vec<&Measured> = Vec::new();
    for sample in taken.lines.iter().filter(|sample| sample.line == line.name) {
        if !figures.iter().any(|known| known.what == sample.measured.what) {
            figures.push(&sample.measured);
        }
    }
    if figures.is_empty() {
        let asks = line.asks.first().map_or(Asks::Nothing, |(_, asks)| *asks);
        let (what, against) = (line.name.to_owned(), String::new());
        return vec![Bar {
            what,
            against,
            asks,
            ratio: None,
            rounds: 0,
            met: None,
            beside: vec![],
        }];
    }
    figures.into_iter().map(|figure| bar(taken, line, figure)).collect()
}

fn bar(taken: &Taken, line: &Line, figure: &Measured) -> Bar {
    let of = |of: fn(&Measured) -> f64| -> Vec<f64> {
        let samples = taken.lines.iter().filter(|sample| sample.line == line.name);
        let samples = samples.filter(|sample| sample.measured.what == figure.what);
        samples.map(|sample| of(&sample.measured)).collect()
    };
    let ratios = of(|measured| measured.ours / measured.other);
    let asks = line.asks.iter().find(|(begins, _)| figure.what.starts_with(begins));
    let asks = asks.map_or(Asks::Nothing, |(_, asks)| *asks);
    let ratio = interval(&ratios);
    let unit = &figure.unit;
    let medians =
        [("ours", of(|measured| measured.ours)), ("other", of(|measured| measured.other))];
    Bar {
        what: format!("{}: {}", line.name, figure.what),
        against: figure.against.clone(),
        asks,
        ratio,
        rounds: ratios.len(),
        met: ratio.and_then(|ratio| asks.met(ratio)),
        beside: medians
            .iter()
            .filter_map(|(who, values)| Some((format!("{who}, {unit}"), median(values)?)))
            .collect(),
    }
}
