//! More and more guests: what a packet costs where every pair has a direct channel, where busy
//! pairs have one and the others the driver domain's switch, and where all have the switch.
//!
//! Santos, Turner and Mudigonda, section 3.2: "Using direct guest to guest channels exclusively
//! may not be the best choice for systems with large numbers of guests, since each guest would pay
//! a cost to process events across a large number of channels. Also, the required number of
//! channels scales as the square of the number of guests."

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant as StdInstant};

use xenvelope_backend::PairRoute;
use xenvelope_grant::seam::Host as _;

use super::{MeasureError, Sample};
use crate::host::{GuestSpec, Host, HostError, HostSpec, User};
use crate::machine::Costs;
use crate::nic::NicConfig;
use crate::stack::{Exchange, ExchangeCounts, Pattern};

/// Which pairs have a direct channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Topology {
    /// All.
    Mesh,
    /// The busy ones; the others use the driver domain's switch.
    Hybrid,
    /// None.
    Switch,
}

impl Topology {
    /// All of them, in the order of the table.
    pub const ALL: [Topology; 3] = [Topology::Mesh, Topology::Hybrid, Topology::Switch];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Topology::Mesh => "mesh",
            Topology::Hybrid => "hybrid",
            Topology::Switch => "switch",
        }
    }

    /// Direct channels of one guest, of `guests`.
    pub const fn channels_of_a_guest(self, guests: usize) -> usize {
        match self {
            Topology::Mesh => guests - 1,
            Topology::Hybrid => 1,
            Topology::Switch => 0,
        }
    }
}

/// What is measured at each number of guests.
#[derive(Clone, PartialEq, Debug)]
pub struct Sweep {
    /// What calls and events cost.
    pub costs: Costs,
    /// Frames to the partner in each turn.
    pub busy: usize,
    /// Others that get one frame in each turn.
    pub light: usize,
    /// Bytes of a frame's IP packet: 46 to 1500.
    pub frame: usize,
    /// How long a round is.
    pub time: Duration,
    /// How many rounds there are.
    pub rounds: usize,
}

/// What a round came to, for each packet that a stack would have sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SweepRound {
    /// Packets sent.
    pub packets: u64,
    /// Packets a second.
    pub packets_per_s: f64,
    /// Processor time of the guests, in nanoseconds.
    pub guests_ns: f64,
    /// Processor time of the driver domain, in nanoseconds.
    pub driver_domain_ns: f64,
    /// Events sent, by everybody.
    pub events: f64,
    /// Calls into the hypervisor, by everybody, events included.
    pub hypercalls: f64,
    /// Ports that were found pending and looked at, by everybody.
    pub ports_polled: f64,
}

/// One topology at one number of guests.
#[derive(Clone, PartialEq, Debug)]
pub struct SweepRow {
    /// How many guests.
    pub guests: usize,
    /// Which pairs have a direct channel.
    pub topology: Topology,
    /// The rounds, in the order in which they were run.
    pub rounds: Vec<SweepRound>,
    /// Channels: direct ones that are up, and one of each guest to the driver domain.
    pub channels: usize,
    /// Pages that domains had mapped of each other: rings and forwarding tables.
    pub shared_pages: usize,
    /// The part of the frames in envelopes that went by direct channels, 0 to 1.
    pub direct_share: f64,
    /// Frames that were dropped, of all that were sent.
    pub drops: u64,
    /// Frames that were not as they were sent, or out of order.
    pub wrong: u64,
}

