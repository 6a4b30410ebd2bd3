//! A whole Xen host in a process: domains with memory of their own, grants that are enforced,
//! event channels, a store, and an SR-IOV network card.
//!
//! [`machine`] is the hypervisor and what guests have of it: it implements the traits of
//! `xenvelope_grant::seam`. [`nic`] is the card. Everything above runs on them as it runs on Xen.
//!
//! `unsafe` lives in the private module `memory`, and in [`processes`] for its one call.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod capture;
pub mod cli;
pub mod host;
pub mod machine;
pub mod measure;
pub mod mechanisms;
#[allow(unsafe_code)]
mod memory;
pub mod nic;
pub mod plot;
#[allow(unsafe_code)]
pub mod processes;
pub mod report;
pub mod stack;
pub mod store_server;
pub mod tap;
pub mod thread_clock;
