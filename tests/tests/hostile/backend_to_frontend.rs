//! What a driver domain does to its guest by netif.

mod cve_2024_27393;
mod cve_2026_99057;
mod netfront_goes_broken;
mod xsa_155;
mod xsa_391;
mod xsa_396;
mod xsa_403;
mod xsa_405;

use xenvelope_frontend::{Config, Link};
use xenvelope_grant::DomId;
use xenvelope_grant::xenbus::XenbusState;
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_tests::lab::FakeBackend;

/// A driver domain that is about to do something, and its guest.
fn connected() -> FakeBackend {
    FakeBackend::new(Config::default(), GrantVersion::V2)
}

/// The guest has ended the connection, has said so, and takes back all that it had granted as
/// soon as the driver domain lets go of it.
fn has_ended(mut fake: FakeBackend, what: &str) {
    fake.step();
    assert_eq!(fake.guest.frontend.link(), Link::Closed, "{what}");
    assert_eq!(fake.states().0, XenbusState::Closing, "{what}");
    assert!(fake.guest.received.is_empty(), "{what}");
    let before = fake.guest.domain.counters();
    fake.step();
    let work = fake.guest.domain.counters() - before;
    assert_eq!((work.copy_ops, work.grants), (0, 0), "{what}: nothing more is done for it");
    let FakeBackend { mut guest, machine, now, tx, rx, send, receive, .. } = fake;
    drop((tx, rx, send, receive));
    for ms in 1..10 {
        guest.turn(xenvelope_grant::seam::Instant(now.0 + ms * 30_000_000));
    }
    let grants = machine.scan_grants(xenvelope_grant::seam::Host::domid(&guest.domain));
    let left = grants.iter().filter(|(_, to, _)| *to == DomId::DOM0).count();
    assert_eq!(left, 0, "{what}: grants are left");
    assert_eq!(guest.frontend.queued(), 0, "{what}");
}
