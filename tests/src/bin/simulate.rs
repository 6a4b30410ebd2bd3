//! Runs whole hosts in virtual time, each from a seed, with faults, and says what did not hold.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use xenvelope_tests::simulation::faults::Fault;
use xenvelope_tests::simulation::plan::Plan;
use xenvelope_tests::simulation::report::Report;
use xenvelope_tests::simulation::run::chance;
use xenvelope_tests::simulation::{Outcome, Run};

/// Seeds that failed once, with what was wrong: they run first.
const KEPT: &str = include_str!("../../seeds/simulate.txt");

/// Runs whole hosts in virtual time, each from a seed: guests, backend, card and store by their
/// real code, with crashes, losses and errors. The same seed always does the same.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    first_seed: u64,
    /// Steps of each seed until faults and traffic stop. A step is an event that is delivered, or a
    /// poll of a frontend or a backend.
    #[arg(long, value_name = "PER_SEED", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    steps: u64,
    /// Stops after that many minutes; without --seeds, not before.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: Option<u64>,
    /// Faults that are not to happen, by name; may be given more than once.
    #[arg(long, value_name = "FAULT", value_parser = fault)]
    without: Vec<Fault>,
    /// Prints what each seed means, and the last of what happened in it.
    #[arg(long, value_name = "LINES", num_args = 0..=1, default_missing_value = "400")]
    trace: Option<usize>,
    /// Leaves failures as they are, and does not look for the smallest run that fails so.
    #[arg(long)]
    no_shrink: bool,
    /// After so many seeds that failed the rest is not run.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    failures: u64,
    /// Leaves out the seeds that failed once.
    #[arg(long)]
    no_kept: bool,
}

fn fault(name: &str) -> Result<Fault, String> {
    let found = Fault::ALL.iter().find(|fault| fault.name() == name).copied();
    let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    found.ok_or_else(|| format!("no such fault; there are {}", names.join(", ")))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.seeds.is_none() && arguments.minutes.is_none() {
        eprintln!("error: say how long: --seeds N, --minutes M, or both");
        return ExitCode::from(2);
    }
    let count = arguments.seeds.unwrap_or(u64::MAX);
    let Some(last) = arguments.first_seed.checked_add(count.min(1 << 40) - 1) else {
        eprintln!("error: there are no {count} seeds from {} on", arguments.first_seed);
        return ExitCode::from(2);
    };
    let kept = kept();
    let kept = if arguments.no_kept { &[][..] } else { &kept };
    let begun = Instant::now();
    let time = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let mut report = Report::default();
    let (mut failures, mut said) = (0, Instant::now());
    for seed in kept.iter().copied().chain(arguments.first_seed..=last) {
        if time.is_some_and(|time| begun.elapsed() >= time) || failures >= arguments.failures {
            break;
        }
        let keep = arguments.trace.unwrap_or(0);
        let without = arguments.without.clone();
        let run = Run { without, keep, ..Run::new(seed, arguments.steps) };
        let outcome = run.outcome();
        report.add(&outcome);
        if arguments.trace.is_some() {
            trace(&run, &outcome);
        }
        if outcome.violation.is_some() {
            failures += 1;
            tell(&run, &outcome, !arguments.no_shrink);
        }
        if std::io::stderr().is_terminal() && said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            eprintln!("seed {seed}: {} steps so far", report.steps());
        }
    }
    report.took = begun.elapsed();
    println!("{report}");
    if failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The seeds that failed once.
fn kept() -> Vec<u64> {
    let lines = KEPT.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

fn trace(run: &Run, outcome: &Outcome) {
    let plan = Plan::of(run.seed);
    println!("seed {}: {plan:#?}", run.seed);
    for fault in Fault::ALL.iter().filter(|fault| plan.rates[**fault as usize] > 0) {
        println!("  {} {:.6}", fault.name(), chance(plan.rates[*fault as usize]));
    }
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("seed {}: {} steps, hash {:016x}", run.seed, outcome.steps, outcome.hash);
}

/// Says what did not hold, as small as it can be made.
fn tell(run: &Run, outcome: &Outcome, shrink: bool) {
    let Some(violation) = &outcome.violation else { return };
    println!("FAILED seed {}: {} at step {}", run.seed, violation.oracle.name(), violation.step);
    println!("  {}", violation.what);
    if !shrink {
        return;
    }
    println!("  making it small ...");
    let (small, again) = run.smallest(violation);
    let without: Vec<String> =
        small.without.iter().map(|fault| format!(" --without {}", fault.name())).collect();
    println!("  the last of what happens in the smallest run that fails so:");
    again.lines.iter().for_each(|line| println!("  {line}"));
    if let Some(violation) = &again.violation {
        println!("  {} at step {}: {}", violation.oracle.name(), violation.step, violation.what);
    }
    println!(
        "  again: simulate --no-kept --trace --seeds 1 --first-seed {} --steps {}{}\n",
        small.seed,
        small.steps,
        without.concat()
    );
}
