//! One transfer whose route changes under way: frames through the card, then envelopes through
//! the card, then, its VF pulled, a channel. TCP notices nothing but the speed.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant as StdInstant};

use xenvelope_backend::PairRoute;

use super::{Bench, Cell, FrameSize, MeasureError, RouteName};
use crate::stack::Progress;

/// A part of the transfer.
#[derive(Clone, Debug)]
pub struct FlipPhase {
    /// What is in force.
    pub name: &'static str,
    /// Gbit/s of payload.
    pub gbit_per_s: f64,
    /// DMA bytes for each byte of payload.
    pub bus_bytes_per_payload_byte: f64,
    /// How long no payload arrived after the change: TCP's own timer, where frames were lost.
    pub stalled: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct FlipResult {
    /// Who sent.
    pub from: String,
    /// Who received.
    pub to: String,
    /// The parts, in order.
    pub phases: Vec<FlipPhase>,
    /// Bytes that arrived in all.
    pub payload_bytes: u64,
    /// Passes of the file that arrived whole.
    pub passes: u64,
    /// Whether every pass had the right SHA-256.
    pub sha256_ok: bool,
}

/// How often the meters are read.
const TICK: Duration = Duration::from_millis(100);
/// What is in the rings when a route changes belongs to the old one: the meters start after it.
const SETTLE: Duration = Duration::from_millis(100);
/// By then whatever was on the old route has arrived or is lost.
const UNDERWAY: Duration = Duration::from_millis(20);
/// TCP gives up later than this, but nobody wants to watch it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the transfer, each part `time` long. `meter` is told the part, Gbit/s and bus bytes for
/// each payload byte as they are.
pub fn flip(
    bench: &mut Bench<'_>,
    frame: FrameSize,
    time: Duration,
    mut meter: impl FnMut(&str, f64, f64),
) -> Result<Option<FlipResult>, MeasureError> {
    let host = bench.host;
    let with_vf: Vec<_> = host.guests.iter().filter(|guest| guest.vf.is_some()).collect();
    if !host.nic.config().kind.switches() {
        return Ok(None);
    }
    let [one, other, ..] = with_vf[..] else { return Ok(None) };
    let (from, to) = (one.name.clone(), other.name.clone());
    let cell = Cell { route: RouteName::NicFrame, from: from.clone(), to: to.clone() };
    bench.set_frame(frame)?;
    bench.set_route(&from, &to, PairRoute::NicFrame)?;
    let progress = bench.begin(&from, &to, frame)?;
    let meters = || (progress.bytes.load(Relaxed), host.nic.total_counters().total());
    let mut phases = Vec::new();
    for name in ["frames through the card", "envelopes through the card", "VF pulled: a channel"] {
        match phases.len() {
            0 => {}
            1 => bench.set_route(&from, &to, PairRoute::NicEnvelope)?,
            _ => {
                host.unplug_vf(one)?;
            }
        }
        let stalled = wait_for_payload(&progress);
        std::thread::sleep(SETTLE);
        let (begun, start) = (StdInstant::now(), meters());
        let mut last = (begun, start);
        while begun.elapsed() < time && !progress.broken.load(Relaxed) {
            std::thread::sleep(TICK.min(time));
            let now = (StdInstant::now(), meters());
            let (speed, bus) = rates(last, now);
            meter(name, speed, bus);
            last = now;
        }
        let (gbit_per_s, bus_bytes_per_payload_byte) =
            rates((begun, start), (StdInstant::now(), meters()));
        phases.push(FlipPhase { name, gbit_per_s, bus_bytes_per_payload_byte, stalled });
    }
    let finished = bench.finish(&cell, &progress);
    host.plug_vf(one)?;
    finished?;
    bench.host.wait_for("the VF to come back", Duration::from_secs(10), |host| {
        match host.guest(&from) {
            Some(guest) => guest.snapshot().map(|snapshot| snapshot.vf),
            None => Ok(true),
        }
    })?;
    let (good, bad) = (progress.good.load(Relaxed), progress.bad.load(Relaxed));
    Ok(Some(FlipResult {
        from,
        to,
        phases,
        payload_bytes: progress.bytes.load(Relaxed),
        passes: good,
        sha256_ok: good > 0 && bad == 0,
    }))
}

/// Waits until payload arrives again, and says how long that took.
fn wait_for_payload(progress: &Progress) -> Duration {
    let begun = StdInstant::now();
    // What is underway when the route changes still arrives; then there may be a gap.
    std::thread::sleep(UNDERWAY);
    let before = progress.bytes.load(Relaxed);
    while progress.bytes.load(Relaxed) == before
        && !progress.broken.load(Relaxed)
        && begun.elapsed() < PATIENCE
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed().saturating_sub(UNDERWAY)
}

/// Gbit/s, and bus bytes for each payload byte, between two readings.
fn rates(from: (StdInstant, (u64, u64)), to: (StdInstant, (u64, u64))) -> (f64, f64) {
    let seconds = (to.0 - from.0).as_secs_f64().max(1e-9);
    let (bytes, bus) = (to.1.0 - from.1.0, to.1.1 - from.1.1);
    (bytes as f64 * 8.0 / seconds / 1e9, bus as f64 / bytes.max(1) as f64)
}
