//! One cell of the table: a transfer over one route at one frame size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant as StdInstant};

use thiserror::Error;
use xenvelope_backend::PairRoute;
use xenvelope_switch::MacAddress;

use super::route::EXTERNAL;
use super::sample::ENGINE;
use super::{RouteName, Sample};
use crate::host::{CpuTimes, Host, HostError, Unbalanced};
use crate::stack::{Job, Payload, Pings, Progress};

/// A transfer to be measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    /// By which route.
    pub route: RouteName,
    /// Who sends.
    pub from: String,
    /// Who receives.
    pub to: String,
}

/// How large frames are: `bytes` of IP packet at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameSize(usize);

/// The MTU of the network: longer frames are TCP segments that are cut where they leave the host.
const MTU: usize = 1500;
/// Headers of TCP over IPv4.
const TCP_HEADERS: usize = 40;
/// Frames of a window for which a guest that keeps up has buffers posted: of a ring of 256 those
/// that the window before has used may still be on their way back.
const POSTED: usize = 96;
/// Bytes of the longest IP packet such that the frame fits netif's 16-bit size.
const LONGEST: usize = 65535 - 14;

impl FrameSize {
    /// The smallest that IPv4 lets a host require (RFC 791).
    pub const MIN: usize = 576;
    /// 64 KiB.
    pub const MAX: usize = 65536;

    /// Frames of `bytes`, if they are 576 to 65536.
    pub fn new(bytes: usize) -> Option<FrameSize> {
        (Self::MIN..=Self::MAX).contains(&bytes).then_some(FrameSize(bytes))
    }

    /// As it was asked for.
    pub fn bytes(self) -> usize {
        self.0
    }

    /// MTU, and the longest TCP segment that the stack hands over.
    fn stack(self) -> (usize, Option<usize>) {
        if self.0 <= MTU { (self.0, None) } else { (MTU, Some(self.0.min(LONGEST))) }
    }

    /// Socket buffers for what crosses the wire, where frames are of the MTU: what comes from
    /// outside, payload or one acknowledgement for each frame that left, must fit the ring of the
    /// guest, which fills it in batches. Nobody waits there: a card drops what it has no buffer
    /// for.
    fn wire_buffer(self) -> usize {
        let segment = self.0.min(MTU) - TCP_HEADERS;
        (POSTED * segment).min(256 << 10)
    }

    /// Socket buffers: what is in flight must fit the smallest ring on the way.
    fn socket_buffer(self) -> usize {
        // Below the MTU a window has more frames, so it must have fewer bytes.
        if self.0 <= MTU { (256 << 10) * self.0 / MTU } else { 512 << 10 }
    }
}

/// When a transfer is long enough.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// This long,
    pub time: Duration,
    /// or this many bytes.
    pub bytes: u64,
    /// For how long round trips are measured.
    pub pings: Duration,
}

/// What came of a cell. All of it is measured or counted in the run.
#[derive(Clone, Debug)]
pub struct CellResult {
    /// Which cell.
    pub cell: Cell,
    /// Frame size as it was asked for.
    pub frame_bytes: usize,
    /// Payload bytes that arrived.
    pub payload_bytes: u64,
    /// Gbit/s of payload.
    pub gbit_per_s: f64,
    /// Frames that the sender's stack handed over, a second.
    pub packets_per_s: f64,
    /// Bytes moved by processors over bytes of frames that were not inlined.
    pub payload_copies_per_packet: f64,
    /// Bytes moved by the copy engine over bytes of frames that were not inlined.
    pub engine_copies_per_packet: f64,
    /// Who moved bytes of frames, the copy engine too, most first: name and share.
    pub copied_by: Vec<(String, f64)>,
    /// Calls into the hypervisor by everybody, for each frame of the sender's stack.
    pub hypercalls_per_packet: f64,
    /// Events by everybody, for each frame of the sender's stack.
    pub events_per_packet: f64,
    /// Entries of grant tables that were made valid, by everybody, for each frame of the sender's
    /// stack.
    pub grants_per_packet: f64,
    /// Entries that were taken back, or tried to be, for each frame of the sender's stack.
    pub revokes_per_packet: f64,
    /// Frames in an envelope, both directions; nothing if there were no envelopes.
    pub frames_per_envelope: Option<f64>,
    /// Bytes of frames that went inside envelopes.
    pub inlined_bytes: u64,
    /// Bytes of tags that were copied with frames.
    pub tag_bytes: u64,
    /// DMA bytes of all ports for each byte of payload.
    pub bus_bytes_per_payload_byte: f64,
    /// Processor time by domain, from the start of the transfer to its end.
    pub cpu: CpuTimes,
    /// Round trips: median and 99th percentile, in microseconds.
    pub rtt_us: Option<(f64, f64)>,
    /// Drops by who dropped and why.
    pub drops: BTreeMap<String, u64>,
    /// Passes of the file that arrived whole.
    pub passes: u64,
    /// Whether every pass had the right SHA-256, and there was one.
    pub sha256_ok: bool,
}

