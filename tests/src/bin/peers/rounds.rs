//! Rounds: everybody in turn, again and again, so that what drifts drifts for all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::contender::{Contender, Load};
use super::lines::{Line, Measured};
use super::quiet::{self, QUIET};
use super::sample::{Order, Outcome, Task, take};
use super::window::Part;

/// How often a sample is taken again that had not.
const TRIES: usize = 3;
/// How long copies are measured before each sample, at most.
const LIMIT_SECONDS: f64 = 0.05;
/// Failures one after the other after which somebody is not tried any more.
const FAILURES: usize = 2;

/// What is to be done.
pub struct Plan {
    /// Who.
    pub contenders: Vec<Contender>,
    /// With which frames.
    pub loads: Vec<Load>,
    /// Which other lines.
    pub lines: Vec<&'static Line>,
    /// How many rounds.
    pub rounds: usize,
    /// How long a sample is.
    pub seconds: f64,
    /// How long to wait until nobody else computes.
    pub patience: Duration,
    /// The part of its core that each side must have had.
    pub share: f64,
    /// Where sockets go.
    pub directory: PathBuf,
}

/// One sample.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Sample {
    /// Who.
    pub contender: Contender,
    /// With which frames.
    pub load: Load,
    /// In which round.
    pub round: usize,
    /// Frames a second that the receiver read.
    pub per_second: f64,
    /// Frames a second that one thread copied right before.
    pub copies_per_second: f64,
    /// Nanoseconds that a cache line took from core to core and back right before.
    pub line_ns: f64,
    /// Calls into the hypervisor for each frame, both sides together.
    pub hypercalls: f64,
    /// Events for each frame, both sides together.
    pub events: f64,
    /// Cores that others kept busy right before.
    pub busy_cores: f64,
}

/// A figure of another line.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LineSample {
    /// Which line.
    pub line: &'static str,
    /// In which round.
    pub round: usize,
    /// Cores that others kept busy right before.
    pub busy_cores: f64,
    /// The figure.
    #[serde(flatten)]
    pub measured: Measured,
}

/// All that was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Taken {
    /// Samples of frames.
    pub samples: Vec<Sample>,
    /// Figures of other lines.
    pub lines: Vec<LineSample>,
    /// Samples that do not count, by why.
    pub dropped: BTreeMap<String, usize>,
    /// Who or what cannot be measured here, and what to install.
    pub missing: BTreeMap<String, String>,
    /// Who or what was tried, and failed, with the last reason.
    pub failed: BTreeMap<String, String>,
    /// Samples that were taken while others computed.
    pub noisy: usize,
}

/// Runs the rounds.
pub struct Rounds<'r> {
    plan: &'r Plan,
    taken: Taken,
    failures: BTreeMap<String, usize>,
    stopped: &'r dyn Fn() -> bool,
    say: &'r mut dyn FnMut(&str),
}

