//! `xenvelope-sim mechanisms`, and the name of a mechanism.

use std::time::Duration;

use clap::Args;
use xenvelope_grant::seam::Mechanism;

use crate::machine::Costs;
use crate::measure::{FrameSize, Limits};
use crate::mechanisms::Plan;

/// What can be said of the comparison of mechanisms.
#[derive(Args, Clone, Debug)]
pub struct Mechanisms {
    /// Seconds for each transfer, unless 256 MB are through before
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::seconds, allow_negative_numbers = true)]
    pub seconds: Duration,

    /// Measure at this frame size only, 576 to 65536 bytes; may be given more than once
    #[arg(long, value_name = "BYTES", value_parser = super::frame, allow_negative_numbers = true)]
    pub frame: Vec<FrameSize>,

    /// A hypercall, an event, an IOMMU miss and the card's latency cost nothing
    #[arg(long)]
    pub ideal: bool,

    /// One JSON object instead of the tables
    #[arg(long)]
    pub json: bool,
}

impl Mechanisms {
    /// What is to be compared.
    pub fn plan(&self) -> Plan {
        let frames = if self.frame.is_empty() {
            [1500, FrameSize::MAX].into_iter().filter_map(FrameSize::new).collect()
        } else {
            self.frame.clone()
        };
        let limits = Limits { time: self.seconds, bytes: super::ENOUGH, pings: Duration::ZERO };
        let costs = if self.ideal { Costs::ideal() } else { Costs::published() };
        Plan { frames, limits, costs }
    }
}

/// The mechanism of a name.
pub(super) fn mechanism(text: &str) -> Result<Mechanism, String> {
    Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == text).ok_or_else(|| {
        let names = Mechanism::ALL.map(Mechanism::name).join(", ");
        format!("there is no mechanism {text:?}; the mechanisms are {names}")
    })
}
