//! A receiver whose copies take their time keeps all rules: it delivers in order, nothing before
//! it has been copied, tells done only of what has been, and nothing is lost or duplicated.

use std::thread::sleep;
use std::time::{Duration, Instant};

use xenvelope_backend::PairRoute;
use xenvelope_frontend::{Config, DropReason};
use xenvelope_hypervisor_sim::machine::EngineCosts;
use xenvelope_tests::lab::{GuestPlan, Lab, Random, mac, numbered, numbers_from, seed};

/// Longer than what a test does meanwhile.
const SLOW: Duration = Duration::from_millis(400);
/// How long a copy may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

fn lab(latency: Duration) -> Lab {
    // The lab's time may run faster than the engine's: older frames are waited for for longer.
    let config = Config { hold_timeout: Duration::from_millis(60), ..Config::default() };
    let mut lab = Lab::with_guests(2, &GuestPlan { vf: true, config, ..GuestPlan::default() });
    lab.connect();
    let latency_ns = u64::try_from(latency.as_nanos()).expect("a short time");
    let costs = EngineCosts { latency_ns, gbit_per_s: 0.0 };
    assert!(lab.machine.start_engine(costs).expect("a thread"));
    lab
}

/// Steps until that holds, for as long as the engine may take.
fn until(lab: &mut Lab, what: &str, mut done: impl FnMut(&mut Lab) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done(lab) {
        assert!(Instant::now() < end, "{what}");
        lab.step();
        sleep(Duration::from_micros(10));
    }
}

#[test]
fn nothing_is_delivered_nor_done_before_it_has_been_copied() {
    for route in [PairRoute::NicEnvelope, PairRoute::Switch, PairRoute::Direct] {
        let mut lab = lab(SLOW);
        lab.all_routes(route);
        lab.steps(200);
        lab.guests[1].take_received();
        let dones = lab.guests[1].counters().dones_sent;
        let started = Instant::now();
        for number in 0..3 {
            lab.send(0, 1, &numbered(number, 1400));
            lab.steps(30);
        }
        // The done's delay passes many times over.
        lab.pass_ms(20);
        if started.elapsed() < SLOW {
            assert!(lab.guests[1].take_received().is_empty(), "{route:?}");
            assert_eq!(lab.guests[1].counters().dones_sent, dones, "{route:?}");
            assert!(lab.guests[0].frontend.outstanding() > 0, "{route:?}");
        } else {
            eprintln!("{route:?}: this machine is too slow to see what is not there yet");
        }
        let mut received = Vec::new();
        until(&mut lab, "all frames", |lab| {
            received.extend(numbers_from(mac(0), &lab.guests[1].take_received()));
            received.len() == 3
        });
        assert_eq!(received, [0, 1, 2], "{route:?}");
        until(&mut lab, "all is done", |lab| lab.guests[0].frontend.outstanding() == 0);
        assert!(lab.guests[1].domain.counters().engine_bytes >= 3 * 1400, "{route:?}");
    }
}

#[test]
fn order_is_kept_and_nothing_lost_or_duplicated_while_routes_change() {
    let seed = seed("copy_engine");
    let mut random = Random(seed);
    let mut lab = lab(Duration::from_micros(300));
    // Not the direct one: what is in a channel that is taken down is lost, however it is copied.
    let routes = [PairRoute::NicFrame, PairRoute::NicEnvelope, PairRoute::Switch];
    lab.guests[1].take_received();
    let mut next = 0;
    let mut numbers = Vec::new();
    for _ in 0..200 {
        if random.below(3) == 0 {
            let route = random.pick(&routes);
            lab.manager().set_route(mac(0), mac(1), route);
        }
        for _ in 0..random.below(6) {
            lab.send(0, 1, &numbered(next, random.pick(&[40, 200, 1400])));
            next += 1;
        }
        for _ in 0..1 + random.below(3) {
            lab.step();
            // About as fast as the engine's time.
            sleep(Duration::from_micros(10));
        }
        numbers.extend(numbers_from(mac(0), &lab.guests[1].take_received()));
    }
    until(&mut lab, "nothing is outstanding", |lab| {
        numbers.extend(numbers_from(mac(0), &lab.guests[1].take_received()));
        lab.guests[0].frontend.outstanding() == 0 && lab.guests[0].frontend.queued() == 0
    });
    for _ in 0..200 {
        lab.step();
        sleep(Duration::from_micros(20));
    }
    numbers.extend(numbers_from(mac(0), &lab.guests[1].take_received()));
    for pair in numbers.windows(2) {
        assert!(pair[0] < pair[1], "{} came before {} (seed {seed})", pair[0], pair[1]);
    }
    let dropped: u64 = lab.guests.iter().map(|guest| guest.counters().dropped()).sum();
    let dropped = dropped + lab.backend.counters().dropped();
    assert_eq!(next, numbers.len() as u64 + dropped, "sent = delivered + drops (seed {seed})");
    assert!(numbers.len() as u64 > next / 2, "most arrive (seed {seed})");
}

#[test]
fn a_sender_that_ends_while_it_is_copied_from_delivers_nothing() {
    let mut lab = lab(SLOW);
    lab.all_routes(PairRoute::Switch);
    lab.steps(200);
    lab.guests[1].take_received();
    let started = Instant::now();
    lab.send(0, 1, &numbered(7, 1400));
    lab.steps(30);
    let sender = lab.domid(0);
    lab.machine.destroy(sender);
    if started.elapsed() > SLOW {
        eprintln!("this machine is too slow to end a domain in the middle of a copy");
        return;
    }
    until(&mut lab, "the copy fails", |lab| {
        lab.guests[1].counters().dropped_for(DropReason::CopyFailed) == 1
    });
    assert!(lab.guests[1].take_received().is_empty());
}

#[test]
fn many_frames_are_copied_while_others_are_on_their_way() {
    let mut lab = lab(Duration::from_millis(2));
    lab.all_routes(PairRoute::Direct);
    lab.steps(400);
    lab.guests[1].take_received();
    let mut received = Vec::new();
    let mut sent = 0;
    until(&mut lab, "2000 frames", |lab| {
        // Never more than the sender may have outstanding.
        while sent < 2000 && sent - (received.len() as u64) < 64 {
            lab.send(0, 1, &numbered(sent, 1000));
            sent += 1;
        }
        received.extend(numbers_from(mac(0), &lab.guests[1].take_received()));
        received.len() >= 2000
    });
    assert_eq!(received, (0..2000).collect::<Vec<_>>());
}
