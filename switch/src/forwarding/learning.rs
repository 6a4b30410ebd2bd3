//! What was learned at the uplink: bounded, since anybody outside can make up addresses.

use hashbrown::HashMap;

use crate::ethernet::MacAddress;

/// A full table is swept for old addresses at most this often, in ns: a flood of new ones must
/// not cost a sweep each.
const SWEEP_INTERVAL_NS: u64 = 1_000_000_000;

/// Addresses that were seen at the uplink, and when last.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    seen: HashMap<(u16, MacAddress), u64>,
    limit: usize,
    age_ns: u64,
    swept_ns: Option<u64>,
}

impl Learned {
    pub(super) fn new(limit: usize, age_ns: u64) -> Learned {
        Learned { seen: HashMap::new(), limit, age_ns, swept_ns: None }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Remembers an address, unless the table is full of younger ones.
    pub(super) fn see(&mut self, vid: u16, mac: MacAddress, now_ns: u64) {
        if let Some(seen_ns) = self.seen.get_mut(&(vid, mac)) {
            *seen_ns = now_ns;
            return;
        }
        if self.seen.len() >= self.limit {
            self.sweep(now_ns);
        }
        if self.seen.len() < self.limit {
            self.seen.insert((vid, mac), now_ns);
        }
    }

    /// Whether an address was seen, and not too long ago.
    pub(super) fn knows(&self, vid: u16, mac: MacAddress, now_ns: u64) -> bool {
        self.seen
            .get(&(vid, mac))
            .is_some_and(|&seen_ns| now_ns.saturating_sub(seen_ns) < self.age_ns)
    }

    pub(super) fn forget(&mut self, vid: u16, mac: MacAddress) {
        self.seen.remove(&(vid, mac));
    }

    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.swept_ns = None;
    }

    fn sweep(&mut self, now_ns: u64) {
        let due = self
            .swept_ns
            .is_none_or(|swept_ns| now_ns.saturating_sub(swept_ns) >= SWEEP_INTERVAL_NS);
        if due {
            self.swept_ns = Some(now_ns);
            self.seen.retain(|_, seen_ns| now_ns.saturating_sub(*seen_ns) < self.age_ns);
        }
    }
}
