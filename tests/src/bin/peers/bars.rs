//! The bars: what is asked of ours, and whether it is there.

use serde::Serialize;

use super::contender::{Contender, Load};
use super::distance;
use super::lines;
use super::rounds::{Sample, Taken};
use super::statistics::{Interval, interval, median};

/// What a bar asks of a ratio.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asks {
    /// The lower end of its interval reaches this.
    AtLeast(f64),
    /// The upper end of its interval does not go beyond this.
    AtMost(f64),
    /// Nothing: it is reported.
    Nothing,
}

impl Asks {
    /// Whether that is so; `None` if nothing is asked.
    pub fn met(self, ratio: Interval) -> Option<bool> {
        match self {
            Asks::AtLeast(least) => Some(ratio.low >= least),
            Asks::AtMost(most) => Some(ratio.high <= most),
            Asks::Nothing => None,
        }
    }
}

/// A bar with what was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Bar {
    /// What is compared.
    pub what: String,
    /// With what.
    pub against: String,
    /// What is asked.
    pub asks: Asks,
    /// The ratio; nothing if it was not measured.
    pub ratio: Option<Interval>,
    /// In how many rounds.
    pub rounds: usize,
    /// Whether it is met.
    pub met: Option<bool>,
    /// Medians of the same ratio for the other ways to run ours.
    pub beside: Vec<(String, f64)>,
}

impl Bar {
    /// Only reports it: what one short sample gives says nothing of how fast anybody is.
    pub fn is_not_asked(&mut self) {
        (self.asks, self.met) = (Asks::Nothing, None);
    }
}

/// Of the ways to run ours the one that is held against the bars: as the peers run, and with the
/// stated costs.
pub const OURS: Contender = Contender::OursProcesses;
const BESIDE: [Contender; 3] =
    [Contender::OursProcessesIdeal, Contender::OursThreads, Contender::OursThreadsIdeal];

/// Ratios of two contenders in the rounds that have both, and between whose two samples the cores
/// have not moved away from each other or closer.
pub fn ratios(taken: &Taken, ours: Contender, other: Contender, load: Load) -> Vec<f64> {
    let of = |who: Contender, round: usize| {
        let is = |sample: &&Sample| {
            sample.contender == who && sample.load == load && sample.round == round
        };
        taken.samples.iter().find(is)
    };
    let rounds = taken.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
    (0..rounds)
        .filter_map(|round| Some((of(ours, round)?, of(other, round)?)))
        .filter(|(ours, other)| distance::is_same(ours.line_ns, other.line_ns))
        .map(|(ours, other)| ours.per_second / other.per_second)
        .collect()
}

/// The one of some with the highest median.
fn best(taken: &Taken, load: Load, which: fn(Contender) -> bool) -> Option<Contender> {
    let of = |who: &Contender| {
        let rates: Vec<f64> = taken
            .samples
            .iter()
            .filter(|sample| sample.contender == *who && sample.load == load)
            .map(|sample| sample.per_second)
            .collect();
        median(&rates)
    };
    Contender::ALL
        .into_iter()
        .filter(|who| which(*who))
        .filter_map(|who| Some((who, of(&who)?)))
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .map(|(who, _)| who)
}

fn bar(taken: &Taken, load: Load, other: Option<Contender>, kind: &str, asks: Asks) -> Bar {
    let ratios_of = |ours: Contender| {
        let other = if kind == MODEL { Some(ours.model()) } else { other };
        other.map(|other| ratios(taken, ours, other, load)).unwrap_or_default()
    };
    let values = ratios_of(OURS);
    let ratio = interval(&values);
    Bar {
        what: load.to_string(),
        against: match other {
            Some(other) if kind != MODEL => format!("{kind} ({other})"),
            _ => kind.to_owned(),
        },
        asks,
        ratio,
        rounds: values.len(),
        met: ratio.and_then(|ratio| asks.met(ratio)),
        beside: BESIDE
            .iter()
            .filter_map(|ours| Some((ours.name().to_owned(), median(&ratios_of(*ours))?)))
            .collect(),
    }
}

