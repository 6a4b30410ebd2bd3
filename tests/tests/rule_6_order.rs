//! Rule 6: within a flow order is kept when its route changes; nothing is duplicated; sent =
//! delivered + drops.

use std::time::Duration;

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_grant::netif::RxResponse;
use xenvelope_grant::seam::{CopyOp, End, Host as _, Instant};
use xenvelope_hypervisor_sim::machine::{Domain, GrantVersion};
use xenvelope_hypervisor_sim::nic::DomainPort;
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, CHANNEL_VF};
use xenvelope_tests::lab::{
    FakeBackend, GuestPlan, Lab, Random, frame, mac, numbered, numbers_from, seed,
};

const ROUTES: [PairRoute; 4] =
    [PairRoute::NicFrame, PairRoute::NicEnvelope, PairRoute::Switch, PairRoute::Direct];

fn vf_pair() -> Lab {
    let mut lab = Lab::with_guests(2, &GuestPlan { vf: true, ..GuestPlan::default() });
    lab.all_routes(PairRoute::Direct);
    lab.run_until("direct channels", |lab| {
        lab.guests.iter().all(|guest| guest.frontend.direct_channels() == 1)
    });
    lab
}

/// Sends numbered frames from 0 to 1 while the route changes, and has everybody sleep at random
/// for less than a frame may be held; the numbers in order of arrival, and how many were sent.
fn flips(
    seed: u64,
    routes: &[PairRoute],
    sleepers: bool,
    lengths: &[usize],
) -> (Lab, Vec<u64>, u64) {
    let mut random = Random(seed);
    let mut lab = vf_pair();
    let mut next = 0;
    for _ in 0..150 {
        if random.below(3) == 0 {
            let route = random.pick(routes);
            lab.manager().set_route(mac(0), mac(1), route);
        }
        for _ in 0..random.below(6) {
            lab.send(0, 1, &numbered(next, random.pick(lengths)));
            next += 1;
        }
        if sleepers {
            // Each for some tens of microseconds.
            lab.guests[0].asleep ^= random.below(6) == 0;
            lab.guests[1].asleep ^= random.below(6) == 0;
            lab.backend_asleep ^= random.below(6) == 0;
            lab.nic_asleep ^= random.below(6) == 0;
        }
        lab.steps(1 + random.below(3) as usize);
    }
    lab.guests[0].asleep = false;
    lab.guests[1].asleep = false;
    (lab.backend_asleep, lab.nic_asleep) = (false, false);
    // All that is underway arrives in small steps: one large step would be longer than a frame may
    // be held, and the card would have slept through it.
    lab.steps(1000);
    lab.pass_ms(100);
    lab.steps(3000);
    let numbers = numbers_from(mac(0), &lab.guests[1].take_received());
    (lab, numbers, next)
}

fn in_order_and_none_twice(seed: u64, numbers: &[u64]) {
    for pair in numbers.windows(2) {
        assert!(pair[0] < pair[1], "{} came before {} (seed {seed})", pair[0], pair[1]);
    }
}

fn ledger(lab: &mut Lab, sent: u64, delivered: u64) {
    assert_eq!(lab.guests[0].frontend.queued(), 0);
    let dropped: u64 = lab.guests.iter().map(|guest| guest.counters().dropped()).sum();
    let dropped = dropped + lab.backend.counters().dropped();
    assert_eq!(lab.nic.ledger().frames_missing(), 0);
    assert_eq!(sent, delivered + dropped, "sent = delivered + drops");
}

/// Hangs on `Frontend::drained` and on the order in which `Frontend::collect` takes the paths.
#[test]
fn frames_arrive_in_order_and_once_while_the_route_changes() {
    let seed = seed("route changes");
    for round in 0..12 {
        let (mut lab, numbers, sent) = flips(seed + round, &ROUTES, false, &[46, 200, 1000, 1486]);
        in_order_and_none_twice(seed + round, &numbers);
        ledger(&mut lab, sent, numbers.len() as u64);
        assert!(numbers.len() as u64 * 10 >= sent * 9, "most frames arrive");
    }
}

