//! What one packet costs, and where: instructions by callgrind, calls into the hypervisor, events,
//! cache lines that sender and receiver share.
//!
//! Two guests with a direct channel are polled in turn on one thread, by a clock that is moved, so
//! that a run is the same each time, and `--check` can hold it. Counted are the instructions of
//! this program. Those of the C library, which copies bytes by what the processor at hand has, are
//! shown apart, and so is what the guests' stacks would do.

#![forbid(unsafe_code)]

mod callgrind;
mod costs;
mod lines;
mod report;
mod scene;
mod stages;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use report::Report;
use scene::Load;

/// Counts what one packet costs sender and receiver, and shows where. Needs valgrind.
#[derive(Parser)]
#[command(name = "packet-cost")]
struct Arguments {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Compares with tests/costs/packet.toml, and fails if a count is another.
    #[arg(long, conflicts_with_all = ["json", "update"])]
    check: bool,
    /// Writes tests/costs/packet.toml.
    #[arg(long, conflicts_with = "json")]
    update: bool,
    /// Only frames of this length and burst, such as 64/32; may be given more than once.
    #[arg(long, value_name = "LENGTH/BURST", value_parser = load, conflicts_with_all = ["check", "update"])]
    only: Vec<Load>,
    /// Shows the costliest functions, too.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    functions: usize,
    /// Runs what is counted, and says what was done: for callgrind.
    #[arg(long, value_name = "LENGTH/BURST", value_parser = load, hide = true)]
    scene: Option<Load>,
}

/// What is counted unless something else is asked for.
const LENGTHS: [usize; 3] = [64, 1500, 9000];
const BURSTS: [usize; 2] = [32, 1];

fn load(text: &str) -> Result<Load, String> {
    let parse = || {
        let (length, burst) = text.split_once('/')?;
        Some(Load { length: length.parse().ok()?, burst: burst.parse().ok()? })
    };
    parse()
        .filter(|load| (60..=65_000).contains(&load.length) && (1..=64).contains(&load.burst))
        .ok_or_else(|| "bytes of a frame, 60 to 65000, and frames in a burst, 1 to 64".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.scene {
        Some(load) => play(load),
        None => count(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(load: Load) -> Result<ExitCode> {
    println!("{}", serde_json::to_string(&scene::run(load)?)?);
    Ok(ExitCode::SUCCESS)
}

fn count(arguments: &Arguments) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        bail!("this counts the instructions of an optimised program: run it with --release");
    }
    let program = std::env::current_exe().context("where this program is")?;
    let all = BURSTS.iter().flat_map(|&burst| LENGTHS.map(|length| Load { length, burst }));
    let loads = if arguments.only.is_empty() { all.collect() } else { arguments.only.clone() };
    let scratch = callgrind::Scratch::make()?;
    let mut reports = Vec::new();
    for load in loads {
        let (done, profile) = callgrind::run(&program, load, &scratch)?;
        reports.push(Report::new(load, done, stages::sort(&profile, &program)?));
    }
    if arguments.update {
        let counts: Vec<_> =
            reports.iter().map(|report| (report.load, report.instructions)).collect();
        println!("written: {}", costs::write(&counts)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.check {
        return check(&reports);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        for report in &reports {
            report.print(arguments.functions);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(reports: &[Report]) -> Result<ExitCode> {
    let known = costs::read()?;
    let rustc = costs::rustc()?;
    if known.rustc != rustc {
        bail!(
            "the counts in tests/costs/packet.toml are those of {}, and this is {rustc}, which \
             makes other instructions. `{}` counts anew",
            known.rustc,
            costs::UPDATE
        );
    }
    let mut failed = 0;
    for report in reports {
        match known.verdict(report.load, report.instructions) {
            Ok(()) => {
                println!("{}: {:.1}, as known", costs::name(report.load), report.instructions)
            }
            Err(what) => {
                failed += 1;
                eprintln!("{what}");
            }
        }
    }
    println!("packet-cost: {} passed, {failed} failed", reports.len() - failed);
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("if the change is meant, `{}` writes what is known anew", costs::UPDATE);
    Ok(ExitCode::FAILURE)
}
