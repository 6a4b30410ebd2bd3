//! Takes one defence after the other out, and shows that the tests notice.
//!
//! `tests/mutations/*.toml` lists the defences, each as an exact piece of the source, what stands
//! there without it, and the tests that must fail then. The workspace itself is left alone: it is
//! copied, and the copy is mutated, built and run.

#![forbid(unsafe_code)]

mod list;
mod scratch;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use xenvelope_tests::lab::Random;

use list::Mutation;
use scratch::Scratch;
use trial::{Build, Outcome, Trials};

/// Takes one defence after the other out of a copy of the workspace, and checks that the tests
/// named with it fail.
#[derive(Parser)]
struct Arguments {
    /// Only these.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Prints the mutations, and runs none.
    #[arg(long)]
    list: bool,
    /// So many of them, drawn by the seed.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// What to draw by.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Only those of this file; may be given more than once.
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in it");
    let chosen = match choose(&arguments, root) {
        Ok(chosen) => chosen,
        Err(error) => return bad_input(&error),
    };
    if arguments.list {
        for mutation in &chosen {
            println!("{}: {}", mutation.name, mutation.why);
        }
        return ExitCode::SUCCESS;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let place = target.join("mutations/workspace");
    let scratch = match Scratch::copy(root, &place) {
        Ok(scratch) => scratch,
        Err(error) => return bad_input(&error),
    };
    if let Some(error) = chosen.iter().find_map(|mutation| scratch.check(mutation).err()) {
        return bad_input(&error);
    }
    match run(&chosen, &scratch, &Trials::new(scratch.root(), &target)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bad_input(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(2)
}

/// The mutations that were asked for.
fn choose(arguments: &Arguments, root: &Path) -> Result<Vec<Mutation>> {
    let mut mutations = list::read(&root.join("tests/mutations"), &arguments.file)?;
    for name in &arguments.only {
        let known = mutations.iter().any(|mutation| mutation.name == *name);
        ensure!(known, "no mutation is named {name}; --list prints all");
    }
    if !arguments.only.is_empty() {
        mutations.retain(|mutation| arguments.only.contains(&mutation.name));
    }
    if let Some(count) = arguments.sample {
        ensure!(count > 0, "--sample 0 would show nothing");
        let mut random = Random(arguments.seed);
        while mutations.len() > count {
            mutations.remove(random.below(mutations.len() as u64) as usize);
        }
        println!("{} mutations, drawn by --seed {}", mutations.len(), arguments.seed);
    }
    Ok(mutations)
}

/// Whether all were caught.
fn run(mutations: &[Mutation], scratch: &Scratch, trials: &Trials) -> Result<bool> {
    let begun = Instant::now();
    check_unmutated(mutations, trials)?;
    println!("unmutated: all tests named pass ({:.0} s)", begun.elapsed().as_secs_f64());
    let (mut passed, mut failed) = (0, Vec::new());
    for (number, mutation) in mutations.iter().enumerate() {
        let since = Instant::now();
        let applied = scratch.apply(mutation)?;
        let verdict = try_one(mutation, trials).with_context(|| mutation.name.clone())?;
        drop(applied);
        let (caught, words) = verdict;
        let (at, of, name) = (number + 1, mutations.len(), &mutation.name);
        println!("[{at}/{of}] {name}: {words} ({:.1} s)", since.elapsed().as_secs_f64());
        if caught {
            passed += 1;
        } else {
            failed.push(name);
        }
    }
    for name in &failed {
        println!("not caught: {name}");
    }
    println!("in {:.0} s", begun.elapsed().as_secs_f64());
    println!("{passed} passed, {} failed", failed.len());
    Ok(failed.is_empty())
}

/// A test that fails anyway would catch anything.
fn check_unmutated(mutations: &[Mutation], trials: &Trials) -> Result<()> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for mutation in mutations {
        let tests = mutation.caught_by.iter().map(String::as_str);
        named.entry(&mutation.test).or_default().extend(tests);
    }
    for (binary, tests) in named {
        let program = match trials.build(binary)? {
            Build::Done(program) => program,
            Build::Failed(why) => {
                anyhow::bail!("{binary} does not build without a mutation:\n{why}")
            }
        };
        let there = trials.tests_in(&program)?;
        for test in tests {
            ensure!(there.contains(test), "{binary} has no test {test}");
            let outcome = trials.run(&program, test)?;
            let passes = outcome == Outcome::Passed;
            ensure!(passes, "{binary}: {test} does not pass without a mutation: {outcome:?}");
        }
    }
    Ok(())
}

/// Whether it was caught, in words too.
fn try_one(mutation: &Mutation, trials: &Trials) -> Result<(bool, String)> {
    let program = match trials.build(&mutation.test)? {
        Build::Done(program) => program,
        Build::Failed(why) => return Ok((false, format!("does not build\n{why}"))),
    };
    let mut survived = Vec::new();
    let mut how = BTreeSet::new();
    for test in &mutation.caught_by {
        match trials.run(&program, test)? {
            Outcome::Passed => survived.push(test.as_str()),
            Outcome::Failed => {}
            Outcome::Crashed => drop(how.insert("crashes")),
            Outcome::Hung => drop(how.insert("hangs")),
        }
    }
    if !survived.is_empty() {
        return Ok((false, format!("SURVIVED {}", survived.join(", "))));
    }
    let how: Vec<&str> = how.into_iter().collect();
    let how = if how.is_empty() { String::new() } else { format!(" ({})", how.join(", ")) };
    Ok((true, format!("caught{how}")))
}
