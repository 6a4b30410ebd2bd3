//! The simulator's program: builds a host, runs transfers over every route, prints what each
//! costs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use xenvelope_hypervisor_sim::capture::{Capture, CaptureError};
use xenvelope_hypervisor_sim::cli::{
    Arguments, Command, MixedArguments, PlotArguments, SweepArguments, TapArguments,
};
use xenvelope_hypervisor_sim::host::Host;
use xenvelope_hypervisor_sim::measure::{
    Bench, FrameSize, Topology, flip, mixed, plan, sweep_point,
};
use xenvelope_hypervisor_sim::plot;
use xenvelope_hypervisor_sim::report::{
    Report, flip_text, json, mixed_json, mixed_text, sweep_json, sweep_text, text,
};
use xenvelope_hypervisor_sim::stack::Payload;
use xenvelope_hypervisor_sim::tap;

/// What was asked for makes no sense.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Tap(arguments)) => run_tap(arguments),
        Some(Command::Mixed(arguments)) => run_mixed(arguments),
        Some(Command::Sweep(arguments)) => run_sweep(arguments),
        Some(Command::Plot(arguments)) => run_plot(arguments),
        None => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: a transfer did not arrive as it was sent");
            ExitCode::FAILURE
        }
        Err(Failure::Input(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(BAD_INPUT)
        }
        Err(Failure::Run(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    /// What was asked for makes no sense.
    Input(String),
    /// It made sense, and went wrong.
    Run(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Run(error.into())
    }
}

/// The file to send.
fn payload(asked: Option<&Path>) -> Result<(PathBuf, Payload), Failure> {
    let file = match asked {
        Some(file) => file.to_owned(),
        None => std::env::current_exe().context("cannot find this program's own file")?,
    };
    let payload = Payload::read(&file).map_err(|cause| Failure::Input(cause.to_string()))?;
    Ok((file, payload))
}

fn run_mixed(arguments: &MixedArguments) -> Result<bool, Failure> {
    let (_, payload) = payload(arguments.file.as_deref())?;
    let plan = arguments.plan().map_err(|cause| Failure::Input(cause.to_string()))?;
    let spec = plan.host(arguments.costs(), arguments.bus_gbit);
    spec.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    let host = Host::start(&spec)?;
    host.wait_connected()?;
    let result = mixed(&mut Bench::new(&host, payload), &plan, arguments.frame, arguments.seconds)?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&mixed_json(&result))?)?;
    } else {
        say(&mixed_text(&result))?;
    }
    Ok(result.all_right())
}

fn run_sweep(arguments: &SweepArguments) -> Result<bool, Failure> {
    let sweep = arguments.sweep();
    let progress = bar(arguments.json);
    progress.set_length((arguments.guests.len() * Topology::ALL.len()) as u64);
    let mut rows = Vec::new();
    for guests in &arguments.guests {
        for topology in Topology::ALL {
            progress.set_message(format!("{guests} guests, {}", topology.name()));
            rows.push(sweep_point(&sweep, *guests, topology)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if arguments.json {
        say(&serde_json::to_string_pretty(&sweep_json(&sweep, &rows))?)?;
    } else {
        say(&sweep_text(&sweep, &rows))?;
    }
    Ok(rows.iter().all(|row| row.wrong == 0))
}

fn run_plot(arguments: &PlotArguments) -> Result<bool, Failure> {
    let out =
        plot::Output::create(&arguments.out).map_err(|cause| Failure::Input(cause.to_string()))?;
    let progress = bar(false);
    let plan = plot::Plan::new(arguments.quick, arguments.rounds);
    let measured = plan.measure(|done, of, what| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
        progress.set_message(what.to_owned());
    })?;
    let run = plot::Run::new(plot::command_line(arguments), &plan);
    let figures = plot::figures(&measured);
    out.write(&run, &figures)?;
    progress.finish_and_clear();
    for figure in &figures {
        say(&format!("{}: {}", figure.id, figure.finding))?;
    }
    say(&format!("written to {}", out.page().display()))?;
    Ok(measured.all_right())
}

fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let (file, payload) = payload(arguments.file.as_deref())?;
    arguments.card.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    let spec = arguments.host();
    spec.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    let capture = arguments.capture.begin().map_err(|cause| match cause {
        CaptureError::Create { .. } => Failure::Input(cause.to_string()),
        other => Failure::Run(other.into()),
    })?;
    let progress = bar(arguments.json);
    progress.set_message("starting the host");
    let host = Host::start_recorded(&spec, capture.as_ref().map(Capture::recorder))?;
    host.wait_connected()?;

    let asked = !arguments.route.is_empty();
    let mut cells = Vec::new();
    for route in arguments.routes() {
        match plan(&host, route) {
            Ok(planned) => cells.extend(planned),
            Err(lacks) if asked => return Err(Failure::Input(lacks)),
            Err(lacks) => progress.suspend(|| eprintln!("left out: {lacks}")),
        }
    }
    let frames = arguments.frames();
    let limits = arguments.limits();
    let mut bench = Bench::new(&host, payload.clone());
    let largest = frames.iter().max_by_key(|frame| frame.bytes()).copied();
    let flip = match largest {
        Some(frame) if !asked => run_flip(&mut bench, frame, arguments, &progress)?,
        _ => None,
    };
    progress.set_length((cells.len() * frames.len()) as u64);
    let mut results = Vec::new();
    for cell in &cells {
        for frame in &frames {
            progress.set_message(format!(
                "{} {} → {}, {} bytes",
                cell.route.name(),
                cell.from,
                cell.to,
                frame.bytes()
            ));
            results.push(bench.run(cell, *frame, limits)?);
            progress.inc(1);
        }
    }
    let ledger = host.settle()??;
    progress.finish_and_clear();
    if let Some(capture) = capture {
        eprintln!("{}", capture.finish()?);
    }
    let report = Report {
        costs: spec.costs,
        bus_gbit: arguments.bus_gbit,
        card: host.card(),
        guests: host.guests.len(),
        payload: (file.display().to_string(), payload.bytes().len()),
        flip,
        cells: results,
        ledger,
    };
    if arguments.json {
        say(&json(&report)?)?;
    } else {
        say(&text(&report))?;
    }
    Ok(report.all_right())
}

fn run_tap(arguments: &TapArguments) -> Result<bool, Failure> {
    let outcome = tap::run(arguments, &mut |line| say(line));
    outcome.map(|()| true).map_err(|error| match error.is_input() {
        true => Failure::Input(error.to_string()),
        false => Failure::Run(error.into()),
    })
}

fn bar(hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    // The template is a constant that the library takes.
    if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn run_flip(
    bench: &mut Bench<'_>,
    frame: FrameSize,
    arguments: &Arguments,
    progress: &ProgressBar,
) -> Result<Option<xenvelope_hypervisor_sim::measure::FlipResult>, Failure> {
    let result = flip(bench, frame, arguments.seconds, |phase, gbit, bus| {
        progress.set_message(format!("{phase}: {gbit:.1} Gbit/s, I/O bus {:.1} %", bus * 100.0));
    })?;
    if let Some(flip) = &result
        && !arguments.json
    {
        progress.suspend(|| say(&flip_text(flip, frame)))?;
    }
    Ok(result)
}

/// Prints a text. Who reads it may have had enough: that is no failure.
fn say(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