/// As above, for frames whose done the sender waits for.
#[test]
fn granted_frames_arrive_in_order_while_the_route_changes_and_everybody_is_late() {
    let seed = seed("late, granted");
    let routes = [PairRoute::NicEnvelope, PairRoute::Switch, PairRoute::Direct];
    for round in 0..12 {
        let (_, numbers, _) = flips(seed + round, &routes, true, &[1000, 1486]);
        in_order_and_none_twice(seed + round, &numbers);
    }
}

/// As above, for frames that nobody says done to: that one side has passed them on does not mean
/// that they have arrived.
#[test]
fn frames_arrive_in_order_while_the_route_changes_and_everybody_is_late() {
    let seed = seed("late");
    for round in 0..12 {
        let (_, numbers, _) = flips(seed + round, &ROUTES, true, &[46, 100, 150]);
        in_order_and_none_twice(seed + round, &numbers);
    }
}

/// The shortest story of the test above: from the driver domain's switch to the card.
#[test]
fn a_receiver_that_was_late_gets_switched_frames_before_those_that_took_the_card_later() {
    for (old, new) in [
        (PairRoute::Switch, PairRoute::NicFrame),
        (PairRoute::Switch, PairRoute::NicEnvelope),
        (PairRoute::Bridge, PairRoute::NicFrame),
        (PairRoute::Bridge, PairRoute::Direct),
        (PairRoute::Bridge, PairRoute::Switch),
    ] {
        let mut lab = vf_pair();
        lab.manager().set_route(mac(0), mac(1), old);
        lab.steps(50);
        lab.guests[1].asleep = true;
        for number in 0..3 {
            lab.send(0, 1, &numbered(number, 100));
        }
        lab.steps(5);
        lab.manager().set_route(mac(0), mac(1), new);
        lab.steps(5);
        for number in 3..6 {
            lab.send(0, 1, &numbered(number, 100));
        }
        lab.steps(5);
        lab.guests[1].asleep = false;
        lab.steps(3000);
        let numbers = numbers_from(mac(0), &lab.guests[1].take_received());
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "{old:?} to {new:?}");
    }
}

/// Hangs on `NicFrame`'s part of `drained`.
#[test]
fn frames_that_the_card_still_has_arrive_before_those_that_take_a_channel_later() {
    for new in [PairRoute::Switch, PairRoute::Direct] {
        let mut lab = vf_pair();
        lab.manager().set_route(mac(0), mac(1), PairRoute::NicFrame);
        lab.steps(50);
        lab.nic_asleep = true;
        for number in 0..3 {
            lab.send(0, 1, &numbered(number, 100));
        }
        lab.steps(5);
        lab.manager().set_route(mac(0), mac(1), new);
        lab.steps(5);
        for number in 3..6 {
            lab.send(0, 1, &numbered(number, 100));
        }
        lab.steps(5);
        lab.nic_asleep = false;
        lab.steps(3000);
        let numbers = numbers_from(mac(0), &lab.guests[1].take_received());
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "to {new:?}");
    }
}

/// Hangs on the guests hearing that the manager has ended a channel (`direct/N` in the backend's
/// directory must be theirs to read).
#[test]
fn a_direct_channel_ends_with_its_route_and_comes_back_when_it_is_asked_for_again() {
    let mut lab = vf_pair();
    for _ in 0..3 {
        lab.all_routes(PairRoute::Switch);
        lab.steps(200);
        lab.expect_delivery(0, 1, &numbered(1, 100));
        let channels = |lab: &Lab| [0, 1].map(|guest| lab.guests[guest].frontend.direct_channels());
        assert_eq!(channels(&lab), [0, 0]);
        lab.all_routes(PairRoute::Direct);
        lab.steps(200);
        assert_eq!(channels(&lab), [1, 1]);
        let forwarded = lab.backend.counters().envelopes_forwarded;
        lab.expect_delivery(0, 1, &numbered(1, 100));
        assert_eq!(lab.backend.counters().envelopes_forwarded, forwarded);
    }
}

