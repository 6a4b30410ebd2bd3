//! One run of one seed, and how a failure is made small.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::checks::EVERY;
use super::faults::{Fault, OF};
use super::ledger::Ledger;
use super::oracles::{Oracle, Violation};
use super::plan::{Plan, Weather};
use super::shared::Sabotage;
use super::world::{Polls, World};

/// How a seed is run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Steps until faults and traffic stop.
    pub steps: u64,
    /// Faults that do not happen.
    pub without: Vec<Fault>,
    /// How many of the last notes are kept.
    pub keep: usize,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// How much went wrong.
    pub weather: Weather,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// The hash of all that happened.
    pub hash: u64,
    /// Events delivered, and polls of frontends and the backend.
    pub steps: u64,
    /// Events delivered.
    pub events: u64,
    /// Polls by kind.
    pub polls: Polls,
    /// Faults by kind.
    pub faults: Vec<u64>,
    /// Failed copies by status.
    pub statuses: [u64; 16],
    /// Evaluations by oracle.
    pub evaluations: Vec<u64>,
    /// Frames.
    pub ledger: Ledger,
    /// How much time went by in the run, in nanoseconds.
    pub virtual_ns: u64,
    /// The last of what happened, if it was kept.
    pub lines: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static CAUGHT: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics inside of runs are findings: they are kept, and not printed. Others are as ever.
pub fn keep_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CAUGHT.with(|caught| *caught.borrow()) {
                PANIC.with(|kept| *kept.borrow_mut() = Some(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
}

impl Run {
    /// A run of that many steps.
    pub fn new(seed: u64, steps: u64) -> Run {
        Run { seed, steps, without: Vec::new(), keep: 0, sabotage: None }
    }

    /// Runs it.
    pub fn outcome(&self) -> Outcome {
        keep_panics();
        let plan = Plan::of(self.seed);
        let tear_down = plan.tear_down && self.sabotage.is_none();
        let mut world = World::new(plan, &self.without, self.keep, self.sabotage);
        CAUGHT.with(|caught| *caught.borrow_mut() = true);
        let result = catch_unwind(AssertUnwindSafe(|| self.drive(&mut world, tear_down)));
        let panic = result.is_err().then(|| PANIC.with(|kept| kept.borrow_mut().take()));
        world.shared.oracles.check(Oracle::NoPanic, panic.is_none(), || {
            panic.flatten().unwrap_or_else(|| "a panic without a message".to_owned())
        });
        let outcome = self.result(&world);
        // What is left after a panic may be in a state in which it cannot end well.
        let ended = catch_unwind(AssertUnwindSafe(|| drop(world)));
        CAUGHT.with(|caught| *caught.borrow_mut() = false);
        if ended.is_err() && outcome.violation.is_none() {
            let what = PANIC.with(|kept| kept.borrow_mut().take()).unwrap_or_default();
            let violation = Violation { oracle: Oracle::NoPanic, what, step: outcome.steps };
            return Outcome { violation: Some(violation), ..outcome };
        }
        outcome
    }

    fn drive(&self, world: &mut World, tear_down: bool) {
        let mut looked_at = 0;
        while world.steps() < self.steps {
            world.go_on();
            if world.steps() >= looked_at + EVERY {
                looked_at = world.steps();
                world.look_around();
            }
            if !world.shared.oracles.all_hold() {
                return;
            }
        }
        world.settle();
        world.look_around();
        if tear_down && world.shared.oracles.all_hold() {
            world.tear_down();
        }
    }

    fn result(&self, world: &World) -> Outcome {
        let shared = &world.shared;
        Outcome {
            seed: self.seed,
            weather: world.plan.weather,
            violation: shared.oracles.violation(),
            hash: shared.trace.hash(),
            steps: world.steps(),
            events: shared.events.get(),
            polls: world.polls,
            faults: shared.faults.counts(),
            statuses: shared.faults.statuses(),
            evaluations: shared.oracles.counts(),
            ledger: world.ledger(),
            virtual_ns: shared.now().0,
            lines: shared.trace.lines(),
        }
    }

    /// A run that still fails in the same way, with as little as that takes: kinds of faults are
    /// taken out one after another, and steps cut. With the last of what happens in it.
    pub fn smallest(&self, violation: &Violation) -> (Run, Outcome) {
        let fails = |run: &Run| {
            let outcome = run.outcome();
            let same = outcome.violation.as_ref().is_some_and(|now| now.oracle == violation.oracle);
            same.then_some(outcome)
        };
        let mut best = self.clone();
        let rates = Plan::of(self.seed).rates;
        for fault in Fault::ALL {
            if rates[*fault as usize] == 0 || best.without.contains(fault) {
                continue;
            }
            let mut without = best.without.clone();
            without.push(*fault);
            let run = Run { without, ..best.clone() };
            if fails(&run).is_some() {
                best = run;
            }
        }
        let mut cut = best.steps / 2;
        while cut >= 16 {
            let run = Run { steps: best.steps - cut, ..best.clone() };
            if fails(&run).is_some() {
                best = run;
                cut = cut.min(best.steps / 2);
            } else {
                cut /= 2;
            }
        }
        best.keep = self.keep.max(60);
        let outcome = best.outcome();
        (best, outcome)
    }
}

/// A chance as people read it.
pub fn chance(rate: u64) -> f64 {
    rate as f64 / OF as f64
}
