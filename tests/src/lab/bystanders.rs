//! Guests that have nothing to do with what a hostile one does.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Link;
use xenvelope_grant::DomId;
use xenvelope_hypervisor_sim::machine::CounterSnapshot;

use super::{GuestPlan, Lab};

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
        for length in [60, 1000, 9000] {
            lab.expect_delivery(0, 1, &vec![2; length]);
            lab.expect_delivery(1, 0, &vec![3; length]);
        }
        lab.steps(10);
        for (guest, before) in self.grants.iter().enumerate() {
            assert_eq!(lab.guests[guest].frontend.link(), Link::Up);
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
