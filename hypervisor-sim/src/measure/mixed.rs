//! Several pairs at the same time, each by a route of its own: through the card, through the
//! driver domain, and direct, in one host and one run.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant as StdInstant};

use thiserror::Error;

use super::cell::PATIENCE;
use super::route::EXTERNAL;
use super::{Bench, Cell, DomainShare, FrameSize, MeasureError, RouteName, Sample, UnknownRoute};
use crate::host::{GuestSpec, HostSpec, Ledger};
use crate::machine::Costs;
use crate::nic::NicConfig;
use crate::stack::Progress;

/// Who sends to whom, and by which route.
pub type Pair = Cell;

/// Pairs that can be on one host at the same time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MixedPlan {
    pairs: Vec<Pair>,
}

/// Why pairs cannot be measured together, or at all.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PlanError {
    /// Not three words.
    #[error("{0:?} is not FROM:TO:ROUTE")]
    NotAPair(String),
    /// A route that is not one.
    #[error(transparent)]
    Route(#[from] UnknownRoute),
    /// Not the name of a guest.
    #[error("{0:?} is no name of a guest: up to 12 lower-case letters and digits")]
    Name(String),
    /// A guest to itself.
    #[error("{0} cannot send to itself")]
    Itself(String),
    /// A pair has one route.
    #[error("{0} and {1} are given two routes; a pair has one")]
    Twice(String, String),
    /// The route `stock` leads to or from the stock guest, and nothing else does.
    #[error("route stock leads to or from the guest named stock, and no other route does")]
    Stock,
    /// The route `external` leads to the peer outside, and nothing else does.
    #[error("route external leads to the peer named external, and no other route does")]
    External,
}

const STOCK: &str = "stock";

impl FromStr for MixedPlan {
    type Err = PlanError;
    /// One pair: `FROM:TO:ROUTE`.
    fn from_str(text: &str) -> Result<MixedPlan, PlanError> {
        let words: Vec<&str> = text.split(':').collect();
        let [from, to, route] = words[..] else {
            return Err(PlanError::NotAPair(text.to_owned()));
        };
        let route: RouteName = route.parse()?;
        for name in [from, to] {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if !(1..=12).contains(&name.len()) || !name.bytes().all(plain) {
                return Err(PlanError::Name(name.to_owned()));
            }
        }
        if from == to {
            return Err(PlanError::Itself(from.to_owned()));
        }
        if (route == RouteName::Stock) != [from, to].contains(&STOCK) {
            return Err(PlanError::Stock);
        }
        if (route == RouteName::External) != (to == EXTERNAL) || from == EXTERNAL {
            return Err(PlanError::External);
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        Ok(MixedPlan { pairs: vec![Pair { route, from, to }] })
    }
}

impl MixedPlan {
    /// Pairs together.
    ///
    /// # Errors
    /// If two of them are the same two guests.
    pub fn new(parts: impl IntoIterator<Item = MixedPlan>) -> Result<MixedPlan, PlanError> {
        let mut seen = BTreeSet::new();
        let pairs: Vec<Pair> = parts.into_iter().flat_map(|part| part.pairs).collect();
        for pair in &pairs {
            let key = [&pair.from, &pair.to];
            if !seen.insert([key[0].min(key[1]), key[0].max(key[1])]) {
                return Err(PlanError::Twice(pair.from.clone(), pair.to.clone()));
            }
        }
        Ok(MixedPlan { pairs })
    }

    /// One pair for each route, and a guest, a, that uses all three ways at once.
    pub fn usual() -> MixedPlan {
        let pair =
            |route, from: &str, to: &str| Pair { route, from: from.to_owned(), to: to.to_owned() };
        MixedPlan {
            pairs: vec![
                pair(RouteName::NicEnvelope, "a", "b"),
                pair(RouteName::DirectEnvelope, "a", "f"),
                pair(RouteName::SwitchEnvelope, "a", "h"),
                pair(RouteName::NicFrame, "c", "d"),
                pair(RouteName::DirectEnvelope, "e", "f"),
                pair(RouteName::SwitchEnvelope, "g", "h"),
                pair(RouteName::BridgeCopy, "i", "j"),
                pair(RouteName::Stock, "b", STOCK),
                pair(RouteName::External, "c", EXTERNAL),
            ],
        }
    }