/// Before anything is counted: tables are read, buffers are warm.
const WARM_UP: Duration = Duration::from_millis(100);
/// For how long channels may take to come up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures one topology with `guests`, an even number from 2 to 200, in a host of its own.
///
/// # Errors
/// If the host does not come up, or frames are missing afterwards.
pub fn sweep_point(
    sweep: &Sweep,
    guests: usize,
    topology: Topology,
) -> Result<SweepRow, MeasureError> {
    let specs = (0..guests)
        .map(|index| GuestSpec::envelope(index, GuestSpec::numbered_mac(index), false))
        .collect();
    let nic = NicConfig { vfs: 0, ..NicConfig::default() };
    let host = Host::start(&HostSpec::new(sweep.costs, nic, specs))?;
    host.wait_connected()?;
    arrange(&host, topology)?;
    let pattern = Arc::new(Pattern {
        macs: host.guests.iter().map(|guest| guest.mac).collect(),
        busy: sweep.busy,
        light: sweep.light,
        frame: sweep.frame + 14,
    });
    let stop = Arc::new(AtomicBool::new(false));
    for (me, guest) in host.guests.iter().enumerate() {
        let (pattern, stop) = (Arc::clone(&pattern), Arc::clone(&stop));
        guest.call(move |guest| {
            let now = guest.frontend.host().now();
            guest.user = User::Exchange(Exchange::new(pattern, me, stop, now));
        })?;
    }
    std::thread::sleep(WARM_UP.min(sweep.time));
    let mut last = (Sample::take(&host)?, StdInstant::now());
    let mut rounds = Vec::new();
    let mut direct = (0, 0);
    for _ in 0..sweep.rounds {
        std::thread::sleep(sweep.time);
        let now = (Sample::take(&host)?, StdInstant::now());
        let seconds = (now.1 - last.1).as_secs_f64();
        rounds.push(round(&now.0, &last.0, seconds));
        for share in now.0.shares(&last.0) {
            direct.0 += share.sent_by.enveloped_direct;
            direct.1 += share.sent_by.frames();
        }
        last = now;
    }
    let (channels, shared_pages) = (channels(&host)?, shared_pages(&host));
    stop.store(true, Relaxed);
    let ledger = host.settle()??;
    let mut counts = ExchangeCounts::default();
    for guest in &host.guests {
        let part = guest.call(|guest| match std::mem::take(&mut guest.user) {
            User::Exchange(part) => Some(part.counts()),
            _ => None,
        })?;
        counts.wrong += part.map_or(0, |part| part.wrong);
    }
    Ok(SweepRow {
        guests,
        topology,
        rounds,
        channels,
        shared_pages,
        direct_share: direct.0 as f64 / f64::max(direct.1 as f64, 1.0),
        drops: ledger.dropped(),
        wrong: counts.wrong,
    })
}

/// Asks the manager for the topology, and waits until it is there.
fn arrange(host: &Host, topology: Topology) -> Result<(), HostError> {
    let macs: Vec<_> = host.guests.iter().map(|guest| guest.mac).collect();
    host.driver_domain.call(move |backend| {
        let manager = backend.manager();
        manager.set_all_routes(match topology {
            Topology::Mesh => PairRoute::Direct,
            Topology::Hybrid | Topology::Switch => PairRoute::Switch,
        });
        if topology == Topology::Hybrid {
            for pair in macs.chunks_exact(2) {
                manager.set_route(pair[0], pair[1], PairRoute::Direct);
            }
        }
    })?;
    let wanted = topology.channels_of_a_guest(host.guests.len());
    let what = format!("the direct channels of {} guests", host.guests.len());
    for guest in &host.guests {
        host.wait_for(&what, PATIENCE, |_| Ok(guest.snapshot()?.direct == wanted))?;
    }
    // Once more through the driver domain's loop: the channels are in the tables.
    host.driver_domain.call(|_| ())
}

fn round(now: &Sample, earlier: &Sample, seconds: f64) -> SweepRound {
    let packets = now.sent(earlier);
    let each = |count: f64| count / packets.max(1) as f64;
    let cpu = now.cpu(earlier);
    let guests: Duration = cpu.guests.values().sum();
    SweepRound {
        packets,
        packets_per_s: packets as f64 / seconds.max(1e-9),
        guests_ns: each(guests.as_nanos() as f64),
        driver_domain_ns: each(cpu.driver_domain.as_nanos() as f64),
        events: each(now.events(earlier) as f64),
        hypercalls: each(now.hypercalls(earlier) as f64),
        ports_polled: each(now.ports_polled(earlier) as f64),
    }
}

fn channels(host: &Host) -> Result<usize, HostError> {
    let mut ends = 0;
    for guest in &host.guests {
        ends += guest.snapshot()?.direct;
    }
    Ok(host.guests.len() + ends / 2)
}

fn shared_pages(host: &Host) -> usize {
    let guests: usize = host.guests.iter().map(|guest| guest.domain.mapped_pages()).sum();
    guests + host.driver_domain.domain.mapped_pages()
}

impl SweepRow {
    /// The median over the rounds of something, with the least and the most: `(least, median,
    /// most)`.
    pub fn over_rounds(&self, of: impl Fn(&SweepRound) -> f64) -> (f64, f64, f64) {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        match values[..] {
            [] => (0.0, 0.0, 0.0),
            [least, .., most] => (least, super::median(&values), most),
            [one] => (one, one, one),
        }
    }
}

impl SweepRound {
    /// Processor time of all domains, in nanoseconds.
    pub fn cpu_ns(&self) -> f64 {
        self.guests_ns + self.driver_domain_ns
    }
}
