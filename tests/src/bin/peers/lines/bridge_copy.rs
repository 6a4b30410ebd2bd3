//! What a received byte costs the receiving guest's processor: where the driver domain has copied
//! it (on another core), and where the guest copies it itself and reads it warm. The argument of
//! Santos, Turner and Mudigonda.
//!
//! The receiver has a core for itself and sleeps when nothing is there; sender and driver domain
//! have the other. The receiver reads every byte of each frame.

use std::hint::black_box;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant as StdInstant};

use anyhow::{Result, ensure};
use xenvelope_backend::PairRoute;
use xenvelope_grant::seam::{Host as _, Instant};
use xenvelope_hypervisor_sim::machine::Costs;
use xenvelope_hypervisor_sim::thread_clock::ThreadClock;

use super::{Line, Measured, nothing};
use crate::contender::Load;
use crate::frame::Writer;
use crate::ours::{Guest, Pair, send_burst};
use crate::programs::is_installed;
use crate::two::{CORES, Sides, pin};

/// The line.
pub const LINE: Line = Line {
    name: "bridge-copy-cpu",
    describes: "processor time of the receiving guest for each byte, switch-envelope against bridge-copy",
    asks: &[],
    needs: nothing,
    run,
};

const LOAD: Load = Load { length: 1500, burst: 32, full: true };
/// How long the receiver sleeps at most.
const NAP: u64 = 1_000_000;
const WARM_UP: Duration = Duration::from_millis(100);

/// What the receiver's processor did.
struct Cost {
    ns_a_byte: f64,
    misses_a_frame: Option<f64>,
}

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let ours = cost(PairRoute::Switch, length / 2)?;
    let other = cost(PairRoute::Bridge, length / 2)?;
    let figure = |what: &str, unit: &str, ours: f64, other: f64| Measured {
        what: what.to_owned(),
        against: "bridge-copy".to_owned(),
        unit: unit.to_owned(),
        ours,
        other,
    };
    let time = "processor time for each byte, switch-envelope";
    let mut measured = vec![figure(time, "ns", ours.ns_a_byte, other.ns_a_byte)];
    if let (Some(ours), Some(other)) = (ours.misses_a_frame, other.misses_a_frame) {
        measured.push(figure("cache misses for each frame, switch-envelope", "each", ours, other));
    }
    Ok(measured)
}

fn cost(route: PairRoute, length: Duration) -> Result<Cost> {
    let mut pair = Pair::connect_by(route, Costs::ideal(), Sides::Threads)?;
    let end = StdInstant::now() + WARM_UP + length;
    let Pair { guests: [sender, receiver], backend, dom0, .. } = &mut pair;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(receiver, end));
        pin(CORES[0])?;
        let mut writer = Writer::new(true);
        while StdInstant::now() < end {
            send_burst(sender, LOAD, &mut writer);
            backend.poll(dom0.now());
        }
        reading.join().map_err(|_| anyhow::anyhow!("the receiver has panicked"))?
    })
}

fn read_all(guest: &mut Guest, end: StdInstant) -> Result<Cost> {
    pin(CORES[1])?;
    let clock = ThreadClock::of_this_thread();
    let begin = StdInstant::now() + WARM_UP;
    let (mut before, mut frames, mut bytes) = (None, 0u64, 0u64);
    let mut misses = None;
    while StdInstant::now() < end {
        if before.is_none() && StdInstant::now() >= begin {
            misses = Misses::begin(end - StdInstant::now());
            (before, frames, bytes) = (clock.read(), 0, 0);
        }
        let now = guest.domain.now();
        let mut busy = guest.frontend.poll(now);
        while let Some(read) = guest.frontend.receive(|frame, _| {
            black_box(frame.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
            frame.len()
        }) {
            busy = true;
            frames += 1;
            bytes += read as u64;
        }
        guest.frontend.flush(now);
        if !busy {
            guest.frontend.wait(Instant(now.0 + NAP));
        }
    }
    let took = clock.read().zip(before).map(|(after, before)| after - before);
    ensure!(bytes > 0 && took.is_some(), "nothing was received");
    Ok(Cost {
        ns_a_byte: took.unwrap_or_default().as_nanos() as f64 / bytes as f64,
        misses_a_frame: misses.and_then(Misses::end).map(|misses| misses / frames as f64),
    })
}

/// Cache misses of the calling thread, counted by `perf` where that is installed and the processor
/// has counters; a virtual machine often has none.
struct Misses(Child);

impl Misses {
    fn begin(length: Duration) -> Option<Misses> {
        let counters = Path::new("/sys/bus/event_source/devices/cpu").exists();
        if !counters || !is_installed("perf") {
            return None;
        }
        let thread = nix::unistd::gettid().to_string();
        let seconds = length.as_secs_f64().to_string();
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", "cache-misses", "-t", &thread, "sleep", &seconds]);
        perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        perf.spawn().ok().map(Misses)
    }

    fn end(self) -> Option<f64> {
        let said = self.0.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        text.lines().find(|line| line.contains("cache-misses"))?.split(',').next()?.parse().ok()
    }
}
