//! Granting buffers and taking them back.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::{
    Access, Buffer, Granter, Lacks, MAX_SEGMENTS, Mechanism, MechanismError, NoBuffer, Pinned,
    Refused, Segment, piece_in_page,
};
use xenvelope_grant::{DomId, GrantError, Gref, PAGE_SIZE, Peer};

use super::area::PageArea;
use super::buffer::FrameBuffer;
use super::domain::Domain;
use super::guest::Guest;
use super::pool::pages_for;

/// A granted buffer. Dropping it without a revoke is safe: pages that the peer still uses are set
/// aside until it lets go.
pub struct GrantedBuffer {
    /// Gone once the buffer has been given back.
    buffer: Option<FrameBuffer>,
    segments: ArrayVec<Segment, MAX_SEGMENTS>,
    /// One bit for each segment whose entry is not revoked yet.
    live: u32,
    /// Those entries have been ended.
    ended: bool,
}

impl GrantedBuffer {
    /// Revokes what is left; the buffer if that was all.
    fn close(&mut self) -> Option<FrameBuffer> {
        let mut buffer = self.buffer.take()?;
        self.revoke_live(buffer.guest());
        if self.live == 0 {
            match &self.segments[..] {
                [segment] => buffer.keep_ref(segment.gref),
                segments => {
                    buffer.guest().give_back_refs(segments.iter().map(|segment| segment.gref));
                }
            }
            return Some(buffer);
        }
        self.buffer = Some(buffer);
        None
    }

    /// The entries that are to be ended: the caller does.
    #[inline]
    fn ending(&mut self) -> impl Iterator<Item = Gref> {
        self.ended = true;
        self.segments.iter().map(|segment| segment.gref)
    }

    fn revoke_live(&mut self, guest: &Guest) {
        if !self.ended {
            guest.end(self.ending());
        }
        for (index, segment) in self.segments.iter().enumerate() {
            let bit = 1 << index;
            if self.live & bit != 0 && guest.ended(segment.gref) {
                self.live &= !bit;
            }
        }
    }
}

impl Drop for GrantedBuffer {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        self.revoke_live(buffer.guest());
        let (pinned, free): (Vec<_>, Vec<_>) =
            self.segments.iter().enumerate().partition(|(index, _)| self.live & (1 << index) != 0);
        buffer.guest().give_back_refs(free.into_iter().map(|(_, segment)| segment.gref));
        if !pinned.is_empty() {
            buffer.bury(pinned.into_iter().map(|(_, segment)| segment.gref).collect());
        }
    }
}

