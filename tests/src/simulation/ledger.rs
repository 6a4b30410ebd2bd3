//! Sent = delivered + dropped (rule 6), over all lives of a run.

use std::collections::BTreeMap;

use xenvelope_backend::Counters as BackendCounters;
use xenvelope_frontend::Counters as FrontendCounters;
use xenvelope_hypervisor_sim::nic::Nic;

use super::guests::Stock;

/// What went in, what came out, what was dropped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Frames that stacks sent.
    pub sent: u64,
    /// Frames that switches and faults made of others.
    pub made: u64,
    /// Frames that stacks got.
    pub delivered: u64,
    /// Drops by who dropped and why.
    pub drops: BTreeMap<(&'static str, &'static str), u64>,
    /// Frames that frontends hold and say so: not gone, and not underway.
    pub queued: u64,
    /// Domains or processes ended with frames of which nobody has counted how many.
    pub inexact: bool,
    /// At most so many were counted as dropped by who sent them, and delivered too: requests that
    /// had no answer when a connection ended, of frames that were passed on to a receiver which has
    /// not said done yet (backend/src/passing.rs).
    pub twice: u64,
}

impl Ledger {
    /// All drops.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Frames that are underway, or missing.
    pub fn missing(&self) -> i64 {
        let found = self.delivered + self.dropped() + self.queued;
        (self.sent + self.made) as i64 - found as i64
    }

    /// Whether no more came out than went in, and if all is `at_rest`, as much.
    pub fn adds_up(&self, at_rest: bool) -> bool {
        let missing = self.missing();
        missing >= -(self.twice as i64) && (missing <= 0 || self.inexact || !at_rest)
    }

    /// Drops.
    pub fn drop(&mut self, who: &'static str, why: &'static str, count: u64) {
        if count > 0 {
            *self.drops.entry((who, why)).or_default() += count;
        }
    }

    /// What a frontend has counted.
    pub fn frontend(&mut self, counters: &FrontendCounters) {
        self.sent += counters.sent.frames;
        self.delivered += counters.delivered.frames;
        // Of those for which there was no buffer it was never said that they were sent.
        for (reason, count) in counters.reasons() {
            self.drop("frontend", reason.name(), count);
        }
    }

    /// What a stock guest has.
    pub fn stock(&mut self, stock: &Stock) {
        self.sent += stock.sent;
        self.delivered += stock.delivered;
        self.inexact |= stock.unknown > 0;
        self.drop("stock", "refused", stock.refused());
    }

    /// What a backend has.
    pub fn backend(&mut self, counters: &BackendCounters) {
        self.made += counters.flood_extra;
        for (reason, count) in counters.reasons() {
            self.drop("backend", reason.name(), count);
        }
    }

    /// What the card has.
    pub fn card(&mut self, nic: &Nic) {
        let counters = nic.ledger();
        self.made += counters.segmented_extra + counters.flood_extra;
        for (reason, count) in counters.reasons() {
            self.drop("nic", reason.name(), count);
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Ledger) {
        self.sent += other.sent;
        self.made += other.made;
        self.delivered += other.delivered;
        self.queued += other.queued;
        self.inexact |= other.inexact;
        self.twice += other.twice;
        for ((who, why), count) in &other.drops {
            self.drop(who, why, *count);
        }
    }
}
