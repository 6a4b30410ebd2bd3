//! Who moves the payload of granted frames: the receiver's processor, or a copy engine.

use clap::{Args, ValueEnum};
use thiserror::Error;

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

/// Something is said of an engine that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "--engine-gbit and --engine-latency say how fast a copy engine is: give --mover engine too"
)]
pub struct NoEngine;

/// What of it can be asked for.
#[derive(Args, Clone, Copy, Debug)]
pub struct MoverArguments {
    /// Who copies what a guest receives in envelopes
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    pub mover: Mover,

    /// What the copy engine copies, 0.01 to 100000 Gbit/s; needs --mover engine
    /// [default: 240]
    #[arg(long, value_name = "GBIT", value_parser = super::bus, allow_negative_numbers = true)]
    pub engine_gbit: Option<f64>,

    /// How long the copy engine takes to begin, 0 to 1000000000 nanoseconds; needs --mover engine
    /// [default: 1000]
    #[arg(long, value_name = "NS", value_parser = latency, allow_negative_numbers = true)]
    pub engine_latency: Option<u64>,
}

impl MoverArguments {
    /// Says what of what was asked for does not go together, if anything does not.
    ///
    /// # Errors
    /// [`NoEngine`].
    pub fn check(&self) -> Result<(), NoEngine> {
        let asked = self.engine_gbit.is_some() || self.engine_latency.is_some();
        if asked && self.mover != Mover::Engine { Err(NoEngine) } else { Ok(()) }
    }

    /// The engine, if there is to be one.
    pub fn engine(&self) -> Option<EngineCosts> {
        let published = EngineCosts::published();
        let costs = EngineCosts {
            latency_ns: self.engine_latency.unwrap_or(published.latency_ns),
            gbit_per_s: self.engine_gbit.unwrap_or(published.gbit_per_s),
        };
        (self.mover == Mover::Engine).then_some(costs)
    }
}

fn latency(text: &str) -> Result<u64, String> {
    let asked = text.parse().ok().filter(|ns| *ns <= 1_000_000_000);
    asked.ok_or_else(|| "give a whole number of nanoseconds, at most 1000000000".to_owned())
}
