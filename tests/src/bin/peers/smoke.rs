//! A run that is only to show that all of it runs: what is there is tried once, and nothing is
//! asked of the figures.

use super::bars::Bar;
use super::rounds::{Plan, Taken};

/// What came of one of those that were to be tried.
enum Outcome {
    Passed,
    Failed(String),
    /// It is not there: what to install.
    Skipped(String),
}

/// What came of all of them.
pub struct Verdict {
    /// A line for each, and the counts in the last.
    pub text: String,
    /// Whether that is good enough: nothing failed, and nothing was skipped that may not be.
    pub good: bool,
}

/// Judges a run. Where `all` must be there, what is missing fails.
pub fn judge(plan: &Plan, taken: &Taken, bars: &[Bar], all: bool) -> Verdict {
    let (mut text, mut passed, mut failed, mut skipped) = (String::new(), 0, 0, 0);
    let mut note = |name: &str, outcome: Outcome| match outcome {
        Outcome::Passed => {
            passed += 1;
            text.push_str(&format!("ok      {name}\n"));
        }
        Outcome::Skipped(why) if !all => {
            skipped += 1;
            text.push_str(&format!("!!!! SKIPPED: {name}: {why}\n"));
        }
        Outcome::Failed(why) | Outcome::Skipped(why) => {
            failed += 1;
            text.push_str(&format!("FAILED  {name}: {why}\n"));
        }
    };
    let without_samples = |name: &str| match (taken.missing.get(name), taken.failed.get(name)) {
        (Some(why), _) => Outcome::Skipped(why.clone()),
        (None, Some(why)) => Outcome::Failed(why.clone()),
        (None, None) => Outcome::Failed("it gave no sample".to_owned()),
    };
    for contender in &plan.contenders {
        let of_load = |load| {
            taken.samples.iter().any(|sample| sample.contender == *contender && sample.load == load)
        };
        match plan.loads.iter().find(|load| !of_load(**load)) {
            None => note(contender.name(), Outcome::Passed),
            Some(load) => {
                note(&format!("{contender}, {load}"), without_samples(contender.name()));
            }
        }
    }
    for line in &plan.lines {
        let there = taken.lines.iter().any(|sample| sample.line == line.name);
        note(line.name, if there { Outcome::Passed } else { without_samples(line.name) });
    }
    // A ratio that is not a number would pass for measured.
    for bar in bars {
        if let Some(ratio) = bar.ratio.filter(|ratio| !(ratio.median.is_finite())) {
            note(&bar.what, Outcome::Failed(format!("its ratio is {}", ratio.median)));
        }
    }
    text.push_str(&match skipped {
        0 => format!("peers: {passed} passed, {failed} failed\n"),
        _ => format!("peers: {passed} passed, {failed} failed, {skipped} SKIPPED\n"),
    });
    Verdict { text, good: failed == 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contender::Contender;

    #[test]
    fn a_missing_peer_is_skipped_aloud_or_fails_and_a_failed_one_always_fails() {
        let plan = Plan {
            contenders: vec![Contender::VhostSplit, Contender::Tap],
            loads: crate::contender::Load::all(),
            lines: vec![],
            rounds: 1,
            seconds: 0.05,
            patience: Duration::ZERO,
            share: 0.0,
            directory: std::path::PathBuf::new(),
        };
        let why = |name: &str, why: &str| [(name.to_owned(), why.to_owned())].into();
        let missing = Taken { missing: why("vhost-split", "install dpdk"), ..Taken::default() };
        let judged = judge(&plan, &missing, &[], false);
        assert!(judged.text.contains("!!!! SKIPPED: vhost-split"), "{}", judged.text);
        assert!(judged.text.ends_with("0 passed, 1 failed, 1 SKIPPED\n"), "{}", judged.text);
        let judged = judge(&plan, &missing, &[], true);
        assert!(judged.text.ends_with("0 passed, 2 failed\n"), "{}", judged.text);
        let plan = Plan { contenders: vec![Contender::VhostSplit], ..plan };
        assert!(judge(&plan, &missing, &[], false).good);
        assert!(!judge(&plan, &missing, &[], true).good);
        let failed = Taken { failed: why("vhost-split", "no frame arrived"), ..Taken::default() };
        assert!(!judge(&plan, &failed, &[], false).good);
    }
}
