//! Guests that have nothing to do with what a hostile one does.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Link;
use xenvelope_grant::DomId;
use xenvelope_hypervisor_sim::machine::CounterSnapshot;

use super::{GuestPlan, HostileGuest, Lab, mac};

/// Guests 0 and 1, which send each other frames by netif, and what they had granted when all was
/// well.
pub struct Bystanders {
    grants: [usize; 2],
    closed: u64,
}

impl Bystanders {
    /// A host with two guests that reach each other by the driver domain's bridge.
    pub fn with_lab() -> (Lab, Bystanders) {
        Bystanders::in_lab(Lab::default())
    }

    /// The same in a host without guests that has been made.
    pub fn in_lab(mut lab: Lab) -> (Lab, Bystanders) {
        lab.add_guest(&GuestPlan::default());
        lab.add_guest(&GuestPlan::default());
        lab.connect();
        lab.all_routes(PairRoute::Bridge);
        lab.expect_delivery(0, 1, &[1; 100]);
        let grants = [0, 1].map(|guest| lab.grants(guest, DomId::DOM0).len());
        let closed = lab.backend.counters().closed_hostile;
        (lab, Bystanders { grants, closed })
    }

    /// They still reach each other both ways, with what fits a page and what does not, and no
    /// grant of theirs was left behind.
    ///
    /// # Panics
    /// If that is not so.
    pub fn unharmed(&self, lab: &mut Lab) {
        lab.expect_pair(10);
        for (guest, before) in self.grants.iter().enumerate() {
            let now = lab.grants(guest, DomId::DOM0).len();
            assert!(now <= *before, "guest {guest} has {now} grants out, it had {before}");
        }
    }

    /// How many interfaces the backend has closed for what their guests did.
    pub fn closed(&self, lab: &Lab) -> u64 {
        lab.backend.counters().closed_hostile - self.closed
    }
}

impl Lab {
    /// Guests 0 and 1, and a hostile one with the address [`mac`]`(9)`; frames go in envelopes by
    /// the driver domain's switch.
    pub fn switched() -> (Lab, HostileGuest) {
        let mut lab = Lab::with_guests(2, &GuestPlan::default());
        let hostile = HostileGuest::connect(&mut lab, mac(9));
        lab.all_routes(PairRoute::Switch);
        (lab, hostile)
    }

    /// Guests 0 and 1 reach each other both ways, with what fits a page and what does not, and
    /// are connected so many steps later.
    ///
    /// # Panics
    /// If that is not so.
    pub fn expect_pair(&mut self, settling: usize) {
        for length in [60, 1000, 9000] {
            self.expect_delivery(0, 1, &vec![2; length]);
            self.expect_delivery(1, 0, &vec![3; length]);
        }
        self.steps(settling);
        for guest in &self.guests[..2] {
            assert_eq!(guest.frontend.link(), Link::Up);
        }
    }

    /// How many pages of a guest's the driver domain has mapped.
    pub fn mapped_from(&self, guest: DomId) -> usize {
        let pages = self.machine.memory_snapshot(DomId::DOM0);
        pages.iter().filter(|page| page.owner == guest).count()
    }

    /// One step, and what it made the driver domain do.
    pub fn step_counted(&mut self) -> CounterSnapshot {
        let before = self.dom0.counters();
        self.step();
        self.dom0.counters() - before
    }
}
