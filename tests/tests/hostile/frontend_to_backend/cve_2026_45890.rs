//! CVE-2026-45890: a frontend that says it has no queues at all, and netback divided by their
//! number.

use xenvelope_backend::Config;
use xenvelope_grant::xenbus::{XenbusState, key};
use xenvelope_tests::lab::{Bystanders, Lab, StockGuest, StockPlan, mac};

#[test]
fn cve_2026_45890_no_queues_or_more_than_were_offered() {
    const OFFERED: usize = 4;
    for asked in [0, OFFERED as u64 + 1, 9, 1 << 16, 1 << 32, u64::MAX] {
        let config = Config { queues: OFFERED, ..Config::default() };
        let (mut lab, others) = Bystanders::in_lab(Lab::configured(true, config));
        let mut guest = StockGuest::new(&lab, mac(9));
        lab.run_until("InitWait", |_| guest.backend() == XenbusState::InitWait);
        // The plan's own number is written last, unless there is one queue.
        let mut plan = StockPlan::default();
        plan.keys.push((key::MULTI_QUEUE_NUM_QUEUES, asked));
        guest.say_connected(&plan);
        lab.steps(5);
        assert_eq!(guest.backend(), XenbusState::Closed, "{asked} queues");
        assert_eq!(lab.backend.connected(), 2);
        others.unharmed(&mut lab);
    }
}
