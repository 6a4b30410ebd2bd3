//! Plain requests through the library `xenstore-rs` (GPL-3.0-only).
//!
//! It has no watches in its synchronous half, no transactions, no permissions, no deadline, and
//! believes any length (XSA-72): the rest is done by our own codec, over a connection of its own.

use std::io::{self, ErrorKind};
use xenstore_rs::Xs;
use xenstore_rs::unix::XsUnix;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

use crate::wire::check_path;

/// The library's connection.
pub(super) struct Library {
    store: XsUnix,
    /// It takes the socket where there is one, and behind that no path is relative to anything.
    home: String,
}

impl Library {
    /// Opens it for the domain of that id. After a migration it is another: open it again.
    pub(super) fn open(domid: DomId) -> io::Result<Library> {
        Ok(Library { store: XsUnix::new()?, home: format!("/local/domain/{domid}") })
    }

    fn absolute(&self, path: &str) -> Result<String, StoreError> {
        // It sends a path with a nul in it as it is.
        check_path(path)?;
        let relative = !path.starts_with('/');
        Ok(if relative { format!("{}/{path}", self.home) } else { path.to_owned() })
    }

    /// A node's value.
    pub(super) fn read(&self, path: &str) -> Result<Box<str>, StoreError> {
        self.store.read(&self.absolute(path)?).map_err(error)
    }

    /// The names of a node's children, with nuls between them.
    pub(super) fn list(&self, path: &str) -> Result<String, StoreError> {
        let names = self.store.directory(&self.absolute(path)?).map_err(error)?;
        Ok(names.join("\0"))
    }
}

/// The library's errors have lost their names, not their kinds.
fn error(error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::NoEntry,
        ErrorKind::PermissionDenied => StoreError::NoPermission,
        ErrorKind::InvalidInput => StoreError::Malformed,
        // E2BIG, or not UTF-8.
        ErrorKind::InvalidData => StoreError::TooLong,
        ErrorKind::OutOfMemory => StoreError::Quota,
        _ => StoreError::Unreachable,
    }
}
