//! xenstore, as much of it as a split driver needs.

use thiserror::Error;

use crate::DomId;

/// Why a store operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StoreError {
    /// No such node (`ENOENT`).
    #[error("no such node in the store")]
    NoEntry,
    /// Not ours to read or write (`EACCES`).
    #[error("no permission for that node of the store")]
    NoPermission,
    /// The value does not fit the space given, or is longer than the store allows (2 KiB).
    #[error("the value is too long")]
    TooLong,
    /// Over quota (`EQUOTA`).
    #[error("over the store's quota")]
    Quota,
    /// Not a path, or a value that is not text.
    #[error("malformed path or value")]
    Malformed,
    /// The store does not answer.
    #[error("the store does not answer")]
    Unreachable,
}

/// One change of a commit.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Writes a node, and makes those above it.
    Write {
        /// Absolute, or relative to our own `/local/domain/N`.
        path: &'a str,
        /// The value.
        value: &'a str,
        /// The one other domain that may read it. The owner of the node is who writes it first.
        reader: Option<DomId>,
    },
    /// Removes a node and all below it. It is no error if there is none.
    Remove {
        /// Absolute, or relative to our own `/local/domain/N`.
        path: &'a str,
    },
}

/// Something changed at or below a watched path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchEvent<'o> {
    /// The token of the watch.
    pub token: u32,
    /// The path that changed, or the watched path itself right after the watch was set.
    pub path: &'o str,
}

/// The store. Everything in it that another domain wrote is that domain's word, no more.
pub trait Store {
    /// Reads a node into `out`.
    fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError>;
    /// The names of a node's children, separated by `\0`, into `out`.
    fn list<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError>;
    /// Makes all changes, or none: a transaction.
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError>;
    /// Watches a path and all below it. Fires once right away, as xenstore's watches do.
    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError>;
    /// Ends the watches with that token.
    fn unwatch(&self, token: u32);
    /// The next thing that changed, if any. A path longer than `out` is cut.
    fn next<'o>(&self, out: &'o mut [u8]) -> Option<WatchEvent<'o>>;
}
