//! Xen's own interfaces, as the seam needs them.
//!
//! | module | what |
//! |---|---|
//! | [`gntalloc`], [`gntdev`], [`evtchn`] | the binary interface of Linux' `/dev/xen/*`, bit for bit |
//! | [`linux`] | the traits of `xenvelope_grant::seam` over these devices and xenstore; TAP and packet sockets as [`NicPort`](xenvelope_grant::seam::NicPort)s |
//!
//! Without the feature `linux` only what needs no operating system is built.
#![cfg_attr(not(feature = "linux"), no_std)]
#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod evtchn;
pub mod gntalloc;
pub mod gntdev;
#[cfg(feature = "linux")]
pub mod linux;
mod number;