const MODEL: &str = "the bare model";
const RECEIVER: &str = "the best peer whose receiver copies";
const ANY: &str = "the best peer";

/// All bars of which something was to be measured.
pub fn all(taken: &Taken, loads: &[Load], lines: &[&lines::Line]) -> Vec<Bar> {
    let mut bars = Vec::new();
    let full = |length, burst| Load { length, burst, full: true };
    let mut against = |load: Load, kind: &'static str, asks: Asks| {
        if loads.contains(&load) {
            let other = match kind {
                RECEIVER => best(taken, load, Contender::receiver_copies),
                ANY => best(taken, load, Contender::is_peer),
                _ => None,
            };
            bars.push(bar(taken, load, other, kind, asks));
        }
    };
    against(full(64, 32), RECEIVER, Asks::AtLeast(1.5));
    against(full(64, 1), ANY, Asks::AtLeast(2.0));
    against(full(1500, 32), RECEIVER, Asks::AtLeast(1.5));
    against(full(9000, 32), RECEIVER, Asks::AtLeast(1.3));
    against(full(65000, 32), RECEIVER, Asks::AtLeast(1.2));
    against(full(64, 32), MODEL, Asks::Nothing);
    against(full(1500, 32), MODEL, Asks::AtLeast(0.7));
    against(full(9000, 32), MODEL, Asks::AtLeast(0.85));
    against(full(65000, 32), MODEL, Asks::AtLeast(0.85));
    // A goal beyond the bars.
    against(full(1500, 32), ANY, Asks::Nothing);
    for line in lines {
        bars.extend(lines::bars(taken, line));
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_by_the_unfavourable_end_of_the_interval() {
        let ratio = Interval { low: 1.4, median: 1.6, high: 1.8 };
        assert_eq!(Asks::AtLeast(1.5).met(ratio), Some(false));
        assert_eq!(Asks::AtLeast(1.4).met(ratio), Some(true));
        assert_eq!(Asks::AtMost(1.7).met(ratio), Some(false));
        assert_eq!(Asks::Nothing.met(ratio), None);
    }

    #[test]
    fn ratios_are_of_the_same_round_and_the_best_peer_is_the_one_with_the_highest_median() {
        let load = Load { length: 64, burst: 32, full: true };
        let sample = |contender, round, per_second| Sample {
            contender,
            load,
            round,
            per_second,
            copies_per_second: 1.0,
            line_ns: 100.0,
            hypercalls: 0.0,
            events: 0.0,
            busy_cores: 0.0,
        };
        const PEER: Contender = Contender::VhostPacked;
        let far = Sample { line_ns: 400.0, ..sample(OURS, 1, 60.0) };
        let moved = vec![sample(OURS, 0, 30.0), sample(PEER, 0, 20.0), far, sample(PEER, 1, 20.0)];
        let samples = vec![
            sample(OURS, 0, 30.0),
            sample(Contender::VhostSplit, 0, 10.0),
            sample(Contender::VhostPacked, 0, 20.0),
            sample(Contender::MemifToClient, 0, 60.0),
            sample(OURS, 1, 60.0),
            sample(Contender::VhostPacked, 1, 20.0),
        ];
        let taken = Taken { samples, ..Taken::default() };
        let moved = ratios(&Taken { samples: moved, ..Taken::default() }, OURS, PEER, load);
        assert_eq!(moved, [1.5], "in the other round the cores have moved");
        let bars = all(&taken, &[load], &[]);
        assert!(bars[0].against.contains("vhost-packed"), "{bars:?}");
        assert_eq!(bars[0].rounds, 2);
        assert_eq!(bars[0].ratio.map(|ratio| ratio.median), Some(2.25));
        assert_eq!(bars[0].met, Some(true));
        assert_eq!(bars[1].ratio, None, "the model was not measured");
    }
}
