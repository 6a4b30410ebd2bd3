//! The driver domain's side of xenvelope.
//!
//! | module | what |
//! |---|---|
//! | [`driver_domain`] | the loop: takes from all guests and the uplink, switches, delivers |
//! | [`netback`] | netif's back half: a guest's requests taken apart, a frame put into its buffers |
//! | [`control`] | the control plane over the store: handshakes, keys |
//! | [`manager`] | who may reach whom and by which way: forwarding tables, direct channels |
//! | [`uplink`] | the port towards the outside: a NIC's PF |
//!
//! Beside netif's own way, a frame may be left for the receiving guest to copy: the right to read it
//! is passed on (`passing`).
//!
//! A guest is not trusted: what it writes into a ring is copied once, checked, and an error ends
//! that guest's interface and nobody else's.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod control;
pub mod counters;
pub mod driver_domain;
mod envelopes;
mod forward;
pub mod manager;
pub mod netback;
mod passing;
pub mod uplink;
mod vif;

pub use counters::{Counters, DropReason};
pub use driver_domain::{Backend, BackendError, Config};
pub use manager::{DefaultRoute, Manager, Member, PairRoute};
pub use uplink::PfControl;
