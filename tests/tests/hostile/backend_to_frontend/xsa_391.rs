//! XSA-391 (CVE-2021-28712): events at a high rate kept a guest busy for good.

use std::cell::Cell;
use std::rc::Rc;

use xenvelope_grant::seam::{Events as _, Host as _, Instant};

use super::connected;

#[test]
fn xsa_391_an_event_at_each_unmask_costs_one_look_and_no_loop() {
    let mut fake = connected();
    fake.step();
    let (dom0, id) = (fake.dom0.clone(), fake.guest.domain.domid());
    let port = std::mem::replace(&mut fake.port, dom0.listen(id).expect("a port"));
    let port = Rc::new(port);
    let events = Rc::new(Cell::new(0u64));
    let (count, again, storm) = (Rc::clone(&events), Rc::clone(&port), dom0.clone());
    fake.guest.hooks.after_unmask(move || {
        count.set(count.get() + 1);
        assert!(count.get() < 1000, "the sleep ends");
        storm.notify(&again);
    });
    for round in 0..50 {
        for _ in 0..100 {
            dom0.notify(&port);
        }
        events.set(0);
        fake.guest.frontend.wait(Instant(0));
        assert_eq!(events.get(), 1, "round {round}");
        let before = fake.guest.domain.counters();
        fake.step();
        let work = fake.guest.domain.counters() - before;
        assert_eq!((work.copy_ops, work.grants), (0, 0), "an event without a frame is no work");
    }
    fake.guest.send(&xenvelope_tests::lab::frame(
        xenvelope_tests::lab::mac(5),
        xenvelope_tests::lab::mac(0),
        &[1; 60],
    ));
    fake.step();
    assert_eq!(fake.netif_frames(), 1, "it still gets its frames out");
}
