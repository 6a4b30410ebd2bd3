//! Xen's own devices under Linux: `/dev/xen/gntalloc`, `/dev/xen/gntdev`, `/dev/xen/evtchn`.
//!
//! So far their binary interface only: the request structures bit for bit, and the numbers of
//! the calls, each checked against the kernel's. The traits of `xenvelope_grant::seam` over them
//! do not exist yet; the simulator is what runs today.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod evtchn;
pub mod gntalloc;
pub mod gntdev;
mod number;
