//! A whole host: a driver domain, guests in threads of their own, a card, a wire with a peer.

mod builder;
mod cpu;
mod driver_domain;
mod external;
mod guest;
mod ledger;
mod toolstack;
mod worker;

pub use builder::{GuestKind, GuestSpec, Host, HostError, HostSpec};
pub use cpu::CpuTimes;
pub use driver_domain::{CardAgent, DriverDomain};
pub use external::{External, ExternalSnapshot};
pub use guest::{Guest, GuestSnapshot, GuestWorker};
pub use ledger::{Ledger, Unbalanced};
pub use toolstack::make_vif;
pub use worker::Worker;
