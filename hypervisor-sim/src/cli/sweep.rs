//! `xenvelope-sim sweep`.

use std::time::Duration;

use clap::Args;

use super::seconds;
use crate::machine::Costs;
use crate::measure::Sweep;

/// What `sweep` is asked.
#[derive(Args, Clone, Debug)]
pub struct SweepArguments {
    /// How many guests: even numbers from 2 to 200, with commas between
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "2,4,8,16,32", value_parser = pairs_of_guests, allow_negative_numbers = true)]
    pub guests: Vec<usize>,

    /// Frames that a guest sends to its partner in a turn, 1 to 200
    #[arg(long, value_name = "N", default_value = "32", value_parser = busy, allow_negative_numbers = true)]
    pub busy: usize,

    /// Others to whom a guest sends one frame in a turn, 0 to 16; in time it reaches all
    #[arg(long, value_name = "N", default_value = "8", value_parser = light, allow_negative_numbers = true)]
    pub light: usize,

    /// Bytes of a frame's packet, 46 to 1500
    #[arg(long, value_name = "BYTES", default_value = "1500", value_parser = packet, allow_negative_numbers = true)]
    pub frame: usize,

    /// Seconds for each round
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Duration,

    /// Rounds, 1 to 100
    #[arg(long, value_name = "N", default_value = "3", value_parser = rounds, allow_negative_numbers = true)]
    pub rounds: usize,

    /// A hypercall and an event cost nothing
    #[arg(long)]
    pub ideal: bool,

    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

impl SweepArguments {
    /// What is measured at each number of guests.
    pub fn sweep(&self) -> Sweep {
        Sweep {
            costs: if self.ideal { Costs::ideal() } else { Costs::published() },
            busy: self.busy,
            light: self.light,
            frame: self.frame,
            time: self.seconds,
            rounds: self.rounds,
        }
    }
}

fn pairs_of_guests(text: &str) -> Result<usize, String> {
    let asked = text.parse().ok().filter(|asked| (2..=200).contains(asked) && asked % 2 == 0);
    asked.ok_or_else(|| "guests go in pairs: give even numbers from 2 to 200".to_owned())
}

fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let asked = text.parse().ok().filter(|asked| (least..=most).contains(asked));
    asked.ok_or_else(|| format!("give a whole number from {least} to {most}"))
}

fn busy(text: &str) -> Result<usize, String> {
    within(text, 1, 200)
}

fn light(text: &str) -> Result<usize, String> {
    within(text, 0, 16)
}

fn packet(text: &str) -> Result<usize, String> {
    within(text, 46, 1500)
}

pub(super) fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1, 100)
}
