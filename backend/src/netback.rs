//! netif's back half: serves every guest, those too that know nothing of envelopes.

mod assemble;
mod checksum;
mod deliver;

pub use assemble::{Assembled, Fragment, NetbackError, assemble};
pub use checksum::locate_checksum;
pub use deliver::{Delivery, Source, plan, respond};
