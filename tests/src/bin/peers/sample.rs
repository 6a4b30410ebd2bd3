//! One sample, in a process of its own: fresh memory, fresh caches, nothing left of the last one.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use xenvelope_hypervisor_sim::machine::Costs;

use super::contender::{Contender, Load};
use super::lines::{self, Measured};
use super::two::{CORES, Sides, pin};
use super::window::Part;
use super::{bare, distance, dpdk, kernel, ours};

/// What is to be measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Task {
    /// How fast somebody moves frames.
    Frames(Contender, Load),
    /// How fast one thread copies them, and how far the cores are from each other.
    Limits(Load),
    /// Another line of the table of bars, by its name.
    Line(String),
}

/// What came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// What sender and receiver did.
    Parts([Part; 2]),
    /// Copies a second, and nanoseconds of a cache line there and back.
    Limits(f64, f64),
    /// Figures of a line.
    Measured(Vec<Measured>),
    /// It cannot be measured, and why.
    Failed(String),
}

/// An order to a sample's process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What.
    pub task: Task,
    /// For how many seconds.
    pub seconds: f64,
    /// Where sockets go.
    pub directory: PathBuf,
}

/// How much longer than its time a sample may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Has a fresh process carry the order out.
pub fn take(order: &Order, stopped: &dyn Fn() -> bool) -> Result<Outcome> {
    // Before all others on its cores, and so are all that it starts. Where that is not allowed it
    // runs all the same.
    let mut command = Command::new("nice");
    command
        .args(["-n", "-20"])
        .arg(std::env::current_exe()?)
        .arg("--sample")
        .arg(serde_json::to_string(order)?);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.context("nice, of coreutils, does not run")?;
    let end = Instant::now() + PATIENCE + Duration::from_secs_f64(order.seconds * 4.0);
    // It says one line, which a pipe holds.
    while child.try_wait()?.is_none() {
        if Instant::now() > end || stopped() {
            let _ = child.kill();
            let _ = child.wait();
            bail!("a sample did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut said)?;
    }
    let line = said.lines().last().context("a sample's process said nothing")?;
    serde_json::from_str(line).context("a sample's process said nothing that makes sense")
}

/// What the sample's process does.
pub fn carry_out(order: &str) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let order: Order = serde_json::from_str(order)?;
    let length = Duration::from_secs_f64(order.seconds);
    let outcome = match &order.task {
        Task::Frames(contender, load) => {
            frames(*contender, *load, length, &order.directory).map(Outcome::Parts)
        }
        Task::Limits(load) => limits(*load, length),
        Task::Line(name) => lines::find(name)
            .context("there is no such line")
            .and_then(|line| (line.run)(length, &order.directory))
            .map(Outcome::Measured),
    };
    let outcome = outcome.unwrap_or_else(|cause| Outcome::Failed(format!("{cause:#}")));
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn limits(load: Load, length: Duration) -> Result<Outcome> {
    let round_trip_ns = distance::round_trip_ns()?;
    pin(CORES[1])?;
    Ok(Outcome::Limits(bare::copies_per_second(load, length)?, round_trip_ns))
}

fn frames(
    contender: Contender,
    load: Load,
    length: Duration,
    directory: &Path,
) -> Result<[Part; 2]> {
    use Contender::*;
    let (ideal, stated) = (Costs::ideal(), Costs::published());
    match contender {
        OursThreadsIdeal => ours::run(load, ideal, Sides::Threads, length),
        OursThreads => ours::run(load, stated, Sides::Threads, length),
        OursProcessesIdeal => ours::run(load, ideal, Sides::Processes, length),
        OursProcesses => ours::run(load, stated, Sides::Processes, length),
        BareThreads => bare::run(load, Sides::Threads, length),
        BareProcesses => bare::run(load, Sides::Processes, length),
        VhostSplit | VhostPacked | MemifToServer | MemifToClient => {
            dpdk::run(contender, load, length, directory)
        }
        AfPacket | Tap => kernel::run(contender, load, length),
    }
}
