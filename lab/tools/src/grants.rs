//! Which domains a guest's grant entries name.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::Verdict;
use crate::privcmd::Privcmd;

#[derive(Args)]
pub struct Options {
    /// Whose grant table.
    domain: u16,
    /// Print these references too: those that name this domain. Exit status 1 if there are any.
    #[arg(long)]
    naming: Option<u16>,
}

#[derive(Serialize)]
struct Report {
    domain: u16,
    frames: u32,
    /// By the domain that they name.
    entries: BTreeMap<u16, usize>,
    naming: Vec<u32>,
}

/// Prints a count for each domain that is named.
pub fn print(options: &Options) -> Result<Verdict> {
    let privcmd = Privcmd::open()?;
    let version = privcmd.grant_version(options.domain)?;
    if version != 1 {
        bail!("domain {} has a grant table of version {version}", options.domain);
    }
    let frames = privcmd.grant_frames(options.domain)?;
    let mut entries = BTreeMap::new();
    let mut naming = Vec::new();
    for (reference, word) in privcmd.grant_words(options.domain, frames)?.into_iter().enumerate() {
        // struct grant_entry_v1: flags u16, domid u16, frame u32; type 0 is "not in use".
        if word & 3 == 0 {
            continue;
        }
        let domain = (word >> 16) as u16;
        *entries.entry(domain).or_default() += 1;
        if options.naming == Some(domain) {
            naming.push(reference as u32);
        }
    }
    let found = !naming.is_empty();
    println!(
        "{}",
        serde_json::to_string(&Report { domain: options.domain, frames, entries, naming })?
    );
    Ok(if found { Verdict::Bad } else { Verdict::Good })
}
