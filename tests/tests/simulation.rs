//! The simulation of a whole host by seed: seeds that failed once, a few new ones, that a seed
//! replays exactly, that what is broken on purpose is found, and that a failure is made small.

use xenvelope_tests::lab::seed;
use xenvelope_tests::simulation::{Oracle, Outcome, Run, Sabotage};

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

#[test]
fn a_few_new_seeds_hold() {
    let first = seed("simulation") % (1 << 40);
    let (mut delivered, mut faults) = (0, 0);
    for seed in first..first + 12 {
        let outcome = Run::new(seed, STEPS).outcome();
        holds(&outcome);
        delivered += outcome.ledger.delivered;
        faults += outcome.faults.iter().sum::<u64>();
    }
    assert!(
        delivered > 1000 && faults > 10,
        "{delivered} frames and {faults} faults: an empty run"
    );
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

/// What each act must be found by.
fn finders(sabotage: Sabotage) -> &'static [Oracle] {
    match sabotage {
        Sabotage::FlippedByte => &[Oracle::Bytes],
        Sabotage::LostQuietly => &[Oracle::Conservation],
        Sabotage::DeliveredTwice => &[Oracle::Once],
        Sabotage::Overtaken => &[Oracle::Order],
        Sabotage::GrantKept => &[Oracle::KnownGrants, Oracle::Reclaimed],
        Sabotage::Deaf => &[Oracle::LinksUp],
    }
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    for sabotage in Sabotage::ALL {
        // Not each run has what it takes: a VF, say, or frames that are granted.
        let found = (1..=24).find_map(|seed| {
            let run = Run { sabotage: Some(sabotage), ..Run::new(seed, 1500) };
            let violation = run.outcome().violation?;
            finders(sabotage).contains(&violation.oracle).then_some((seed, violation))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{sabotage:?} is not found"));
        println!("{sabotage:?}: seed {seed}: {}: {}", violation.oracle.name(), violation.what);
    }
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
