//! The guest's side of xenvelope: one network interface that bonds a VF, the channel to the
//! driver domain and direct channels to other guests.
//!
//! A frame's way out: [`transmit`] looks the destination up in the forwarding table, grants the
//! frame to that one destination, and puts an envelope on the path that the table names. A
//! frame's way in: [`receive`] gathers envelopes from all paths, copies what they point to with
//! one call, and hands out frames. What is common to a pair of guests (sequence numbers, what is
//! outstanding, what has arrived) lives in `xenvelope_switch::window` and [`peers`].
//!
//! No std: a guest kernel links this as it is. All that it asks of its surroundings are the
//! traits of `xenvelope_grant::seam`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod config;
mod connect;
pub mod counters;
mod direct;
mod interface;
pub mod netfront;
pub mod peers;
#[cfg(feature = "smoltcp")]
pub mod phy;
mod polling;
pub mod receive;
mod reclaim;
mod route;
pub mod stack;
pub mod transmit;
mod warm;

pub use config::Config;
pub use counters::{Counters, DropReason, Ways};
pub use interface::{Frontend, FrontendError, Link};
