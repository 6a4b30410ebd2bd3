//! netif's back half: serves every guest, those too that know nothing of envelopes.

mod assemble;
mod checksum;
mod deliver;
mod flow;
mod salvage;

pub use assemble::{Assembled, Fragment, NetbackError, assemble};
pub use checksum::fill_checksum;
pub use deliver::{Delivery, SLOTS, Source, plan, respond, slots_for};
pub use flow::FlowHash;
pub use salvage::{salvage_rx, salvage_tx};
