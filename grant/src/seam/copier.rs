//! The batched grant copy (`GNTTABOP_copy`).

use alloc::vec::Vec;

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

/// A batch that is handed over: operations, and the buffers at their local ends.
///
/// The vectors are kept from one batch to the next, so that a data path that hands batches over
/// allocates nothing.
#[derive(Debug)]
pub struct CopyBatch<B> {
    /// What is to be copied.
    pub ops: Vec<CopyOp>,
    /// The local ends.
    pub buffers: Vec<B>,
}

impl<B> Default for CopyBatch<B> {
    fn default() -> Self {
        CopyBatch { ops: Vec::new(), buffers: Vec::new() }
    }
}

/// A batch that is on its way, by the number that [`Copier::submit`] gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CopyTicket(pub u32);

/// What became of a batch that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Submitted {
    /// It has been carried out: what [`Copier::copy`] says.
    Finished(Result<(), CallFailed>),
    /// It is on its way. What was handed over is empty until [`Copier::finished`] gives it back.
    Underway(CopyTicket),
}

/// Copies between our buffers and granted pages, a batch at a time: by the processor that asks
/// for it ([`copy`](Copier::copy)), or by whatever the hypervisor has for it
/// ([`submit`](Copier::submit)).
pub trait Copier: Granter {
    /// Carries out all operations with one call. The batch is not atomic: each operation has a
    /// status of its own, and one that fails does not spoil the others.
    ///
    /// `buffers` are the local ends. An operation that names no such buffer, or leaves it, fails
    /// alone.
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [Self::Buf]) -> Result<(), CallFailed>;

    /// Hands a batch over, with one call, and does not wait for it if it is copied by an engine.
    /// It has the meaning of [`copy`](Copier::copy), carried out at some time before
    /// [`finished`](Copier::finished) gives it back; until then the grants that it names are in
    /// use, and its buffers are out of our hands. Batches may finish in any order. That one has
    /// finished makes one [`Events::wait`](super::Events::wait) return.
    ///
    /// A hypervisor without an engine, or with one that takes no more, copies at once.
    fn submit(&self, batch: &mut CopyBatch<Self::Buf>) -> Submitted {
        Submitted::Finished(self.copy(&mut batch.ops, &mut batch.buffers))
    }

    /// Whether a batch that is on its way has been carried out. If so it is given back into
    /// `batch`, whose vectors are kept for the next one, and the ticket is void.
    fn finished(
        &self,
        ticket: CopyTicket,
        batch: &mut CopyBatch<Self::Buf>,
    ) -> Option<Result<(), CallFailed>> {
        let _ = (ticket, batch);
        None
    }

    /// Nobody will ask for that batch: its buffers are freed when it has been carried out.
    fn abandon(&self, ticket: CopyTicket) {
        let _ = ticket;
    }
}
