//! The translations that the IOMMU remembers for a port.

use xenvelope_grant::PAGE_SIZE;

/// A port's IOTLB: fully associative, least recently used goes first.
///
/// It decides only about time: whether an access is allowed is checked anew for each one, so a
/// page that the domain lost is out of reach at once (on real hardware after the invalidation,
/// which Xen waits for).
#[derive(Debug)]
pub(super) struct Iotlb {
    pages: Vec<u64>,
    used: Vec<u64>,
    clock: u64,
}

/// No page has this number: addresses are 64 bits wide.
const EMPTY: u64 = u64::MAX;

impl Iotlb {
    /// One with that many entries.
    pub(super) fn new(entries: usize) -> Iotlb {
        Iotlb { pages: vec![EMPTY; entries], used: vec![0; entries], clock: 0 }
    }

    /// Translates all pages that `length` bytes from `address` touch. Returns hits and misses.
    pub(super) fn translate(&mut self, address: u64, length: usize) -> (u64, u64) {
        if length == 0 {
            return (0, 0);
        }
        let page_size = PAGE_SIZE as u64;
        let first = address / page_size;
        let last = address.saturating_add(length as u64 - 1) / page_size;
        let mut hits = 0;
        for page in first..=last {
            hits += u64::from(self.look_up(page));
        }
        (hits, last - first + 1 - hits)
    }

    /// Forgets everything.
    pub(super) fn flush(&mut self) {
        self.pages.fill(EMPTY);
        self.used.fill(0);
    }

    fn look_up(&mut self, page: u64) -> bool {
        self.clock += 1;
        if let Some(at) = self.pages.iter().position(|&known| known == page) {
            self.used[at] = self.clock;
            return true;
        }
        let oldest = self.used.iter().enumerate().min_by_key(|&(_, &when)| when);
        if let Some((at, _)) = oldest {
            self.pages[at] = page;
            self.used[at] = self.clock;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_goes_first() {
        let mut iotlb = Iotlb::new(2);
        assert_eq!(iotlb.translate(0, 8192), (0, 2));
        assert_eq!(iotlb.translate(100, 10), (1, 0));
        assert_eq!(iotlb.translate(0x5000, 1), (0, 1), "page 5 replaces page 1");
        assert_eq!(iotlb.translate(0, 1), (1, 0));
        assert_eq!(iotlb.translate(0x1000, 1), (0, 1));
        iotlb.flush();
        assert_eq!(iotlb.translate(0x1000, 1), (0, 1));
    }

    #[test]
    fn an_access_across_a_boundary_needs_both_pages() {
        let mut iotlb = Iotlb::new(8);
        assert_eq!(iotlb.translate(4095, 2), (0, 2));
        assert_eq!(iotlb.translate(4095, 0), (0, 0));
    }
}
