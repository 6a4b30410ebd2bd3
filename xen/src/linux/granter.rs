//! Granting frames. gntalloc's pages are granted for as long as they exist, so granting is
//! copying into pages that the peer may read already; the one copy that a guest kernel does not
//! need.

use std::ops::Range;
use std::rc::Rc;

use arrayvec::ArrayVec;
use xenvelope_grant::seam::{
    Access, Buffer as _, Granter, MAX_SEGMENTS, NoBuffer, Pinned, Refused, Segment, pages_touched,
    piece_in_page,
};
use xenvelope_grant::{DomId, GrantError, PAGE_SIZE, Peer};

use super::area::MirroredArea;
use super::buffer::{Buffer, Place};
use super::host::Xen;
use super::pool::{CLASSES, class_of};
use super::unit::Unit;

/// A granted buffer. Dropped, its pages are freed: whether the peer still has them mapped is the
/// kernel's business then, and held against the peer.
pub struct Granted {
    /// Gone once it has been given back.
    unit: Option<Unit>,
    segments: ArrayVec<Segment, MAX_SEGMENTS>,
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(unit) = self.unit.take() {
            unit.abandon();
        }
    }
}

impl Granter for Xen {
    type Buf = Buffer;
    type Out = Granted;
    type Area = MirroredArea;

    /// Always private memory. To build a frame where one peer could read it while it is being
    /// built would show it to that peer, whoever it turns out to be for.
    fn take(&self, _hint: Option<Peer>, len: usize) -> Result<Buffer, NoBuffer> {
        let pages = self.inner.pool.take(len.div_ceil(PAGE_SIZE).max(1))?;
        Ok(Buffer::new(Place::Private(pages), &self.inner))
    }

    fn grant(
        &self,
        mut buffer: Buffer,
        to: Peer,
        used: Range<usize>,
        access: Access,
    ) -> Result<Granted, Refused<Buffer>> {
        assert!(used.start < used.end && used.end <= buffer.capacity(), "{used:?}");
        let pages = pages_touched(&used);
        assert!(pages <= MAX_SEGMENTS, "{used:?} touches {pages} pages");
        if access != Access::Read {
            // Frames are read. What a peer writes are shared pages and receive areas.
            return Err(Refused { cause: GrantError::PermissionDenied, buffer });
        }
        let (unit, used) = match buffer.place.take() {
            Some(Place::Granted(unit)) if unit.peer == to => (unit, used),
            place => {
                buffer.place = place;
                let kept = self.inner.pool.take_granted(to, pages).map_or_else(
                    || {
                        // One of these is at least `pages`: it is at most the largest.
                        let class = class_of(pages).map_or(MAX_SEGMENTS, |class| CLASSES[class]);
                        Unit::new(&self.inner, to, class)
                    },
                    Ok,
                );
                let mut unit = match kept {
                    Ok(unit) => unit,
                    Err(cause) => return Err(Refused { cause, buffer }),
                };
                let start = used.start % PAGE_SIZE;
                let moved = start..start + used.len();
                let bytes = &buffer.pages().bytes()[used];
                unit.pages_mut().bytes_mut()[moved.clone()].copy_from_slice(bytes);
                (unit, moved)
            }
        };
        let first = used.start / PAGE_SIZE;
        let segments = (first..first + pages)
            .filter_map(|page| {
                let (offset, len) = piece_in_page(&used, page)?;
                Some(Segment { gref: unit.refs[page], offset, len })
            })
            .collect();
        Ok(Granted { unit: Some(unit), segments })
    }

    fn segments<'a>(&self, out: &'a Granted) -> &'a [Segment] {
        &out.segments
    }

    /// The pages stay granted to this peer, and serve no other.
    fn recycle(&self, mut out: Granted) -> Result<Buffer, Pinned<Granted>> {
        match out.unit.take() {
            Some(unit) => Ok(Buffer::new(Place::Granted(unit), &self.inner)),
            None => Err(Pinned(out)),
        }
    }

    /// Frees the pages. The kernel does not say whether the peer still uses them; if it does they
    /// are kept from being used by the kernel, not by us.
    fn revoke(&self, out: Granted) -> Result<(), Pinned<Granted>> {
        drop(out);
        Ok(())
    }

    fn forget(&self, peer: Peer) {
        self.inner.pool.forget(peer);
    }

    fn receive_area(&self, writer: DomId, pages: usize) -> Result<MirroredArea, NoBuffer> {
        MirroredArea::new(&Rc::clone(&self.inner), writer, pages)
    }
}
