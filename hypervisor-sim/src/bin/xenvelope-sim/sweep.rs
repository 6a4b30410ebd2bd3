//! `xenvelope-sim sweep`.

use xenvelope_hypervisor_sim::cli::SweepArguments;
use xenvelope_hypervisor_sim::measure::{Topology, sweep_point};
use xenvelope_hypervisor_sim::report::{sweep_json, sweep_text};

use crate::{Failure, bar, say};

/// More and more guests, in each topology. Whether all arrived as it was sent.
pub fn run(arguments: &SweepArguments) -> Result<bool, Failure> {
    let sweep = arguments.sweep();
    let progress = bar(arguments.json);
    progress.set_length((arguments.guests.len() * Topology::ALL.len()) as u64);
    let mut rows = Vec::new();
    for guests in &arguments.guests {
        for topology in Topology::ALL {
            progress.set_message(format!("{guests} guests, {}", topology.name()));
            rows.push(sweep_point(&sweep, *guests, topology)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if arguments.json {
        say(&serde_json::to_string_pretty(&sweep_json(&sweep, &rows))?)?;
    } else {
        say(&sweep_text(&sweep, &rows))?;
    }
    Ok(rows.iter().all(|row| row.wrong == 0))
}
