//! The simulator's program: builds a host, runs transfers over every route, prints what each
//! costs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use xenvelope_hypervisor_sim::cli::mechanisms::Mechanisms;
use xenvelope_hypervisor_sim::cli::{Arguments, Command, TapArguments};
use xenvelope_hypervisor_sim::host::Host;
use xenvelope_hypervisor_sim::stack::Payload;
use xenvelope_hypervisor_sim::store_server::StoreServer;
use xenvelope_hypervisor_sim::{mechanisms, tap};

mod mixed;
mod plot;
mod routes;
mod sweep;

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
        Some(Command::Mixed(arguments)) => mixed::run(arguments),
        Some(Command::Sweep(arguments)) => sweep::run(arguments),
        Some(Command::Plot(arguments)) => plot::run(arguments),
        Some(Command::Mechanisms(asked)) => compare_mechanisms(asked),
        None => routes::run(&arguments),
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

fn run_tap(arguments: &TapArguments) -> Result<bool, Failure> {
    let outcome = tap::run(arguments, &mut |line| say(line));
    outcome.map(|()| true).map_err(|error| match error.is_input() {
        true => Failure::Input(error.to_string()),
        false => Failure::Run(error.into()),
    })
}

/// The grant mechanisms side by side. Whether every transfer arrived as it was sent.
fn compare_mechanisms(asked: &Mechanisms) -> Result<bool, Failure> {
    let comparison = mechanisms::compare(&asked.plan())?;
    let text = if asked.json { comparison.json()? } else { comparison.text() };
    say(&text)?;
    Ok(comparison.all_right())
}

/// The store's socket, for as long as what this gives is kept.
fn serve_store(host: &Host, path: Option<&Path>) -> Result<Option<StoreServer>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let started = StoreServer::start(&host.machine, path);
    started.map(Some).map_err(|cause| Failure::Input(cause.to_string()))
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

/// Prints a text. Who reads it may have had enough: that is no failure.
fn say(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
