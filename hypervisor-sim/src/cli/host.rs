//! What a host is made of, and what is to be seen of it: the same for the table of routes and for
//! Linux guests.

use clap::Args;
use thiserror::Error;
use xenvelope_grant::seam::Mechanism;

use super::{CaptureArguments, MoverArguments, NicArguments, NoEngine, StoreArguments, mechanisms};
use crate::host::{CardRefused, GuestSpec, HostSpec};
use crate::machine::Costs;
use crate::nic::NicConfig;

/// The host.
#[derive(Args, Clone, Debug)]
pub struct HostArguments {
    /// Which card the host has; the first guests get a VF each.
    #[command(flatten)]
    pub card: NicArguments,

    /// A hypercall, an event, an IOMMU miss and the card's latency cost nothing
    #[arg(long)]
    pub ideal: bool,

    /// How the right to read a frame reaches its receiver: destination, transitive or keyed
    #[arg(long, value_name = "NAME", default_value = "destination", value_parser = mechanisms::mechanism)]
    pub mechanism: Mechanism,

    /// Who moves the payload.
    #[command(flatten)]
    pub mover: MoverArguments,

    /// A capture of the run.
    #[command(flatten)]
    pub capture: CaptureArguments,

    /// The store, for programs of others.
    #[command(flatten)]
    pub store: StoreArguments,
}

/// What of it does not go together.
#[derive(Debug, Error)]
pub enum HostRefused {
    /// The card.
    #[error(transparent)]
    Card(#[from] CardRefused),
    /// Who moves the payload.
    #[error(transparent)]
    Mover(#[from] NoEngine),
}

impl HostArguments {
    /// Says what of what was asked for does not go together, if anything does not.
    ///
    /// # Errors
    /// [`HostRefused`].
    pub fn check(&self) -> Result<(), HostRefused> {
        self.card.check()?;
        Ok(self.mover.check()?)
    }

    /// The host with those guests, and that card, which [`NicArguments::config`] has begun.
    pub fn spec(&self, nic: NicConfig, guests: Vec<GuestSpec>) -> HostSpec {
        HostSpec {
            costs: if self.ideal { Costs::ideal() } else { Costs::published() },
            nic,
            vfs_held_by: self.card.vfs_held_by(),
            guests,
            mechanism: self.mechanism,
            engine: self.mover.engine(),
        }
    }
}
