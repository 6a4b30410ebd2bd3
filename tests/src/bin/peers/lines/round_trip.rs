//! The round trip of a sleeping pair: each side sleeps until the other's frame wakes it, against
//! two threads that wake each other by eventfd.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::eventfd::EventFd;
use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_grant::seam::{Buffer, Host as _, Offload};
use xenvelope_hypervisor_sim::machine::Costs;

use super::{Line, Measured, nothing};
use crate::bars::Asks;
use crate::frame::MACS;
use crate::ours::{Guest, Pair};
use crate::statistics::median;
use crate::two::{CORES, PAUSE, Sides, pin};

/// The line.
///
/// What decides is the pair whose hypercalls are for free: in the simulator an event *is* a wake-up
/// by the system, which takes its time, and the stated cost of an event on Xen would come on top
/// of it. What it is when both sides look at their rings before they sleep is reported beside it:
/// nobody sleeps then.
pub const LINE: Line = Line {
    name: "round-trip",
    describes: "a sleeping pair's round trip, 64 B, against an eventfd ping-pong",
    asks: &[("calls for free", Asks::AtMost(1.5))],
    needs: nothing,
    run,
};

const FRAME: usize = 64;
/// How long a side sleeps at most.
const NAP: u64 = 5_000_000;
/// For how long at most a side looks at its rings before it sleeps, where it does.
const LOOK: Duration = Duration::from_micros(50);
/// Trips of each batch of which the median is taken.
const TRIPS: u32 = 100;

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let slice = length / 4;
    let eventfd = by_eventfd(slice)?;
    let mut measured = Vec::new();
    for (what, costs, look) in [
        ("calls for free", Costs::ideal(), Duration::ZERO),
        ("calls at their stated cost", Costs::published(), Duration::ZERO),
        ("polling before the sleep, calls at their stated cost", Costs::published(), LOOK),
    ] {
        measured.push(Measured {
            what: what.to_owned(),
            against: "eventfd ping-pong".to_owned(),
            unit: "us".to_owned(),
            ours: by_envelope(costs, look, slice)?,
            other: eventfd,
        });
    }
    Ok(measured)
}

/// Calls `trip` for some time; the median over batches of what one takes, in microseconds.
fn time(length: Duration, mut trip: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..TRIPS {
        trip()?;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < length {
        let batch = Instant::now();
        for _ in 0..TRIPS {
            trip()?;
        }
        times.push(batch.elapsed().as_secs_f64() * 1e6 / f64::from(TRIPS));
    }
    median(&times).context("no trip ended")
}

fn by_eventfd(length: Duration) -> Result<f64> {
    let (there, back) = (EventFd::new()?, EventFd::new()?);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<()> {
            pin(CORES[1])?;
            loop {
                there.read()?;
                if stop.load(Relaxed) {
                    return Ok(());
                }
                back.write(1)?;
            }
        });
        let took = pin(CORES[0]).and_then(|()| {
            time(length, || {
                there.write(1)?;
                back.read()?;
                Ok(())
            })
        });
        stop.store(true, Relaxed);
        there.write(1)?;
        echo.join().map_err(|_| anyhow::anyhow!("the other side has panicked"))??;
        took
    })
}

fn by_envelope(costs: Costs, look: Duration, length: Duration) -> Result<f64> {
    let mut pair = Pair::connect(costs, Sides::Threads)?;
    for guest in &mut pair.guests {
        guest.frontend.poll_before_sleep(look);
    }
    let stop = AtomicBool::new(false);
    let Pair { guests: [caller, echo], backend, dom0, .. } = &mut pair;
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| -> Result<()> {
            pin(CORES[1])?;
            while !stop.load(Relaxed) {
                if wait_for_frame(echo) {
                    send(echo, 1)?;
                }
            }
            Ok(())
        });
        let calling = scope.spawn(|| -> Result<f64> {
            pin(CORES[0])?;
            time(length, || {
                send(caller, 0)?;
                let start = Instant::now();
                while !wait_for_frame(caller) {
                    ensure!(start.elapsed() < Duration::from_secs(2), "no answer came");
                }
                Ok(())
            })
        });
        // A driver domain whose heart does not beat has its table disbelieved.
        while !calling.is_finished() {
            backend.poll(dom0.now());
            std::thread::sleep(PAUSE);
        }
        stop.store(true, Relaxed);
        let joined = [answering.join().map(|ended| ended.map(|()| 0.0)), calling.join()];
        let [answered, took] =
            joined.map(|ended| ended.unwrap_or_else(|_| bail!("a side has panicked")));
        answered.and(took)
    })
}

fn send(guest: &mut Guest, from: usize) -> Result<()> {
    let mut buffer = guest.frontend.buffer(FRAME).context("no buffer")?;
    let place = FRAME_AT..FRAME_AT + FRAME;
    let bytes = &mut buffer.stack_bytes_mut()[place.clone()];
    bytes[..6].copy_from_slice(&MACS[1 - from].0);
    bytes[6..12].copy_from_slice(&MACS[from].0);
    bytes[12..14].copy_from_slice(&[0x88, 0xb6]);
    guest.frontend.send(buffer, place, Offload::default());
    guest.frontend.flush(guest.domain.now());
    Ok(())
}

/// Sleeps until something comes. Whether it was a frame.
fn wait_for_frame(guest: &mut Guest) -> bool {
    let now = guest.domain.now();
    guest.frontend.poll(now);
    if guest.frontend.receive(|_, _| ()).is_some() {
        return true;
    }
    // What the poll has emptied is said before the sleep.
    guest.frontend.flush(now);
    let until = xenvelope_grant::seam::Instant(now.0 + NAP);
    guest.frontend.wait(until);
    false
}
