//! Rule 6 of the design, checked: sent = delivered + drops, each with its reason.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use super::{Host, HostError};

/// What went in, what came out, what was dropped, over a whole host at rest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Frames that stacks sent.
    pub sent: u64,
    /// Frames that switches made: of one that was flooded, or cut by the card.
    pub made: u64,
    /// Frames that stacks got.
    pub delivered: u64,
    /// Drops by who dropped and why.
    pub drops: BTreeMap<String, u64>,
}

/// Frames are missing, or there are too many.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "the ledger does not balance: {} sent + {} made, but {} delivered + {dropped} dropped",
    ledger.sent, ledger.made, ledger.delivered
)]
pub struct Unbalanced {
    /// The ledger.
    pub ledger: Ledger,
    /// All drops.
    pub dropped: u64,
}

impl Ledger {
    /// All drops.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Checks that nothing is missing.
    pub fn check(&self) -> Result<(), Unbalanced> {
        if self.sent + self.made == self.delivered + self.dropped() {
            Ok(())
        } else {
            Err(Unbalanced { ledger: self.clone(), dropped: self.dropped() })
        }
    }

    /// What came on top since `earlier`.
    pub fn since(&self, earlier: &Ledger) -> Ledger {
        let drops = self
            .drops
            .iter()
            .map(|(name, count)| {
                let before = earlier.drops.get(name).copied().unwrap_or(0);
                (name.clone(), count - before)
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        Ledger {
            sent: self.sent - earlier.sent,
            made: self.made - earlier.made,
            delivered: self.delivered - earlier.delivered,
            drops,
        }
    }
}

impl Host {
    /// The ledger as it stands: exact only while nothing is underway.
    pub fn ledger(&self) -> Result<Ledger, HostError> {
        let mut ledger = Ledger::default();
        let mut drop = |name: String, count: u64| {
            if count > 0 {
                *ledger.drops.entry(name).or_insert(0) += count;
            }
        };
        for guest in &self.guests {
            let counters = guest.snapshot()?.frontend;
            ledger.sent += counters.sent.frames;
            ledger.delivered += counters.delivered.frames;
            for (reason, count) in counters.reasons() {
                drop(format!("frontend/{}", reason.name()), count);
            }
        }
        let external = self.external.snapshot()?;
        ledger.sent += external.sent;
        ledger.delivered += external.delivered;
        drop("external/wire-full".to_owned(), external.refused);
        drop("external/not-ours".to_owned(), external.not_ours);
        let backend = self.driver_domain.counters()?;
        ledger.made += backend.flood_extra;
        for (reason, count) in backend.reasons() {
            drop(format!("backend/{}", reason.name()), count);
        }
        let card = self.nic.ledger();
        ledger.made += card.segmented_extra + card.flood_extra;
        for (reason, count) in card.reasons() {
            drop(format!("nic/{}", reason.name()), count);
        }
        Ok(ledger)
    }

    /// Waits until nothing is underway any more, and checks the ledger.
    pub fn settle(&self) -> Result<Result<Ledger, Unbalanced>, HostError> {
        let mut last = Ledger::default();
        let mut quiet = 0;
        for _ in 0..400 {
            let queued: usize = {
                let mut queued = 0;
                for guest in &self.guests {
                    queued += guest.snapshot()?.queued;
                }
                queued
            };
            let now = self.ledger()?;
            let still = now == last && queued == 0;
            quiet = if still { quiet + 1 } else { 0 };
            // A sum that balances and stays is at rest; one that does not is given time.
            if quiet >= 3 && now.check().is_ok() {
                return Ok(Ok(now));
            }
            last = now;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(last.check().map(|()| last))
    }
}
