//! What is said of many runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::faults::Fault;
use super::oracles::Oracle;
use super::plan::Weather;
use super::run::Outcome;

/// In at least so many seeds every kind of fault must have happened, and every oracle been asked.
const ENOUGH: u64 = 100;

/// Many runs together.
#[derive(Default)]
pub struct Report {
    seeds: u64,
    weather: BTreeMap<Weather, u64>,
    steps: u64,
    events: u64,
    polls: super::world::Polls,
    faults: Vec<u64>,
    statuses: [u64; 16],
    evaluations: Vec<u64>,
    ledger: super::ledger::Ledger,
    virtual_ns: u64,
    failures: u64,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        *self.weather.entry(outcome.weather).or_default() += 1;
        self.steps += outcome.steps;
        self.events += outcome.events;
        let (polls, more) = (&mut self.polls, &outcome.polls);
        polls.frontends += more.frontends;
        polls.stock += more.stock;
        polls.backend += more.backend;
        polls.busy += more.busy;
        polls.card += more.card;
        polls.engine += more.engine;
        let sum = |all: &mut Vec<u64>, more: &[u64]| {
            all.resize(more.len(), 0);
            all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        };
        sum(&mut self.faults, &outcome.faults);
        sum(&mut self.evaluations, &outcome.evaluations);
        self.statuses.iter_mut().zip(outcome.statuses).for_each(|(all, more)| *all += more);
        self.ledger.add(&outcome.ledger);
        self.virtual_ns += outcome.virtual_ns;
        self.failures += u64::from(outcome.violation.is_some());
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps in a minute.
    pub fn pace(&self) -> f64 {
        self.steps as f64 * 60.0 / self.took.as_secs_f64().max(1e-9)
    }

    /// Kinds of faults that never happened and oracles that were never asked, though there were
    /// seeds enough.
    pub fn empty(&self) -> Vec<&'static str> {
        if self.seeds < ENOUGH {
            return Vec::new();
        }
        let never = |counts: &[u64], at: usize| counts.get(at).is_none_or(|count| *count == 0);
        let faults = Fault::ALL.iter().filter(|fault| never(&self.faults, **fault as usize));
        let oracles =
            Oracle::ALL.iter().filter(|oracle| never(&self.evaluations, **oracle as usize));
        faults.map(|fault| fault.name()).chain(oracles.map(|oracle| oracle.name())).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weather: Vec<String> =
            self.weather.iter().map(|(weather, seeds)| format!("{seeds} {weather:?}")).collect();
        writeln!(f, "seeds        {} ({})", self.seeds, weather.join(", "))?;
        let (secs, virtual_secs) = (self.took.as_secs_f64(), self.virtual_ns as f64 / 1e9);
        writeln!(f, "steps        {} in {secs:.1} s: {:.0} a minute", self.steps, self.pace())?;
        writeln!(f, "virtual time {virtual_secs:.0} s")?;
        let polls = &self.polls;
        writeln!(
            f,
            "of these     {} polls of frontends, {} of stock netfronts, {} of backends ({} of \
             them found something to do), {} events delivered",
            polls.frontends, polls.stock, polls.backend, polls.busy, self.events
        )?;
        writeln!(
            f,
            "besides      {} turns of the card, {} of the copy engine",
            polls.card, polls.engine
        )?;
        let ledger = &self.ledger;
        writeln!(
            f,
            "frames       {} sent + {} made by switches and faults, {} delivered, {} dropped",
            ledger.sent,
            ledger.made,
            ledger.delivered,
            ledger.dropped()
        )?;
        writeln!(f, "\ndropped by and why")?;
        for ((who, why), count) in &ledger.drops {
            writeln!(f, "  {:<32} {count}", format!("{who}/{why}"))?;
        }
        writeln!(f, "\nfaults by kind")?;
        for (fault, count) in Fault::ALL.iter().zip(&self.faults) {
            writeln!(f, "  {:<32} {count}", fault.name())?;
        }
        let statuses = self.statuses.iter().take(14).enumerate();
        let statuses: Vec<String> = statuses
            .map(|(code, count)| format!("{}: {count}", if code == 0 { 1 } else { -(code as i64) }))
            .collect();
        writeln!(f, "  copy-status by code: {}", statuses.join(", "))?;
        writeln!(f, "\nevaluations by oracle")?;
        for (oracle, count) in Oracle::ALL.iter().zip(&self.evaluations) {
            writeln!(f, "  {:<32} {count}", oracle.name())?;
        }
        for name in self.empty() {
            writeln!(f, "\n!!! NEVER in {} seeds: {name} !!!", self.seeds)?;
        }
        write!(f, "\n{} of {} seeds failed", self.failures, self.seeds)
    }
}
