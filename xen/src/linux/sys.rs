//! The one module of this crate with `unsafe`: mappings, and calls that take addresses.
#![allow(unsafe_code)]

mod copy;
mod exchange;
mod ioctl;
mod mapping;
mod message;
mod mirror;

pub(super) use copy::Copies;
pub(super) use exchange::{Exchange, FRAMES};
pub(super) use ioctl::{
    alloc_grefs, bind_interdomain, bind_unbound, dealloc_grefs, interface_address, interface_flags,
    map_grants, notify, reset_ports, set_interface_address, set_interface_flags, set_interface_mtu,
    set_persistent, set_tap, unbind, unmap_grants,
};
pub(super) use mapping::{DevicePages, OwnPages, SharedPagesMap};
pub(super) use message::{Batch, add_membership, link_address, set_option};
pub(super) use mirror::Mirror;