    /// The pairs.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The host that they need: the guests that they name, those with a VF that use the card.
    pub fn host(&self, costs: Costs, bus_gbit: Option<f64>) -> HostSpec {
        let uses_card = |route| {
            matches!(route, RouteName::NicFrame | RouteName::NicEnvelope | RouteName::External)
        };
        let ends = |pair: &Pair| [pair.from.clone(), pair.to.clone()];
        let names: BTreeSet<String> = self.pairs.iter().flat_map(ends).collect();
        let with_vf: BTreeSet<String> =
            self.pairs.iter().filter(|pair| uses_card(pair.route)).flat_map(ends).collect();
        let mut guests: Vec<GuestSpec> = names
            .iter()
            .filter(|name| ![STOCK, EXTERNAL].contains(&name.as_str()))
            .enumerate()
            .map(|(index, name)| GuestSpec {
                name: name.clone(),
                ..GuestSpec::envelope(index, GuestSpec::numbered_mac(index), with_vf.contains(name))
            })
            .collect();
        if names.contains(STOCK) {
            guests.push(GuestSpec::stock());
        }
        let vfs = guests.iter().filter(|guest| guest.vf).count();
        let nic = NicConfig { vfs, bus_gbit, ..NicConfig::default() };
        HostSpec::new(costs, nic, guests)
    }
}

/// What one pair's transfer came to while all ran.
#[derive(Clone, PartialEq, Debug)]
pub struct PairResult {
    /// Which.
    pub pair: Pair,
    /// Gbit/s of payload, while all transfers ran.
    pub gbit_per_s: f64,
    /// Payload bytes that arrived in all.
    pub payload_bytes: u64,
    /// Passes of the file that arrived whole.
    pub passes: u64,
    /// Whether every pass had the right SHA-256, and there was one.
    pub sha256_ok: bool,
}

/// What came of all of them.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// Frame size as it was asked for.
    pub frame_bytes: usize,
    /// For how long all ran.
    pub seconds: f64,
    /// By pair.
    pub pairs: Vec<PairResult>,
    /// By domain, from the start of the first to the end of the last.
    pub domains: Vec<DomainShare>,
    /// DMA bytes of all ports.
    pub bus_bytes: u64,
    /// The ledger of the run: it balances.
    pub ledger: Ledger,
}

impl Mixed {
    /// Payload bytes of all pairs.
    pub fn payload_bytes(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.payload_bytes).sum()
    }

    /// Whether every transfer arrived as it was sent.
    pub fn all_right(&self) -> bool {
        self.pairs.iter().all(|pair| pair.sha256_ok)
    }
}

/// Runs all pairs' transfers at the same time, for `time` from when the last has begun.
///
/// # Errors
/// If a transfer breaks, or frames are missing afterwards.
pub fn mixed(
    bench: &mut Bench<'_>,
    plan: &MixedPlan,
    frame: FrameSize,
    time: Duration,
) -> Result<Mixed, MeasureError> {
    let host = bench.host;
    bench.set_frame(frame)?;
    for pair in plan.pairs() {
        bench.set_route(&pair.from, &pair.to, pair.route.asks())?;
    }
    let ledger = host.settle()??;
    let before = Sample::take(host)?;
    let mut running: Vec<(&Pair, Arc<Progress>)> = Vec::new();
    for pair in plan.pairs() {
        running.push((pair, bench.begin(&pair.from, &pair.to, frame)?));
    }
    let broken = || running.iter().any(|(_, progress)| progress.broken.load(Relaxed));
    host.wait_for("the first payload of every transfer", PATIENCE, |_| {
        let begun = |progress: &Progress| progress.bytes.load(Relaxed) > 0;
        Ok(broken() || running.iter().all(|(_, progress)| begun(progress)))
    })?;
    let meters = || -> Vec<u64> {
        running.iter().map(|(_, progress)| progress.bytes.load(Relaxed)).collect()
    };
    let (started, first) = (StdInstant::now(), meters());
    while started.elapsed() < time && !broken() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let (seconds, last) = (started.elapsed().as_secs_f64(), meters());
    for (_, progress) in &running {
        progress.stop.store(true, Relaxed);
    }
    for (pair, progress) in &running {
        bench.finish(pair, progress)?;
    }
    let after = Sample::take(host)?;
    let pairs = running
        .iter()
        .zip(first.iter().zip(&last))
        .map(|((pair, progress), (first, last))| {
            let (good, bad) = (progress.good.load(Relaxed), progress.bad.load(Relaxed));
            PairResult {
                pair: (*pair).clone(),
                gbit_per_s: (last - first) as f64 * 8.0 / seconds.max(1e-9) / 1e9,
                payload_bytes: progress.bytes.load(Relaxed),
                passes: good,
                sha256_ok: good > 0 && bad == 0,
            }
        })
        .collect();
    Ok(Mixed {
        frame_bytes: frame.bytes(),
        seconds,
        pairs,
        domains: after.shares(&before),
        bus_bytes: after.bus_bytes - before.bus_bytes,
        ledger: host.settle()??.since(&ledger),
    })
}
