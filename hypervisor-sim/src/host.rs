//! A whole host: a driver domain, guests in threads of their own, a card, a wire with a peer.

mod builder;
mod card;
mod cpu;
mod driver_domain;
mod external;
mod guest;
mod ledger;
mod queues;
mod system_stack;
mod toolstack;
mod worker;

pub use builder::{GuestKind, GuestSpec, Host, HostError, HostSpec};
pub use card::{CardRefused, CardSummary, VfHolder};
pub use cpu::CpuTimes;
pub use driver_domain::{CardAgent, DriverDomain};
pub use external::{External, ExternalSnapshot};
pub use guest::{Guest, GuestSnapshot, GuestWorker, User};
pub use ledger::{Ledger, Unbalanced};
pub use queues::{HeldPorts, SteeredQueue};
pub use system_stack::{GuestTap, OutsideTap, StackError, StackSpec};
pub use toolstack::{find_context, make_vif, offer_context};
pub use worker::Worker;