/// Hangs on a flow that gets its entry, or loses it, draining what took the default route before,
/// or after.
#[test]
fn order_is_kept_when_a_peer_enters_the_table_and_leaves_it() {
    use std::collections::BTreeSet;
    use xenvelope_backend::{DefaultRoute, Member};
    let default_route = DefaultRoute::DriverDomain;
    let apart = |network| Member {
        networks: BTreeSet::from([network]),
        default_route,
        ..Member::default()
    };
    for enters in [true, false] {
        let mut lab = Lab::default();
        lab.manager().set_all_routes(PairRoute::NicEnvelope);
        for guest in 0..2 {
            lab.manager().set_member(mac(guest), apart(u16::from(enters && guest == 1)));
            lab.add_guest(&GuestPlan { vf: true, ..GuestPlan::default() });
        }
        lab.connect();
        lab.guests[1].asleep = true;
        lab.nic_asleep = !enters;
        for number in 0..3 {
            lab.send(0, 1, &numbered(number, 100));
        }
        lab.steps(5);
        lab.manager().set_member(mac(1), apart(u16::from(!enters)));
        lab.steps(5);
        for number in 3..6 {
            lab.send(0, 1, &numbered(number, 100));
        }
        lab.steps(5);
        lab.guests[1].asleep = false;
        lab.steps(5);
        lab.nic_asleep = false;
        lab.steps(3000);
        let numbers = numbers_from(mac(0), &lab.guests[1].take_received());
        assert!(numbers.is_sorted(), "enters: {enters}: {numbers:?}");
    }
}

/// Hangs on `is_behind_default`, and on the backend taking what the card has brought before what
/// guests sent later by their rings.
#[test]
fn order_is_kept_from_the_first_frame_of_a_guest_on() {
    let seed = seed("first frames");
    let mut random = Random(seed);
    let routes = [PairRoute::Auto, PairRoute::Bridge, PairRoute::Switch, PairRoute::Direct];
    for round in 0..40 {
        let mut lab = Lab::default();
        let route = routes[round % routes.len()];
        lab.manager().set_all_routes(route);
        // It may wait for as long as it takes.
        let config = Config { hold_timeout: Duration::from_secs(3600), ..Config::default() };
        for guest in 0..2 {
            let vf = guest == 0 || random.below(2) == 0;
            lab.add_guest(&GuestPlan { vf, config, ..GuestPlan::default() });
        }
        let mut next = 0;
        for _ in 0..60 {
            for _ in 0..random.below(4) {
                lab.send(0, 1, &numbered(next, random.pick(&[46, 200, 1000, 1486])));
                next += 1;
            }
            lab.nic_asleep ^= random.below(6) == 0;
            lab.backend_asleep ^= random.below(6) == 0;
            lab.steps(1 + random.below(3) as usize);
        }
        (lab.nic_asleep, lab.backend_asleep) = (false, false);
        lab.steps(1000);
        lab.pass_ms(100);
        lab.steps(3000);
        let numbers = numbers_from(mac(0), &lab.guests[1].take_received());
        in_order_and_none_twice(seed, &numbers);
        assert!(
            numbers.last() == Some(&(next - 1)),
            "{route:?}: the last one arrives (seed {seed})"
        );
    }
}

/// Hangs on `acceptable`: a broadcast is taken from the path of the default route alone, and
/// one's own from none.
#[test]
fn a_broadcast_arrives_once_at_everybody_and_not_at_its_sender() {
    for vfs in [[true, true, true], [true, false, true], [false, true, false], [false; 3]] {
        let mut lab = Lab::default();
        for vf in vfs {
            lab.add_guest(&GuestPlan { vf, ..GuestPlan::default() });
        }
        lab.connect();
        for sender in 0..3 {
            let bytes = frame(MacAddress::BROADCAST, mac(sender), &numbered(sender as u64, 100));
            lab.guests[sender].send(&bytes);
            lab.steps(3000);
            for guest in 0..3 {
                let got = lab.guests[guest].take_received();
                let wanted = usize::from(guest != sender);
                assert_eq!(got.len(), wanted, "{vfs:?}: from {sender} to {guest}");
            }
        }
    }
}

