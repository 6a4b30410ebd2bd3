//! Under Linux, in user space.

pub mod store;
#[cfg(feature = "xenstore-rs")]
mod xenstore_rs;
