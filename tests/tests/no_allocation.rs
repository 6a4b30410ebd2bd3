//! The data path allocates nothing: once warm, no poll and no flush of a frontend, and no round of
//! the driver domain, asks the allocator for memory, whatever the route.

use std::thread::sleep;
use std::time::Duration;

use xenvelope_backend::PairRoute;
use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_grant::seam::{Buffer, Granter, Offload};
use xenvelope_hypervisor_sim::machine::EngineCosts;
use xenvelope_tests::lab::{GuestPlan, Lab, ROUTES, frame};

/// Turns before allocations count: pools and scratch space reach their size.
const WARM: usize = 1000;
/// Turns that are counted.
const COUNTED: usize = 1000;
/// Frames of each turn.
const BURST: usize = 16;

/// One turn of everybody with a burst of frames from guest 0 to guest 1. Returns how often the
/// allocator was called by frontends and backend, and how many frames arrived.
fn turn(lab: &mut Lab, bytes: &[u8]) -> (u64, u64) {
    let mut arrived = 0;
    lab.now.0 += 50_000;
    let now = lab.now;
    let driven = allocation_counter::measure(|| {
        for _ in 0..BURST / 2 {
            let frontend = &mut lab.guests[0].frontend;
            if let Some(mut buffer) = frontend.buffer(bytes.len()) {
                let place = FRAME_AT..FRAME_AT + bytes.len();
                buffer.stack_bytes_mut()[place.clone()].copy_from_slice(bytes);
                frontend.send(buffer, place, Offload::default());
            }
        }
        for (index, guest) in lab.guests.iter_mut().enumerate().filter(|(_, guest)| !guest.asleep) {
            guest.frontend.poll(now);
            while guest.frontend.receive(|_, _| ()).is_some() {
                arrived += 1;
            }
            // The other half of the burst is built where it leaves from.
            for _ in 0..if index == 0 { BURST / 2 } else { 0 } {
                let build = |place: &mut [u8]| place.copy_from_slice(bytes);
                let _ = guest.frontend.send_built(bytes.len(), Offload::default(), build);
            }
            guest.frontend.flush(now);
        }
        lab.backend.poll(now);
    });
    // The card is hardware: what its simulation does is not counted.
    lab.run_card();
    (driven.count_total, arrived)
}

fn calls_of(route: PairRoute, length: usize, engine: bool) -> u64 {
    let mut lab = Lab::with_guests(2, &GuestPlan { vf: true, ..GuestPlan::default() });
    lab.connect();
    lab.all_routes(route);
    // So slow that there are always batches on their way.
    let costs = EngineCosts { latency_ns: 200_000, gbit_per_s: 0.0 };
    let pause = if engine {
        lab.machine.start_engine(costs).expect("a thread");
        Duration::from_micros(100)
    } else {
        Duration::ZERO
    };
    let bytes = frame(lab.guests[1].mac, lab.guests[0].mac, &vec![0x5a; length]);
    // How many buffers are in use at once hangs on how the engine's thread is scheduled: the lists
    // of free pages have their size beforehand.
    for guest in &lab.guests {
        let most = (0..2048).map_while(|_| guest.domain.take(None, bytes.len()).ok());
        drop(most.collect::<Vec<_>>());
    }
    for number in 0..WARM {
        // For a while the receiver sleeps, as it does for the sender when its engine is slow: what
        // may be outstanding is. Then it wakes, and as many batches are on their way as may be.
        lab.guests[1].asleep = engine && number < WARM / 3;
        turn(&mut lab, &bytes);
        if number > WARM / 2 {
            sleep(pause);
        }
    }
    // With an engine it is its thread's affair how many batches are on their way at once, and a
    // list may have to grow once more. A path that allocates does so in every thousand turns.
    let tries = if engine { 3 } else { 1 };
    let mut least = u64::MAX;
    for _ in 0..tries {
        let (mut calls, mut arrived) = (0, 0);
        for _ in 0..COUNTED {
            let (more, frames) = turn(&mut lab, &bytes);
            sleep(pause);
            calls += more;
            arrived += frames;
        }
        let enough = (COUNTED * BURST / 2) as u64;
        assert!(arrived > enough, "{route:?}: only {arrived} frames arrived");
        least = least.min(calls);
        if least == 0 {
            break;
        }
    }
    least
}

#[test]
fn no_route_allocates_once_it_is_warm() {
    for route in ROUTES {
        for length in [60, 1400] {
            for engine in [false, true] {
                let calls = calls_of(route, length, engine);
                let by = if engine { "copy engine" } else { "processor" };
                assert_eq!(calls, 0, "{route:?}, {by}, {length} bytes: {calls} allocations");
            }
        }
    }
}
