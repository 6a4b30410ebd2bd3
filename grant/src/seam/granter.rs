//! Buffers that can be granted to one other domain.

use core::fmt;
use core::ops::Range;

use thiserror::Error;

use super::{Lacks, Mechanism, MechanismError};
use crate::{DomId, GrantError, Gref, PAGE_SIZE, Peer};

/// What a grant lets the other domain do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read only. All that is ever granted of a frame that is sent.
    Read,
    /// Read and write: buffers that a backend fills, and shared rings.
    Write,
}

/// One granted piece of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The reference.
    pub gref: Gref,
    /// Where in the page it starts, in bytes: 0 to 4095.
    pub offset: u16,
    /// How long it is, in bytes: 1 to 4096, and `offset + len` is at most 4096.
    pub len: u16,
}

/// Most segments of one buffer: a frame of 64 KiB that does not start on a page boundary touches
/// 17 pages.
pub const MAX_SEGMENTS: usize = 17;

/// Memory of ours that holds one frame, contiguous for us, in pages for everybody else.
///
/// As long as it is a `Buffer` nobody else can touch it, so plain slices are sound.
pub trait Buffer {
    /// How many bytes there are: a multiple of [`PAGE_SIZE`].
    fn capacity(&self) -> usize;
    /// Whether no other domain can read the pages, so that anything may be put into them. Not so
    /// where what was granted once stays granted: such a buffer is for the same peer only, and who
    /// has no more use for it drops it.
    fn is_private(&self) -> bool;
    /// The bytes, for the network stack that sent or receives the frame.
    fn stack_bytes(&self) -> &[u8];
    /// The bytes, for the network stack that builds the frame.
    fn stack_bytes_mut(&mut self) -> &mut [u8];
    /// Copies bytes out for the driver: headers, small frames. Counted as moved by us.
    ///
    /// # Panics
    /// If the range is not inside the buffer.
    fn get(&self, at: usize, out: &mut [u8]);
    /// Copies bytes in for the driver: headers, tags, small frames. Counted as moved by us.
    ///
    /// # Panics
    /// If the range is not inside the buffer.
    fn put(&mut self, at: usize, bytes: &[u8]);
}

/// There is no free buffer of that size now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no free buffer")]
pub struct NoBuffer;

/// Granting failed; here is the buffer again.
pub struct Refused<B, E = GrantError> {
    /// Why.
    pub cause: E,
    /// The buffer, untouched.
    pub buffer: B,
}

/// The peer still uses the grant: the pages may not be used for anything else (XSA-396). Try
/// again later.
pub struct Pinned<T>(pub T);

impl<B, E: fmt::Debug> fmt::Debug for Refused<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("cause", &self.cause).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Pinned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

/// Gives buffers, grants them to exactly one peer, and gets them back.
///
/// A granted buffer (`Out`) is out of reach until it is recycled or revoked: the type system
/// keeps rule 3 of the design, a page goes elsewhere only after a successful revoke.
///
/// What the peer can see besides the used range must hold no byte that was not meant for it
/// (XSA-403): by sub-page grants, by serving one peer only, or by zeroing.
pub trait Granter {
    /// Memory of ours, in nobody else's reach. Dropping it gives it back.
    type Buf: Buffer;
    /// A granted buffer.
    type Out;
    /// Pages that a backend fills, granted and taken back one by one.
    type Area: ReceiveArea;

    /// A buffer of at least `len` bytes. With `hint`, one that is cheap to grant to that peer.
    fn take(&self, hint: Option<Peer>, len: usize) -> Result<Self::Buf, NoBuffer>;

    /// Grants bytes `used` of the buffer to `to` and to no other domain.
    ///
    /// # Panics
    /// If `used` is empty or not inside the buffer, or touches more than [`MAX_SEGMENTS`] pages.
    fn grant(
        &self,
        buffer: Self::Buf,
        to: Peer,
        used: Range<usize>,
        access: Access,
    ) -> Result<Self::Out, Refused<Self::Buf>>;

