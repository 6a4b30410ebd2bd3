//! `xenvelope-sim mixed`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{bus, frame, seconds};
use crate::machine::Costs;
use crate::measure::{FrameSize, MixedPlan, PlanError};

/// What `mixed` is asked.
#[derive(Args, Clone, Debug)]
pub struct MixedArguments {
    /// FROM:TO:ROUTE, as a:b:nic-envelope; TO may be external, one of them stock; may be given
    /// more than once [default: nine pairs over seven routes]
    #[arg(long, value_name = "PAIR")]
    pub pair: Vec<MixedPlan>,

    /// The file to send [default: this program]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// For how long all transfers run
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Duration,

    /// Frame size, 576 to 65536 bytes
    #[arg(long, value_name = "BYTES", default_value = "65536", value_parser = frame, allow_negative_numbers = true)]
    pub frame: FrameSize,

    /// What the I/O bus carries in each direction [default: no limit]
    #[arg(long, value_name = "GBIT", value_parser = bus, allow_negative_numbers = true)]
    pub bus_gbit: Option<f64>,

    /// A hypercall, an event, an IOMMU miss and the card's latency cost nothing
    #[arg(long)]
    pub ideal: bool,

    /// One JSON object instead of the tables
    #[arg(long)]
    pub json: bool,
}

impl MixedArguments {
    /// The pairs that are asked for.
    ///
    /// # Errors
    /// If they cannot be on one host together.
    pub fn plan(&self) -> Result<MixedPlan, PlanError> {
        if self.pair.is_empty() {
            return Ok(MixedPlan::usual());
        }
        MixedPlan::new(self.pair.iter().cloned())
    }

    /// What operations cost.
    pub fn costs(&self) -> Costs {
        if self.ideal { Costs::ideal() } else { Costs::published() }
    }
}
