//! Ours beside what people use: envelopes on a direct channel, DPDK's vhost and memif, the kernel's
//! own paths, and what memory allows.
//!
//! | module | what |
//! |---|---|
//! | `contender`, `frame`, `window` | who is compared, what is sent, when it counts |
//! | `ours`, `bare`, `distance`, `two` | ours and the limits, as two threads or two processes |
//! | `dpdk`, `kernel`, `side`, `programs` | the peers |
//! | `lines` | other measurements, each with a bar |
//! | `sample`, `rounds`, `quiet`, `restore`, `available` | fresh processes, in turn, and nothing left behind |
//! | `statistics`, `bars`, `report`, `smoke` | what came of it |
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod available;
mod bare;
mod bars;
mod contender;
mod distance;
mod dpdk;
mod frame;
mod kernel;
mod lines;
mod ours;
mod programs;
mod quiet;
mod report;
mod restore;
mod rounds;
mod sample;
mod side;
mod smoke;
mod statistics;
mod two;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use contender::{Contender, Load};
use restore::Changes;
use rounds::{Plan, Rounds};

/// Ours beside what people use, and beside what memory allows
#[derive(Parser)]
#[command(name = "peers")]
struct Arguments {
    /// One JSON object instead of the tables
    #[arg(long)]
    json: bool,

    /// Write the JSON object to this file, too
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    /// Measure these only: names of --list, or paths for all that moves frames
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,

    /// Frames of this many bytes only: 64, 1500, 9000 or 65000
    #[arg(long, value_name = "BYTES", num_args = 1..)]
    frame: Vec<usize>,

    /// Frames of this payload only: all written by the sender, or their headers only
    #[arg(long)]
    payload: Option<Payload>,

    /// Frames handed over so many at once only: 32 or 1
    #[arg(long, value_name = "N", value_parser = ["32", "1"])]
    burst: Option<String>,

    /// Rounds, 1 to 1000
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Seconds of each sample, 0.05 to 20
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds)]
    seconds: f64,

    /// Seconds to wait before each sample until others keep less than 0.15 cores busy
    #[arg(long, value_name = "S", default_value = "30", value_parser = patience)]
    patience: f64,

    /// Say what there is to measure, and do nothing
    #[arg(long)]
    list: bool,

    /// One short round to show that all of it runs: what fails fails the run, figures do not; with
    /// CI in the environment what is missing fails it, too
    #[arg(long)]
    smoke: bool,

    /// What a sample's process is to do.
    #[arg(long, hide = true)]
    sample: Option<String>,

    /// What a keeper is to put back.
    #[arg(long, hide = true)]
    restore: Option<String>,

    /// The arguments of a host with TAPs.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    tap: Vec<String>,
}

/// What of a frame its sender writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Payload {
    Full,
    Header,
}

fn seconds(text: &str) -> Result<f64, String> {
    let asked = text.parse().ok().filter(|seconds| (0.05..=20.0).contains(seconds));
    asked.ok_or_else(|| "give a time from 0.05 to 20 seconds".to_owned())
}

fn patience(text: &str) -> Result<f64, String> {
    let asked = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    asked.ok_or_else(|| "give a time from 0 to 3600 seconds".to_owned())
}

/// What was asked for makes no sense.
const BAD_INPUT: u8 = 2;
/// The part of its core that each side of a sample must have had; a smoke run takes what it gets.
const SHARE: f64 = 0.93;
/// Samples of a smoke run.
const SMOKE_SECONDS: f64 = 0.05;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (&arguments.sample, &arguments.restore) {
        (Some(order), _) => sample::carry_out(order),
        (None, Some(before)) => restore::keep(before),
        (None, None) if !arguments.tap.is_empty() => lines::tap_iperf::serve(&arguments.tap),
        (None, None) if arguments.list => {
            list();
            Ok(())
        }
        (None, None) => match select(&arguments) {
            Ok(selection) => measure(&arguments, selection),
            Err(unknown) => {
                eprintln!("error: {unknown}");
                return ExitCode::from(BAD_INPUT);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("error: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for contender in Contender::ALL {
        println!("{:<22} {}", contender.name(), contender.what());
    }
    for line in lines::ALL {
        println!("{:<22} {}", line.name, line.describes);
    }
}

/// What is to be measured.
struct Selection {
    contenders: Vec<Contender>,
    loads: Vec<Load>,
    lines: Vec<&'static lines::Line>,
}

fn select(arguments: &Arguments) -> Result<Selection, String> {
    let known = |name: &String| {
        name == "paths"
            || lines::find(name).is_some()
            || Contender::ALL.iter().any(|contender| contender.name() == name)
    };
    if let Some(unknown) = arguments.only.iter().find(|name| !known(name)) {
        return Err(format!("there is nothing called {unknown:?} to measure; see --list"));
    }
    let mut loads = Load::all();
    if let Some(unknown) =
        arguments.frame.iter().find(|bytes| !loads.iter().any(|load| load.length == **bytes))
    {
        return Err(format!("frames have 64, 1500, 9000 or 65000 bytes, not {unknown}"));
    }
    loads.retain(|load| arguments.frame.is_empty() || arguments.frame.contains(&load.length));
    let payload = arguments.payload.or(arguments.smoke.then_some(Payload::Full));
    loads.retain(|load| payload.is_none_or(|payload| load.full == (payload == Payload::Full)));
    let burst = arguments.burst.as_deref();
    loads.retain(|load| burst.is_none_or(|burst| load.burst.to_string() == burst));
    let asked =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let contenders: Vec<Contender> =
        Contender::ALL.into_iter().filter(|who| asked("paths") || asked(who.name())).collect();
    if contenders.is_empty() {
        loads.clear();
    }
    let lines = lines::ALL.iter().filter(|line| asked(line.name)).collect();
    Ok(Selection { contenders, loads, lines })
}

fn measure(arguments: &Arguments, selection: Selection) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "sender and receiver need a core each, and there is only one");
    window::check()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let changes = Changes::begin()?;
    changes.let_shared_memory_be_huge();
    let missing = available::missing(&selection.contenders, &selection.lines, &changes);
    let smoke = arguments.smoke;
    let plan = Plan {
        contenders: selection.contenders,
        loads: selection.loads,
        lines: selection.lines,
        rounds: if smoke { 1 } else { usize::from(arguments.rounds) },
        seconds: if smoke { SMOKE_SECONDS } else { arguments.seconds },
        patience: Duration::from_secs_f64(if smoke { 0.0 } else { arguments.patience }),
        share: if smoke { 0.0 } else { SHARE },
        directory: changes.directory().to_owned(),
    };
    let stopped = || stop.load(Ordering::Relaxed);
    let mut say = |text: &str| eprintln!("{text}");
    let taken = Rounds::new(&plan, missing, &stopped, &mut say).run();
    drop(changes);
    let mut bars = bars::all(&taken, &plan.loads, &plan.lines);
    if smoke {
        bars.iter_mut().for_each(bars::Bar::is_not_asked);
    }
    let json = serde_json::to_string_pretty(&report::json(&plan, &taken, &bars))?;
    if let Some(file) = &arguments.save {
        std::fs::write(file, &json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if arguments.json {
        println!("{json}");
    } else {
        print!("{}", report::text(&plan, &taken, &bars));
    }
    ensure!(!stopped(), "stopped before the end");
    if smoke {
        let verdict = smoke::judge(&plan, &taken, &bars, std::env::var_os("CI").is_some());
        eprint!("{}", verdict.text);
        ensure!(verdict.good, "not all of it runs");
    }
    Ok(())
}
