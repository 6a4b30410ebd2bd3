//! The costs that the repository remembers, and whether they are still so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::scene::Load;

/// By how many percent a count may differ.
pub const TOLERANCE: f64 = 2.0;
/// What writes the file anew.
pub const UPDATE: &str = "cargo run --release -p xenvelope-tests --bin packet-cost -- --update";

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The compiler that made the program which was counted: another makes other instructions.
    pub rustc: String,
    /// Instructions for a frame, by `LENGTH/BURST`.
    pub instructions: BTreeMap<String, f64>,
}

/// How a load is called in the file.
pub fn name(load: Load) -> String {
    format!("{}/{}", load.length, load.burst)
}

/// The compiler in use.
pub fn rustc() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).arg("--version").output();
    let output = output.with_context(|| format!("{} does not start", rustc.display()))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/costs/packet.toml"))
}

/// Reads the file.
pub fn read() -> Result<Known> {
    let path = path();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: cannot be read; {UPDATE} writes it", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}: {UPDATE} writes it anew", path.display()))
}

/// Writes the file. Where it is.
pub fn write(instructions: &[(Load, f64)]) -> Result<PathBuf> {
    let mut text = format!(
        "# Instructions that a frame costs sender and receiver together, by bytes and burst. Written\n\
         # by `{UPDATE}`.\n\n\
         rustc = \"{}\"\n\n[instructions]\n",
        rustc()?
    );
    for (load, count) in instructions {
        writeln!(text, "\"{}\" = {count:.1}", name(*load))?;
    }
    let path = path();
    std::fs::write(&path, text)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(path)
}

impl Known {
    /// What is to be said of a count, if anything is.
    pub fn verdict(&self, load: Load, counted: f64) -> Result<(), String> {
        let name = name(load);
        let Some(known) = self.instructions.get(&name) else {
            return Err(format!("{name}: {counted:.1} instructions, and the file says nothing"));
        };
        let change = (counted / known - 1.0) * 100.0;
        if change.abs() <= TOLERANCE {
            return Ok(());
        }
        Err(format!(
            "{name}: {counted:.1} instructions for a frame where {known:.1} are known \
             ({change:+.1} %, and {TOLERANCE} % are tolerated)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_differ_by_hardly_two_percent_either_way() {
        let load = Load { length: 64, burst: 32 };
        let instructions = BTreeMap::from([(name(load), 1000.0)]);
        let known = Known { rustc: String::new(), instructions };
        for right in [981.0, 1000.0, 1019.0] {
            assert_eq!(known.verdict(load, right), Ok(()));
        }
        for (wrong, said) in [(979.0, "-2.1 %"), (1021.0, "+2.1 %")] {
            let verdict = known.verdict(load, wrong).unwrap_err();
            assert!(verdict.contains("64/32") && verdict.contains(said), "{verdict}");
        }
        let other = known.verdict(Load { length: 65, burst: 32 }, 1000.0).unwrap_err();
        assert!(other.contains("the file says nothing"), "{other}");
    }
}