impl fmt::Debug for GrantedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedBuffer").field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Granter for Domain {
    type Buf = FrameBuffer;
    type Out = GrantedBuffer;
    type Area = PageArea;

    /// Every buffer is as cheap to grant to one peer as to another, so the hint is not needed.
    fn take(&self, _hint: Option<Peer>, len: usize) -> Result<FrameBuffer, NoBuffer> {
        let guest = &self.state.guest;
        let run = guest.take(pages_for(len)).ok_or(NoBuffer)?;
        Ok(FrameBuffer::new(run, Arc::clone(guest)))
    }

    fn grant(
        &self,
        buffer: FrameBuffer,
        to: Peer,
        used: Range<usize>,
        access: Access,
    ) -> Result<GrantedBuffer, Refused<FrameBuffer>> {
        self.grant_pages(buffer, used, access, |guest, gref, extent| {
            guest.grant(gref, to.domid, extent, access);
        })
    }

    fn segments<'a>(&self, out: &'a GrantedBuffer) -> &'a [Segment] {
        &out.segments
    }

    fn end<'o>(&self, outs: impl Iterator<Item = &'o mut GrantedBuffer>) {
        let guest = &self.state.guest;
        let of_ours = |out: &&mut GrantedBuffer| {
            out.buffer
                .as_ref()
                .is_some_and(|buffer| !out.ended && Arc::ptr_eq(buffer.guest(), guest))
        };
        guest.end(outs.filter(of_ours).flat_map(GrantedBuffer::ending));
    }

    fn recycle(&self, mut out: GrantedBuffer) -> Result<FrameBuffer, Pinned<GrantedBuffer>> {
        out.close().ok_or(Pinned(out))
    }

    fn revoke(&self, out: GrantedBuffer) -> Result<(), Pinned<GrantedBuffer>> {
        self.recycle(out).map(drop)
    }

    /// Nothing is kept ready for a peer. But if it was one that held pages, they may be free now.
    fn forget(&self, _peer: Peer) {
        self.state.guest.exhume();
    }

    fn has(&self, mechanism: Mechanism) -> Result<(), Lacks> {
        // All but the first are of version 2.
        let there = mechanism == Mechanism::Destination || self.state.guest.has_sub_pages();
        if there { Ok(()) } else { Err(Lacks(mechanism)) }
    }

    fn reserve(&self) -> Result<Gref, MechanismError> {
        self.has(Mechanism::Transitive)?;
        let mut refs = [Gref(0)];
        self.state.guest.take_refs(&mut refs)?;
        Ok(refs[0])
    }

    fn pass_on(
        &self,
        ours: Gref,
        from: DomId,
        theirs: Gref,
        to: Peer,
    ) -> Result<(), MechanismError> {
        self.has(Mechanism::Transitive)?;
        let extent = Extent::Transitive { domain: from, gref: theirs };
        self.state.guest.grant(ours, to.domid, extent, Access::Read);
        Ok(())
    }

    fn withdraw(&self, ours: Gref) -> Result<(), Pinned<()>> {
        if self.state.guest.revoke(ours) { Ok(()) } else { Err(Pinned(())) }
    }

    fn grant_keyed(
        &self,
        buffer: FrameBuffer,
        key: u64,
        used: Range<usize>,
    ) -> Result<GrantedBuffer, Refused<FrameBuffer, MechanismError>> {
        if let Err(lacks) = self.has(Mechanism::Keyed) {
            return Err(Refused { cause: lacks.into(), buffer });
        }
        let granted = self.grant_pages(buffer, used, Access::Read, |guest, gref, extent| {
            guest.grant_keyed(gref, key, extent);
        });
        granted.map_err(|Refused { cause, buffer }| Refused { cause: cause.into(), buffer })
    }

    fn receive_area(&self, writer: DomId, pages: usize) -> Result<PageArea, NoBuffer> {
        PageArea::new(&self.state.guest, writer, pages)
    }
}

impl Domain {
    /// Grants bytes `used` of the buffer, each page as `make_valid` does it.
    fn grant_pages(
        &self,
        mut buffer: FrameBuffer,
        used: Range<usize>,
        access: Access,
        make_valid: impl Fn(&Guest, Gref, Extent),
    ) -> Result<GrantedBuffer, Refused<FrameBuffer>> {
        assert!(used.start < used.end && used.end <= buffer.capacity(), "{used:?}");
        let pages = used.start / PAGE_SIZE..used.end.div_ceil(PAGE_SIZE);
        assert!(pages.len() <= MAX_SEGMENTS, "{used:?} touches {} pages", pages.len());
        let guest = &self.state.guest;
        if !guest.owns(buffer.run()) {
            return Err(Refused { cause: GrantError::BadPage, buffer });
        }
        let mut refs = [Gref(0); MAX_SEGMENTS];
        let refs = &mut refs[..pages.len()];
        let kept =
            if let [only] = refs { buffer.take_ref().map(|gref| *only = gref) } else { None };
        if kept.is_none()
            && let Err(cause) = guest.take_refs(refs)
        {
            return Err(Refused { cause, buffer });
        }
        let sub_page = access == Access::Read && guest.has_sub_pages();
        if !sub_page {
            // The peer gets whole pages. Who filled what is around the used range, and for whom,
            // is not known: the network stack may write anywhere. So it is zeroed each time,
            // which is at most what is left of the first and of the last page (XSA-403).
            let bytes = buffer.run_mut().bytes_mut();
            bytes[pages.start * PAGE_SIZE..used.start].fill(0);
            bytes[used.end..pages.end * PAGE_SIZE].fill(0);
        }
        let first = buffer.run().first();
        let mut segments = ArrayVec::new();
        for (page, gref) in pages.zip(refs.iter()) {
            let Some((offset, len)) = piece_in_page(&used, page) else {
                continue;
            };
            let frame = (first + page) as u64;
            let extent = if sub_page {
                Extent::SubPage { frame, offset, length: len }
            } else {
                Extent::FullPage { frame }
            };
            make_valid(guest, *gref, extent);
            segments.push(Segment { gref: *gref, offset, len });
        }
        let live = (1 << segments.len()) - 1;
        Ok(GrantedBuffer { buffer: Some(buffer), segments, live, ended: false })
    }
}