/// Hangs on `DropReason::Looped`.
#[test]
fn a_guest_drops_its_own_frames_that_come_back() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    for destination in [MacAddress::BROADCAST, mac(0)] {
        deliver(&mut fake, &frame(destination, mac(0), &numbered(1, 60)));
        deliver(&mut fake, &frame(destination, mac(4), &numbered(2, 60)));
    }
    fake.step();
    assert_eq!(fake.guest.counters().dropped_for(DropReason::Looped), 2);
    assert_eq!(fake.guest.received.len(), 2);
    assert_eq!(numbers_from(mac(4), &fake.guest.received), [2, 2]);
}

/// Hangs on `acceptable`: whoever floods twice, it is the default route's copy that counts.
#[test]
fn a_broadcast_that_is_flooded_on_two_paths_is_accepted_on_the_one_of_the_default_route() {
    use xenvelope_hypervisor_sim::nic::{CardPort, Nic, NicConfig};
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let nic = Nic::new(NicConfig { rx_ring: 64, ..NicConfig::default() }).expect("a card");
    let other = fake.machine.create_domain("other", 1024);
    let (ours, theirs) = (CardPort::Vf(0), CardPort::Vf(1));
    nic.pf_control().set_vf_mac(0, mac(0).0).expect("a free address");
    nic.pf_control().set_vf_mac(1, mac(4).0).expect("a free address");
    let vf = nic.assign(ours, &fake.guest.domain).expect("a VF");
    let sender = nic.assign(theirs, &other).expect("a VF");
    fake.guest.frontend.attach_vf(vf);
    for (default, by_vf) in [(CHANNEL_VF, true), (CHANNEL_DRIVER_DOMAIN, false)] {
        fake.table.borrow_mut().set_default_route(default);
        fake.step();
        // For a moment after the change it is taken from neither: the copy that comes by the new
        // way may be of one that the old way has brought.
        fake.now = Instant(fake.now.0 + 30_000_000);
        fake.step();
        let bytes = frame(MacAddress::BROADCAST, mac(4), &numbered(u64::from(by_vf), 60));
        send_raw(&other, &sender, &bytes);
        for _ in 0..1000 {
            fake.now = Instant(fake.now.0 + 1000);
            nic.run(fake.now);
        }
        deliver(&mut fake, &bytes);
        fake.step();
        assert_eq!(std::mem::take(&mut fake.guest.received), [bytes], "by VF: {by_vf}");
    }
    assert_eq!(fake.guest.counters().dropped_for(DropReason::OtherPath), 2);
}

fn send_raw(domain: &Domain, port: &DomainPort, bytes: &[u8]) {
    use xenvelope_grant::seam::{Buffer as _, Granter as _, NicPort as _, Offload};
    let mut buffer = domain.take(None, bytes.len()).expect("memory");
    buffer.put(0, bytes);
    port.send(buffer, 0..bytes.len(), Offload::default()).expect("room");
    port.kick();
}

/// The driver domain delivers a frame as netback does.
fn deliver(fake: &mut FakeBackend, bytes: &[u8]) {
    use xenvelope_grant::Gref;
    use xenvelope_grant::seam::{Buffer as _, Copier as _, Granter as _};
    let request = fake.rx.pop();
    let mut buffer = fake.dom0.take(None, 4096).expect("memory");
    buffer.put(0, bytes);
    let dom = fake.guest.domain.domid();
    let dst = End::Foreign { dom, gref: Gref(request.gref), offset: 0 };
    let src = End::Local { buffer: 0, offset: 0 };
    let mut ops = [CopyOp::new(src, dst, bytes.len() as u16)];
    fake.dom0.copy(&mut ops, &mut [buffer]).expect("the call");
    let status = bytes.len() as i16;
    let _ = fake.rx.push(&RxResponse { id: request.id, offset: 0, flags: 0, status });
    let _ = fake.rx.publish();
}
