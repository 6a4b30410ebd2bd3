//! Whatever a peer, the store or a file says, the harnesses of `xenvelope_tests::fuzz` hold: with
//! random bytes, with what is in the corpora, and with pieces of that changed at random.
//!
//! The same harnesses run under libFuzzer: see `fuzz/run`. proptest's seed is printed with a
//! failure, and taken from PROPTEST_RNG_SEED; the number of cases from PROPTEST_CASES.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use xenvelope_tests::fuzz::{self, TARGETS, Target};

/// The inputs of a corpus, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&directory).expect("each target has a corpus");
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a directory that can be read").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a file that can be read");
            (path, bytes)
        })
        .collect()
}

/// A change to an input: at a place, how many bytes go away and what comes instead. `None`: as many
/// go as come.
type Change = (Index, Option<u8>, Vec<u8>);

/// How many times more often than the others those run that need no host.
const OFTEN: u32 = 32;
const WITHOUT_HOST: [&str; 4] =
    ["envelope", "table", "backend_configuration", "guest_configuration"];

fn changed(input: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for (at, away, instead) in changes {
        let at = at.index(bytes.len() + 1);
        let away = away.map_or(instead.len(), usize::from);
        let end = (at + away).min(bytes.len());
        bytes.splice(at..end, instead.iter().copied());
    }
    bytes
}

fn run_random((name, run): Target) {
    let seeds = corpus(name);
    let away = proptest::option::weighted(0.3, 0u8..9);
    let change = (any::<Index>(), away, proptest::collection::vec(any::<u8>(), 0..4));
    let input = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        (any::<Index>(), proptest::collection::vec(change, 0..6)).prop_map(
            move |(which, changes)| changed(&seeds[which.index(seeds.len())].1, &changes)
        ),
    ];
    let mut config = ProptestConfig::default();
    if WITHOUT_HOST.contains(&name) {
        config.cases *= OFTEN;
    }
    proptest::test_runner::TestRunner::new(config)
        .run(&input, |input| {
            run(&input);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{name}: {failure}"));
}

#[test]
fn what_is_in_the_corpora_is_survived() {
    for (name, run) in TARGETS {
        let seeds = corpus(name);
        assert!(!seeds.is_empty(), "{name} has a corpus");
        for (path, bytes) in seeds {
            // A failure names its input, which is printed only then.
            println!("{}", path.display());
            run(&bytes);
        }
    }
}

macro_rules! random {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            run_random((stringify!($name), fuzz::$name));
        }
    )*
    #[test]
    fn no_target_is_forgotten() {
        assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
    }};
}

random!(
    envelope,
    table,
    backend_rings,
    frontend_rings,
    netif_requests,
    backend_store,
    frontend_store,
    backend_configuration,
    guest_configuration
);