impl<'r> Rounds<'r> {
    /// Of that plan. `missing` cannot be measured.
    pub fn new(
        plan: &'r Plan,
        missing: BTreeMap<String, String>,
        stopped: &'r dyn Fn() -> bool,
        say: &'r mut dyn FnMut(&str),
    ) -> Rounds<'r> {
        let taken = Taken { missing, ..Taken::default() };
        Rounds { plan, taken, failures: BTreeMap::new(), stopped, say }
    }

    /// All of them, or as many as there are before somebody says stop.
    pub fn run(mut self) -> Taken {
        for round in 0..self.plan.rounds {
            (self.say)(&format!("round {} of {}", round + 1, self.plan.rounds));
            for load in &self.plan.loads {
                for contender in &self.plan.contenders {
                    self.frames(*contender, *load, round);
                }
            }
            for line in &self.plan.lines {
                self.line(line, round);
            }
        }
        self.taken
    }

    fn order(&self, task: Task, seconds: f64) -> Order {
        Order { task, seconds, directory: self.plan.directory.clone() }
    }

    /// Whether there is no use in another sample of `name`.
    fn given_up(&self, name: &str) -> bool {
        (self.stopped)()
            || self.taken.missing.contains_key(name)
            || self.failures.get(name).is_some_and(|failures| *failures >= FAILURES)
    }

    /// Takes a sample; nothing if there is none, after which there may be no more of `name`.
    fn take(&mut self, name: &str, task: Task, seconds: f64) -> Option<Outcome> {
        let outcome = match take(&self.order(task, seconds), self.stopped) {
            Ok(Outcome::Failed(cause)) => Err(cause),
            Ok(outcome) => Ok(outcome),
            Err(cause) => Err(format!("{cause:#}")),
        };
        match outcome {
            Ok(outcome) => {
                self.failures.remove(name);
                Some(outcome)
            }
            Err(_) if (self.stopped)() => None,
            Err(cause) => {
                (self.say)(&format!("{name}: {cause}"));
                *self.taken.dropped.entry(format!("{name}: {cause}")).or_default() += 1;
                let failures = self.failures.entry(name.to_owned()).or_default();
                *failures += 1;
                self.taken.failed.insert(name.to_owned(), cause);
                None
            }
        }
    }

    /// Waits until it is quiet, and notes it where it is not.
    fn wait(&mut self) -> f64 {
        let busy = quiet::wait(self.plan.patience, self.stopped);
        if busy >= QUIET {
            self.taken.noisy += 1;
        }
        busy
    }

    fn frames(&mut self, contender: Contender, load: Load, round: usize) {
        let name = contender.name();
        for _ in 0..TRIES {
            if self.given_up(name) {
                return;
            }
            let busy_cores = self.wait();
            let limit =
                self.take("limits", Task::Limits(load), LIMIT_SECONDS.min(self.plan.seconds));
            let Some(Outcome::Limits(copies_per_second, line_ns)) = limit else { return };
            let outcome = self.take(name, Task::Frames(contender, load), self.plan.seconds);
            let Some(Outcome::Parts(parts)) = outcome else { continue };
            match check(&parts, self.plan.share) {
                Ok(()) => {
                    let sample = sample(&parts, contender, load);
                    let sample = Sample { round, copies_per_second, line_ns, busy_cores, ..sample };
                    return self.taken.samples.push(sample);
                }
                Err(why) => {
                    self.taken.failed.insert(name.to_owned(), why.to_owned());
                    *self.taken.dropped.entry(format!("{name}: {why}")).or_default() += 1;
                }
            }
        }
    }

    fn line(&mut self, line: &'static Line, round: usize) {
        if self.given_up(line.name) {
            return;
        }
        let busy_cores = self.wait();
        let task = Task::Line(line.name.to_owned());
        if let Some(Outcome::Measured(measured)) = self.take(line.name, task, self.plan.seconds) {
            let samples = measured.into_iter().map(|measured| LineSample {
                line: line.name,
                round,
                busy_cores,
                measured,
            });
            self.taken.lines.extend(samples);
        }
    }
}

/// Whether a sample counts.
fn check(parts: &[Part; 2], share: f64) -> Result<(), &'static str> {
    if parts.iter().any(|part| part.share() < share) {
        return Err("a side did not have its core for itself");
    }
    if parts[1].frames == 0 {
        return Err("no frame arrived");
    }
    if parts[1].wrong > 0 {
        return Err("frames arrived changed or out of order");
    }
    Ok(())
}

fn sample(parts: &[Part; 2], contender: Contender, load: Load) -> Sample {
    let [sender, receiver] = parts;
    let frames = receiver.frames as f64;
    let of_both = |of: fn(&Part) -> u64| (of(sender) + of(receiver)) as f64 / frames;
    Sample {
        contender,
        load,
        round: 0,
        per_second: frames / (receiver.elapsed_ns as f64 / 1e9),
        copies_per_second: 0.0,
        line_ns: 0.0,
        hypercalls: of_both(|part| part.hypercalls),
        events: of_both(|part| part.events),
        busy_cores: 0.0,
    }
}
