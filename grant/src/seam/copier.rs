//! The batched grant copy (`GNTTABOP_copy`).

use thiserror::Error;

use super::Granter;
use crate::{DomId, Gref, Status};

/// One end of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// In one of our own buffers.
    Local {
        /// Which of the buffers that are handed to the call.
        buffer: u16,
        /// Where in it, in bytes. The copy may not cross a page boundary from there.
        offset: u32,
    },
    /// In a page that another domain granted to us.
    Foreign {
        /// The granting domain. Never taken from the peer's own word.
        dom: DomId,
        /// Its grant reference.
        gref: Gref,
        /// Where in the page, in bytes: below 4096, and so is `offset + len` or equal.
        offset: u16,
    },
    /// In a page that another domain granted to whoever has the key, for reading, once. The use
    /// revokes the grant. Fails where there are no such grants ([`super::Mechanism::Keyed`]).
    Keyed {
        /// The granting domain. Never taken from the peer's own word.
        dom: DomId,
        /// Its grant reference.
        gref: Gref,
        /// Where in the page, in bytes, as above.
        offset: u16,
        /// The key.
        key: u64,
    },
}

/// One copy of at most a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyOp {
    /// Where from.
    pub src: End,
    /// Where to. If both ends are foreign, both must be granted to the caller: a third-party
    /// copy.
    pub dst: End,
    /// How many bytes, 1 to 4096.
    pub len: u16,
    /// What came of it: [`Status::PENDING`] until it has been carried out.
    pub status: Status,
}

impl CopyOp {
    /// An operation that waits to be carried out.
    pub const fn new(src: End, dst: End, len: u16) -> CopyOp {
        CopyOp { src, dst, len, status: Status::PENDING }
    }
}

/// The call as a whole failed: no status may be believed, and no byte of any destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the grant copy call failed")]
pub struct CallFailed;

/// Copies between our buffers and granted pages, a batch at a time.
pub trait Copier: Granter {
    /// Carries out all operations with one call. The batch is not atomic: each operation has a
    /// status of its own, and one that fails does not spoil the others.
    ///
    /// `buffers` are the local ends. An operation that names no such buffer, or leaves it, fails
    /// alone.
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [Self::Buf]) -> Result<(), CallFailed>;
}
