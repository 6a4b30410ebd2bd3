//! Calls into the hypervisor and events, for each packet under load.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use xenvelope_hypervisor_sim::machine::Costs;

use super::{Line, Measured, nothing};
use crate::bars::Asks;
use crate::contender::Load;
use crate::ours;
use crate::two::Sides;

/// The line.
pub const LINE: Line = Line {
    name: "hypercalls",
    describes: "hypercalls and events for each packet, 1500 B and 64 B, burst 32, both sides",
    asks: &[("hypercalls", Asks::AtMost(1.0)), ("events", Asks::AtMost(1.0))],
    needs: nothing,
    run,
};

/// One for each burst.
const ONE_A_BURST: f64 = 1.0 / 32.0;

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for bytes in [64, 1500] {
        let load = Load { length: bytes, burst: 32, full: true };
        let parts = ours::run(load, Costs::published(), Sides::Threads, length)?;
        let frames = parts[1].frames.max(1) as f64;
        let calls: u64 = parts.iter().map(|part| part.hypercalls).sum();
        let events: u64 = parts.iter().map(|part| part.events).sum();
        for (what, count) in [("hypercalls", calls), ("events", events)] {
            measured.push(Measured {
                what: format!("{what} for each packet of {bytes} B"),
                against: "one for each 32".to_owned(),
                unit: "each".to_owned(),
                ours: count as f64 / frames,
                other: ONE_A_BURST,
            });
        }
    }
    Ok(measured)
}
