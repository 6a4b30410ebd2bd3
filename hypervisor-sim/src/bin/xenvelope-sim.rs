//! The simulator's program: builds a host, runs transfers over every route, prints what each
//! costs.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use xenvelope_hypervisor_sim::cli::Arguments;
use xenvelope_hypervisor_sim::host::Host;
use xenvelope_hypervisor_sim::measure::{Bench, FrameSize, flip, plan};
use xenvelope_hypervisor_sim::report::{Report, flip_text, json, text};
use xenvelope_hypervisor_sim::stack::Payload;
use xenvelope_hypervisor_sim::store_server::StoreServer;

/// What was asked for makes no sense.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(command) => match *command {},
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

fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None => std::env::current_exe().context("cannot find this program's own file")?,
    };
    let payload = Payload::read(&file).map_err(|cause| Failure::Input(cause.to_string()))?;
    let spec = arguments.host();
    spec.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    let progress = bar(arguments);
    progress.set_message("starting the host");
    let host = Host::start(&spec)?;
    if let Some(engine) = arguments.mover.engine() {
        host.machine.start_engine(engine).context("cannot start the copy engine")?;
    }
    let _store = serve_store(&host, arguments)?;
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
    let report = Report {
        costs: spec.costs,
        bus_gbit: arguments.bus_gbit,
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

/// The store's socket, for as long as what this gives is kept.
fn serve_store(host: &Host, arguments: &Arguments) -> Result<Option<StoreServer>, Failure> {
    let Some(path) = &arguments.store else { return Ok(None) };
    let started = StoreServer::start(&host.machine, path);
    started.map(Some).map_err(|cause| Failure::Input(cause.to_string()))
}

fn bar(arguments: &Arguments) -> ProgressBar {
    if arguments.json {
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
