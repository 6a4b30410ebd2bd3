//! Events: none lost, none double, none while masked.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use xenvelope_grant::seam::PortId;

use super::*;

fn queue() -> EventQueue {
    EventQueue::new(Backing::default()).expect("a page")
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(20))
}

fn never_needed() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn wait(queue: &EventQueue, room: usize) -> Vec<u32> {
    let mut out = vec![PortId(0); room];
    let found = queue.wait(&mut out, soon());
    out[..found].iter().map(|port| port.0).collect()
}

#[test]
fn an_event_that_arrives_while_masked_is_reported_after_the_unmask() {
    let queue = queue();
    queue.raise(70);
    assert_eq!(wait(&queue, 4), [70]);
    queue.raise(70);
    assert_eq!(wait(&queue, 4), [] as [u32; 0]);
    queue.unmask(70);
    assert_eq!(wait(&queue, 4), [70]);
    queue.unmask(70);
    assert_eq!(wait(&queue, 4), [] as [u32; 0]);
}

#[test]
fn events_that_find_no_room_stay_for_the_next_call_and_no_port_starves() {
    let queue = queue();
    let ports = [1, 2, 63, 64, 4095];
    ports.iter().for_each(|port| queue.raise(*port));
    let mut seen = Vec::new();
    for _ in 0..ports.len() {
        let got = wait(&queue, 1);
        // The port fires again at once: a storm.
        got.iter().for_each(|port| {
            queue.unmask(*port);
            queue.raise(*port);
        });
        seen.extend(got);
    }
    seen.sort_unstable();
    assert_eq!(seen, ports);
}

#[test]
fn a_watch_makes_wait_return_without_a_port() {
    let queue = Arc::new(queue());
    let other = Arc::clone(&queue);
    let caller = thread::spawn(move || other.call_attention());
    assert_eq!(queue.wait(&mut [PortId(0); 4], never_needed()), 0);
    caller.join().expect("no panic");
}

#[test]
fn wait_without_room_does_not_sleep_on_a_pending_event() {
    let queue = queue();
    queue.raise(5);
    assert_eq!(queue.wait(&mut [], never_needed()), 0);
    assert_eq!(wait(&queue, 1), [5]);
}

/// Two threads pass a ball by events only: one lost wake-up and they sleep for a minute.
#[test]
fn no_wake_up_is_lost_between_two_threads() {
    const ROUNDS: u32 = 20_000;
    let queues = [Arc::new(queue()), Arc::new(queue())];
    let players: Vec<_> = (0..2usize)
        .map(|me| {
            let (own, other) = (Arc::clone(&queues[me]), Arc::clone(&queues[1 - me]));
            thread::spawn(move || {
                if me == 0 {
                    other.raise(9);
                }
                let mut out = [PortId(0); 2];
                for round in 0..ROUNDS {
                    let found = own.wait(&mut out, never_needed());
                    assert_eq!((found, out[0]), (1, PortId(9)), "round {round}");
                    // Both orders are right: an event between them stays pending.
                    if round % 2 == 0 {
                        own.unmask(9);
                        other.raise(9);
                    } else {
                        other.raise(9);
                        own.unmask(9);
                    }
                }
            })
        })
        .collect();
    players.into_iter().for_each(|player| player.join().expect("no wake-up lost"));
}

/// A producer that raises one port as fast as it can: what it wrote before the last raise must
/// be seen.
#[test]
fn the_last_event_of_a_burst_is_always_seen() {
    const LAST: u64 = 200_000;
    let queue = Arc::new(queue());
    let written = Arc::new(AtomicU64::new(0));
    let (other, ring) = (Arc::clone(&queue), Arc::clone(&written));
    let producer = thread::spawn(move || {
        for value in 1..=LAST {
            ring.store(value, Relaxed);
            other.raise(33);
        }
    });
    let mut out = [PortId(0); 1];
    while written.load(Relaxed) != LAST {
        assert_eq!(queue.wait(&mut out, never_needed()), 1, "slept through the last event");
        queue.unmask(33);
    }
    producer.join().expect("no panic");
}
