//! Who moves the payload of granted frames: the receiver's processor, or a copy engine.

use clap::{Args, ValueEnum};

use crate::machine::EngineCosts;

/// Who copies for a receiver.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mover {
    /// Its processor, in the hypervisor.
    #[default]
    Processor,
    /// A copy engine of the host, while the processor does something else.
    Engine,
}

/// What of it can be asked for.
#[derive(Args, Clone, Debug)]
pub struct MoverArguments {
    /// Who copies what a guest receives in envelopes
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    pub mover: Mover,

    /// What the copy engine copies, 0.01 to 100000 Gbit/s; needs --mover engine
    #[arg(long, value_name = "GBIT", default_value = "240", value_parser = super::bus, allow_negative_numbers = true)]
    pub engine_gbit: f64,

    /// How long the copy engine takes to begin, 0 to 1000000000 nanoseconds; needs --mover engine
    #[arg(long, value_name = "NS", default_value = "1000", value_parser = latency, allow_negative_numbers = true)]
    pub engine_latency: u64,
}

impl MoverArguments {
    /// The engine, if there is to be one.
    pub fn engine(&self) -> Option<EngineCosts> {
        let costs = EngineCosts { latency_ns: self.engine_latency, gbit_per_s: self.engine_gbit };
        (self.mover == Mover::Engine).then_some(costs)
    }
}

fn latency(text: &str) -> Result<u64, String> {
    let asked = text.parse().ok().filter(|ns| *ns <= 1_000_000_000);
    asked.ok_or_else(|| "give a whole number of nanoseconds, at most 1000000000".to_owned())
}