    /// What was granted, piece by piece, in order.
    fn segments<'a>(&self, out: &'a Self::Out) -> &'a [Segment];

    /// What taking buffers back costs once for many, for all of these, which are recycled or
    /// revoked next. Until then they stay granted buffers, though the peer may not be able to begin
    /// to use them any more.
    fn end<'o>(&self, outs: impl Iterator<Item = &'o mut Self::Out>)
    where
        Self::Out: 'o,
    {
        let _ = outs;
    }

    /// Takes a buffer back after the peer has said, believably, that it is done with it.
    fn recycle(&self, out: Self::Out) -> Result<Self::Buf, Pinned<Self::Out>>;

    /// Takes a buffer back without the peer's word: it may not be readable any more when this
    /// has succeeded.
    fn revoke(&self, out: Self::Out) -> Result<(), Pinned<Self::Out>>;

    /// The peer is gone: nothing is kept ready for it any longer.
    fn forget(&self, peer: Peer);

    /// Whether there are grants by that mechanism. [`Mechanism::Destination`] is everywhere.
    ///
    /// # Errors
    /// [`Lacks`] if there are none.
    fn has(&self, mechanism: Mechanism) -> Result<(), Lacks> {
        match mechanism {
            Mechanism::Destination => Ok(()),
            other => Err(Lacks(other)),
        }
    }

    /// A reference of ours for [`Granter::pass_on`], which nothing else uses from now on.
    ///
    /// # Errors
    /// If there is none left, or none can be passed on here.
    fn reserve(&self) -> Result<Gref, MechanismError> {
        Err(Lacks(Mechanism::Transitive).into())
    }

    /// Passes on to `to`, for reading, what `from` granted to us as `theirs`: from now on `to`
    /// may copy it by `ours`, a reference that was reserved and is not in use.
    ///
    /// # Errors
    /// If nothing can be passed on here.
    fn pass_on(
        &self,
        _ours: Gref,
        _from: DomId,
        _theirs: Gref,
        _to: Peer,
    ) -> Result<(), MechanismError> {
        Err(Lacks(Mechanism::Transitive).into())
    }

    /// Ends what [`Granter::pass_on`] began: whatever is answered, nobody can begin to use `ours`
    /// any more. After `Ok` nobody is inside, and it may be used again.
    ///
    /// # Errors
    /// While somebody is inside. Try again later.
    fn withdraw(&self, _ours: Gref) -> Result<(), Pinned<()>> {
        Ok(())
    }

    /// Grants bytes `used` of the buffer, for reading, to whoever names `key`: each segment for
    /// one copy operation, which revokes it ([`super::End::Keyed`]).
    ///
    /// # Errors
    /// If granting fails, or there are no such grants here.
    ///
    /// # Panics
    /// As [`Granter::grant`].
    fn grant_keyed(
        &self,
        buffer: Self::Buf,
        _key: u64,
        _used: Range<usize>,
    ) -> Result<Self::Out, Refused<Self::Buf, MechanismError>> {
        Err(Refused { cause: Lacks(Mechanism::Keyed).into(), buffer })
    }

    /// An area of `pages` pages that `writer` may be let into, page by page.
    fn receive_area(&self, writer: DomId, pages: usize) -> Result<Self::Area, NoBuffer>;
}

/// Pages that a backend fills with received frames (netif's receive ring).
///
/// They are contiguous for us, so a frame that fills consecutive pages is one slice: what a
/// kernel has in page fragments, for stacks that want frames in one piece.
pub trait ReceiveArea {
    /// How many pages there are.
    fn pages(&self) -> usize;
    /// Lets the backend write page `page`.
    ///
    /// # Panics
    /// If there is no such page.
    fn open(&mut self, page: usize) -> Result<Gref, GrantError>;
    /// Ends the backend's access to page `page`, after which it can be read. Fails while the
    /// backend is inside: the page stays lost until it is tried again.
    ///
    /// # Panics
    /// If there is no such page.
    fn close(&mut self, page: usize) -> Result<(), Pinned<()>>;
    /// The bytes of `range`, counted from the area's start, if the backend has access to none
    /// of their pages.
    fn stack_bytes(&self, range: Range<usize>) -> Option<&[u8]>;
    /// Copies the first `len` bytes of page `from` to the beginning of page `to`; `false` if the
    /// backend still has access to one of them. Counted as moved by us.
    fn shift(&mut self, from: usize, to: usize, len: usize) -> bool;
    /// Copies bytes out for the driver; `false` if the backend still has access to a page of
    /// theirs. Counted as moved by us.
    fn get(&self, at: usize, out: &mut [u8]) -> bool;
}

/// How many pages a range of bytes touches.
pub const fn pages_touched(range: &Range<usize>) -> usize {
    if range.end <= range.start {
        return 0;
    }
    (range.end - 1) / PAGE_SIZE - range.start / PAGE_SIZE + 1
}

/// The piece of `range` that lies in page `page`, as offset in that page and length; `None` if
/// they do not meet.
pub fn piece_in_page(range: &Range<usize>, page: usize) -> Option<(u16, u16)> {
    let start = range.start.max(page * PAGE_SIZE);
    let end = range.end.min((page + 1) * PAGE_SIZE);
    // Both are at most PAGE_SIZE, so they fit 16 bits.
    (start < end).then(|| ((start % PAGE_SIZE) as u16, (end - start) as u16))
}