impl CellResult {
    /// Whether more than a trace of the payload was moved by anybody.
    pub fn is_copied(&self) -> bool {
        self.copies_per_packet() >= 0.005
    }

    /// How often each byte of frames is moved, by processors and by the copy engine.
    pub fn copies_per_packet(&self) -> f64 {
        self.payload_copies_per_packet + self.engine_copies_per_packet
    }
}

/// For how long a transfer may take to begin, or to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Why a measurement failed.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No endpoint has that name.
    #[error("there is no guest {0:?}")]
    NoSuchGuest(String),
    /// The connection broke.
    #[error("the transfer from {from} to {to} by {route} broke after {bytes} bytes")]
    Broken {
        /// Who sent.
        from: String,
        /// Who received.
        to: String,
        /// By which route.
        route: &'static str,
        /// How much had arrived.
        bytes: u64,
    },
    /// Frames are missing.
    #[error(transparent)]
    Unbalanced(#[from] Unbalanced),
}

/// A host that measures.
pub struct Bench<'h> {
    /// The host.
    pub host: &'h Host,
    /// What is sent.
    pub payload: Payload,
    frame: Option<FrameSize>,
    port: u16,
}

impl<'h> Bench<'h> {
    /// Measures on a host that is connected.
    pub fn new(host: &'h Host, payload: Payload) -> Bench<'h> {
        Bench { host, payload, frame: None, port: 5000 }
    }

    /// Runs one cell.
    pub fn run(
        &mut self,
        cell: &Cell,
        frame: FrameSize,
        limits: Limits,
    ) -> Result<CellResult, MeasureError> {
        self.set_frame(frame)?;
        self.set_route(&cell.from, &cell.to, cell.route.asks())?;
        let ledger = self.host.settle()??;
        let before = Sample::take(self.host)?;
        let progress = self.begin(&cell.from, &cell.to, frame)?;
        // The time of a cell is that of its payload: resolving an address may take a second, in
        // which smoltcp asks for no other.
        self.host.wait_for("the first payload", PATIENCE, |_| {
            Ok(progress.bytes.load(Relaxed) > 0 || progress.broken.load(Relaxed))
        })?;
        let started = StdInstant::now();
        while progress.bytes.load(Relaxed) < limits.bytes
            && started.elapsed() < limits.time
            && !progress.broken.load(Relaxed)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.finish(cell, &progress)?;
        let after = Sample::take(self.host)?;
        let rtt_us = self.round_trips(cell, limits.pings)?;
        let drops = self.host.settle()??.since(&ledger).drops;
        Ok(result(cell, frame, &progress, &before, &after, rtt_us, drops))
    }

    /// Frame size for everybody.
    pub(super) fn set_frame(&mut self, frame: FrameSize) -> Result<(), MeasureError> {
        if self.frame != Some(frame) {
            let (mtu, gso) = frame.stack();
            for guest in &self.host.guests {
                guest.set_frames(mtu, gso)?;
            }
            self.frame = Some(frame);
        }
        Ok(())
    }

    /// Asks the manager for a route, and waits until it is there.
    pub(super) fn set_route(
        &self,
        from: &str,
        to: &str,
        route: PairRoute,
    ) -> Result<(), MeasureError> {
        let (Some(from), Some(to)) = (self.host.guest(from), self.host.guest(to)) else {
            return Ok(());
        };
        let (one, other): (MacAddress, MacAddress) = (from.mac, to.mac);
        self.host.driver_domain.call(move |backend| {
            backend.manager().set_route(one, other, route);
        })?;
        if route == PairRoute::Direct {
            let what = format!("the direct channel between {} and {}", from.name, to.name);
            self.host.wait_for(&what, Duration::from_secs(10), |_| {
                Ok(from.snapshot()?.direct > 0 && to.snapshot()?.direct > 0)
            })?;
        }
        // Once more through the driver domain's loop: what was asked for is in the tables.
        self.host.driver_domain.call(|_| ())?;
        Ok(())
    }

    /// Starts a transfer.
    pub(super) fn begin(
        &mut self,
        from: &str,
        to: &str,
        frame: FrameSize,
    ) -> Result<Arc<Progress>, MeasureError> {
        let progress = Arc::new(Progress::default());
        let buffer = if [from, to].contains(&EXTERNAL) {
            frame.wire_buffer()
        } else {
            frame.socket_buffer()
        };
        let port = self.next_port();
        let sink = Job::sink(port, self.payload.clone(), buffer, Arc::clone(&progress));
        let address = self.start(to, sink)?;
        let source =
            Job::source((address, port), self.payload.clone(), buffer, Arc::clone(&progress));
        self.start(from, source)?;
        Ok(progress)
    }

    /// Ends a transfer at the end of its pass.
    pub(super) fn finish(&self, cell: &Cell, progress: &Progress) -> Result<(), MeasureError> {
        progress.stop.store(true, Relaxed);
        let ended = self.host.wait_for("a transfer to end", PATIENCE, |_| {
            Ok(progress.finished.load(Relaxed) || progress.broken.load(Relaxed))
        });
        if ended.is_err() || progress.broken.load(Relaxed) {
            return Err(MeasureError::Broken {
                from: cell.from.clone(),
                to: cell.to.clone(),
                route: cell.route.name(),
                bytes: progress.bytes.load(Relaxed),
            });
        }
        Ok(())
    }

    fn round_trips(
        &mut self,
        cell: &Cell,
        time: Duration,
    ) -> Result<Option<(f64, f64)>, MeasureError> {
        if time.is_zero() {
            return Ok(None);
        }
        let port = self.next_port();
        let pings = Arc::new(Pings::default());
        let address = self.start(&cell.to, Job::echo(port))?;
        self.start(&cell.from, Job::pinger((address, port), Arc::clone(&pings)))?;
        // As with the payload: the time begins when the connection is there. On a busy machine
        // that alone may take longer than all of it.
        let trips = || pings.times.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.host.wait_for("the first round trip", PATIENCE, |_| {
            Ok(trips() > 0 || pings.finished.load(Relaxed))
        })?;
        std::thread::sleep(time);
        pings.stop.store(true, Relaxed);
        self.host.wait_for("the last round trip", Duration::from_secs(20), |_| {
            Ok(pings.finished.load(Relaxed))
        })?;
        let times = pings.times.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        Ok((!times.is_empty()).then(|| (at(0.5), at(0.99))))
    }

    fn next_port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    fn start(&self, name: &str, job: Job) -> Result<std::net::Ipv4Addr, MeasureError> {
        if name == EXTERNAL {
            self.host.external.call(move |peer| peer.endpoint.start(job))?;
            return Ok(self.host.external.address);
        }
        let guest =
            self.host.guest(name).ok_or_else(|| MeasureError::NoSuchGuest(name.to_owned()))?;
        guest.call(move |guest| guest.endpoint.start(job))?;
        Ok(guest.address)
    }
}

fn result(
    cell: &Cell,
    frame: FrameSize,
    progress: &Progress,
    before: &Sample,
    after: &Sample,
    rtt_us: Option<(f64, f64)>,
    drops: BTreeMap<String, u64>,
) -> CellResult {
    let payload = progress.bytes.load(Relaxed);
    let span = progress.last_at.load(Relaxed).saturating_sub(progress.first_at.load(Relaxed));
    let seconds = (span as f64 / 1e9).max(1e-9);
    let packets = after.sent_by(before, &cell.from).max(1) as f64;
    let copied = after.copied(before);
    let all: u64 = copied.values().sum();
    let by_engine = copied.get(ENGINE).copied().unwrap_or(0);
    let framed_bytes = after.frame_bytes(before).max(1) as f64;
    let mut copied_by: Vec<(String, f64)> = copied
        .into_iter()
        .map(|(name, bytes)| (name, bytes as f64 / all.max(1) as f64))
        .filter(|(_, share)| *share >= 0.01)
        .collect();
    copied_by.sort_by(|one, other| other.1.total_cmp(&one.1));
    let (framed, envelopes) = after.in_envelopes(before);
    let (good, bad) = (progress.good.load(Relaxed), progress.bad.load(Relaxed));
    CellResult {
        cell: cell.clone(),
        frame_bytes: frame.bytes(),
        payload_bytes: payload,
        gbit_per_s: payload as f64 * 8.0 / seconds / 1e9,
        packets_per_s: packets / seconds,
        payload_copies_per_packet: (all - by_engine) as f64 / framed_bytes,
        engine_copies_per_packet: by_engine as f64 / framed_bytes,
        copied_by,
        hypercalls_per_packet: after.hypercalls(before) as f64 / packets,
        events_per_packet: after.events(before) as f64 / packets,
        grants_per_packet: after.grants(before) as f64 / packets,
        revokes_per_packet: after.revokes(before) as f64 / packets,
        frames_per_envelope: (envelopes > 0).then(|| framed as f64 / envelopes as f64),
        inlined_bytes: after.inlined_bytes(before),
        tag_bytes: after.tag_bytes(before),
        bus_bytes_per_payload_byte: (after.bus_bytes - before.bus_bytes) as f64
            / payload.max(1) as f64,
        cpu: after.cpu(before),
        rtt_us,
        drops,
        passes: good,
        sha256_ok: good > 0 && bad == 0,
    }
}
