//! What can go wrong outside of the protocols.

use std::io;

use thiserror::Error;
use xenvelope_grant::seam::StoreError;

/// Why a device could not be had or set up.
#[derive(Debug, Error)]
pub enum XenError {
    /// A device of Xen's is not there, or we may not use it.
    #[error(
        "cannot open {path}: {cause}; is this a Xen guest, is the module {module} loaded, are we root?"
    )]
    Device {
        /// Its path.
        path: &'static str,
        /// The kernel module that makes it.
        module: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// xenstore does not answer.
    #[error("xenstore: {0}")]
    Store(#[from] StoreError),
    /// A network interface could not be opened or set up.
    #[error("network interface {interface}: {action}: {cause}")]
    Interface {
        /// Its name.
        interface: String,
        /// What was tried.
        action: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// No memory.
    #[error("no memory: {0}")]
    Memory(io::Error),
}
