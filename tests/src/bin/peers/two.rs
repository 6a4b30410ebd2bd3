//! Two sides on a core each, as two threads or as two processes.

use std::io::{Read, Write, pipe};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use xenvelope_hypervisor_sim::processes::in_child;

use super::window::Part;

/// The core of the sender, and of the receiver.
pub const CORES: [usize; 2] = [0, 1];

/// What the two sides are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sides {
    /// Threads of one process.
    Threads,
    /// Processes, which share what was shared before.
    Processes,
}

/// Keeps the calling thread on a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("core {core} cannot be had; sender and receiver need one each"))
}

/// Has both sides run, each on its core, with `meanwhile` called from time to time here. What the
/// sender did, then what the receiver did.
pub fn both_sides(
    sides: Sides,
    send: impl FnMut() -> Part + Send,
    receive: impl FnMut() -> Part + Send,
    meanwhile: impl FnMut(),
) -> Result<[Part; 2]> {
    match sides {
        Sides::Threads => as_threads(send, receive, meanwhile),
        Sides::Processes => as_processes(send, receive, meanwhile),
    }
}

/// Between two looks after the driver domain: it must not take the sides' cores from them.
pub const PAUSE: Duration = Duration::from_millis(20);

fn as_threads(
    mut send: impl FnMut() -> Part + Send,
    mut receive: impl FnMut() -> Part + Send,
    mut meanwhile: impl FnMut(),
) -> Result<[Part; 2]> {
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || pin(CORES[0]).map(|()| send()));
        let receiver = scope.spawn(move || pin(CORES[1]).map(|()| receive()));
        while !(sender.is_finished() && receiver.is_finished()) {
            meanwhile();
            std::thread::sleep(PAUSE);
        }
        let joined = [sender.join(), receiver.join()].map(|part| match part {
            Ok(part) => part,
            Err(_) => bail!("a side has panicked; its message is above"),
        });
        let [sent, received] = joined;
        Ok([sent?, received?])
    })
}

fn as_processes(
    mut send: impl FnMut() -> Part,
    mut receive: impl FnMut() -> Part,
    mut meanwhile: impl FnMut(),
) -> Result<[Part; 2]> {
    let (sender, mut told_by_sender) = child(CORES[0], &mut send)?;
    let (receiver, mut told_by_receiver) = child(CORES[1], &mut receive)?;
    let mut running = vec![sender, receiver];
    while !running.is_empty() {
        meanwhile();
        std::thread::sleep(PAUSE);
        let mut failed = false;
        running.retain(|process| match waitpid(*process, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => true,
            Ok(WaitStatus::Exited(_, 0)) => false,
            _ => {
                failed = true;
                false
            }
        });
        if failed {
            for process in &running {
                let _ = nix::sys::signal::kill(*process, Signal::SIGKILL);
                let _ = waitpid(*process, None);
            }
            bail!("one of two processes has failed; its message is above");
        }
    }
    let part = |from: &mut dyn Read| -> Result<Part> {
        let mut text = String::new();
        from.read_to_string(&mut text)?;
        ensure!(!text.is_empty(), "one of two processes has ended without a word");
        Ok(serde_json::from_str(&text)?)
    };
    Ok([part(&mut told_by_sender)?, part(&mut told_by_receiver)?])
}

/// Runs one side in a process of its own, and gives the pipe that it tells its part by.
fn child(core: usize, side: &mut dyn FnMut() -> Part) -> Result<(Pid, std::io::PipeReader)> {
    let (reader, writer) = pipe()?;
    let process = in_child(|| {
        let told = (|| -> Result<()> {
            set_pdeathsig(Signal::SIGKILL)?;
            pin(core)?;
            let part = side();
            (&writer).write_all(serde_json::to_string(&part)?.as_bytes())?;
            Ok(())
        })();
        if let Err(cause) = told {
            eprintln!("error: {cause:#}");
        }
    })?;
    Ok((process, reader))
}
