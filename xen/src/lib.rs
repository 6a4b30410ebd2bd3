//! Xen's own devices under Linux: `/dev/xen/gntalloc`, `/dev/xen/gntdev`, `/dev/xen/evtchn`.
//!
//! Their binary interface: the request structures bit for bit, and the numbers of the calls, each
//! checked against the kernel's. And xenstore: its wire, and the seam's `Store` over it.
#![cfg_attr(not(feature = "linux"), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod evtchn;
pub mod gntalloc;
pub mod gntdev;
#[cfg(feature = "linux")]
pub mod linux;
mod number;
pub mod wire;
