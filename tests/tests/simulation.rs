//! The simulation of a whole host by seed: seeds that failed once, that a seed replays exactly, and
//! that a failure is made small.

use xenvelope_tests::lab::seed;
use xenvelope_tests::simulation::{Outcome, Run, Sabotage};

/// Seeds that failed once, and why.
const KEPT: &str = include_str!("../seeds/simulate.txt");
/// As `simulate` runs them.
const STEPS: u64 = 5000;

fn holds(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        panic!(
            "{}: {}\nagain: cargo run --release -p xenvelope-tests --bin simulate -- --no-kept \
             --trace --seeds 1 --first-seed {}",
            violation.oracle.name(),
            violation.what,
            outcome.seed
        );
    }
}

#[test]
fn seeds_that_failed_once_hold_now() {
    for line in KEPT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        let seed = seed.expect("a line of simulate.txt begins with a seed");
        holds(&Run::new(seed, STEPS).outcome());
    }
}

/// Hangs on nothing in frontend, backend, card and store asking a clock, chance, or the place of
/// things in memory.
#[test]
fn a_seed_replays_exactly() {
    let first = seed("replay") % (1 << 40);
    for seed in first..first + 6 {
        let run = Run::new(seed, 5000);
        let (one, other) = (run.outcome(), run.outcome());
        // Beside this process' own: another thread has other places in memory.
        let third = std::thread::spawn(move || run.outcome()).join().expect("no panic");
        assert_eq!(one, other, "seed {seed}");
        assert_eq!(one, third, "seed {seed}");
        assert!(one.steps > 0);
    }
}

#[test]
fn seeds_differ() {
    let hashes: std::collections::BTreeSet<u64> =
        (1..=6).map(|seed| Run::new(seed, 1000).outcome().hash).collect();
    assert_eq!(hashes.len(), 6);
}

/// What is printed for a failure is a run that fails in the same way, with less.
#[test]
fn a_failure_is_made_small() {
    let run = |seed| Run { sabotage: Some(Sabotage::FlippedByte), ..Run::new(seed, 2000) };
    let (run, violation) = (1..=24)
        .find_map(|seed| run(seed).outcome().violation.map(|violation| (run(seed), violation)))
        .expect("a flipped byte is found");
    let (small, outcome) = run.smallest(&violation);
    assert_eq!(outcome.violation.map(|violation| violation.oracle), Some(violation.oracle));
    assert!(small.steps < run.steps, "{} steps", small.steps);
    assert!(!outcome.lines.is_empty());
}
