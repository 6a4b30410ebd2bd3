//! One transfer over time: its meters are read all the while, also while its route changes, its
//! VF is pulled and put back.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant as StdInstant};

use xenvelope_backend::PairRoute;

use super::{Bench, Cell, FrameSize, MeasureError, RouteName};
use crate::nic::Nic;
use crate::stack::Progress;

/// What the meters said over one interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tick {
    /// The middle of the interval, in seconds since the first payload came.
    pub at: f64,
    /// Gbit/s of payload.
    pub gbit_per_s: f64,
    /// Gbit/s on the I/O bus, both directions together.
    pub bus_gbit_per_s: f64,
}

/// Something that was changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Turn {
    /// When it was asked for, in seconds since the first payload came.
    pub at: f64,
    /// What is in force from then on.
    pub what: &'static str,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Timeline {
    /// Who sent.
    pub from: String,
    /// Who received.
    pub to: String,
    /// The meters.
    pub ticks: Vec<Tick>,
    /// The changes.
    pub turns: Vec<Turn>,
    /// The longest time without payload, in seconds.
    pub longest_gap: f64,
    /// Whether every pass had the right SHA-256.
    pub sha256_ok: bool,
}

/// How often the meters are read.
const TICK: Duration = Duration::from_millis(20);
/// How often it is looked whether payload comes: what a gap is told from.
const LOOK: Duration = Duration::from_millis(1);

/// Runs a transfer between the first two guests with a VF, each part of it `part` long. Nothing if
/// there are no two.
///
/// # Errors
/// If the connection breaks, or the VF does not come back.
pub fn timeline(
    bench: &mut Bench<'_>,
    frame: FrameSize,
    part: Duration,
) -> Result<Option<Timeline>, MeasureError> {
    let host = bench.host;
    let with_vf: Vec<_> = host.guests.iter().filter(|guest| guest.vf.is_some()).collect();
    let [one, other, ..] = with_vf[..] else { return Ok(None) };
    let (from, to) = (one.name.clone(), other.name.clone());
    let cell = Cell { route: RouteName::NicFrame, from: from.clone(), to: to.clone() };
    bench.set_frame(frame)?;
    bench.set_route(&from, &to, PairRoute::NicFrame)?;
    let progress = bench.begin(&from, &to, frame)?;
    host.wait_for("the first payload", Duration::from_secs(60), |_| {
        Ok(progress.bytes.load(Relaxed) > 0 || progress.broken.load(Relaxed))
    })?;
    let begun = StdInstant::now();
    let (over, nic) = (AtomicBool::new(false), &host.nic);
    let (turns, (ticks, longest_gap)) = std::thread::scope(|scope| {
        let meters = scope.spawn(|| read_meters(nic, &progress, begun, &over));
        let turns = make_turns(bench, &from, &to, begun, part);
        over.store(true, Release);
        // The thread reads counters and sleeps; it has nothing to panic at.
        (turns, meters.join().unwrap_or_default())
    });
    let finished = bench.finish(&cell, &progress);
    // Also if a part of it failed: whoever uses the host next finds the VF there.
    if !one.snapshot()?.vf {
        host.plug_vf(one)?;
    }
    let turns = turns?;
    finished?;
    let sha256_ok = progress.good.load(Relaxed) > 0 && progress.bad.load(Relaxed) == 0;
    Ok(Some(Timeline { from, to, ticks, turns, longest_gap, sha256_ok }))
}

fn make_turns(
    bench: &Bench<'_>,
    from: &str,
    to: &str,
    begun: StdInstant,
    part: Duration,
) -> Result<Vec<Turn>, MeasureError> {
    let host = bench.host;
    let guest = host.guest(from).ok_or_else(|| MeasureError::NoSuchGuest(from.to_owned()))?;
    let mut turns = vec![Turn { at: 0.0, what: "frames through the card" }];
    for what in ["envelopes through the card", "VF pulled: a channel", "VF put back"] {
        std::thread::sleep(part);
        turns.push(Turn { at: begun.elapsed().as_secs_f64(), what });
        match turns.len() {
            2 => bench.set_route(from, to, PairRoute::NicEnvelope)?,
            3 => {
                host.unplug_vf(guest)?;
            }
            _ => {
                host.plug_vf(guest)?;
                host.wait_for("the VF to come back", Duration::from_secs(10), |_| {
                    guest.snapshot().map(|snapshot| snapshot.vf)
                })?;
            }
        }
    }
    std::thread::sleep(part);
    Ok(turns)
}

fn read_meters(
    nic: &Nic,
    progress: &Progress,
    begun: StdInstant,
    over: &AtomicBool,
) -> (Vec<Tick>, f64) {
    let read = || {
        let bus = nic.total_counters().total();
        (begun.elapsed().as_secs_f64(), progress.bytes.load(Relaxed), bus)
    };
    let (mut ticks, mut gap) = (Vec::new(), Duration::ZERO);
    let (mut last, mut next) = (read(), StdInstant::now() + TICK);
    let mut came = (last.1, StdInstant::now());
    while !over.load(Acquire) {
        std::thread::sleep(LOOK);
        let bytes = progress.bytes.load(Relaxed);
        if bytes != came.0 {
            gap = gap.max(came.1.elapsed());
            came = (bytes, StdInstant::now());
        }
        if StdInstant::now() < next {
            continue;
        }
        next += TICK;
        let now = read();
        let seconds = (now.0 - last.0).max(1e-9);
        let gbit = |bytes: u64| bytes as f64 * 8.0 / seconds / 1e9;
        ticks.push(Tick {
            at: (now.0 + last.0) / 2.0,
            gbit_per_s: gbit(now.1 - last.1),
            bus_gbit_per_s: gbit(now.2 - last.2),
        });
        last = now;
    }
    (ticks, gap.max(came.1.elapsed()).as_secs_f64())
}
