//! Pages that a backend fills, let in and locked out one by one.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::{Access, NoBuffer, Pinned, ReceiveArea};
use xenvelope_grant::{DomId, GrantError, Gref, PAGE_SIZE};

use super::guest::Guest;
use crate::memory::PageRun;

/// Contiguous pages of a domain that `writer` is let into page by page.
pub struct PageArea {
    /// Gone only while it is being dropped.
    run: Option<PageRun>,
    guest: Arc<Guest>,
    writer: DomId,
    /// The reference of each page that the writer has, or may still have, access to.
    open: Vec<Option<Gref>>,
}

impl PageArea {
    pub(crate) fn new(
        guest: &Arc<Guest>,
        writer: DomId,
        pages: usize,
    ) -> Result<PageArea, NoBuffer> {
        // Zeroed once: afterwards nobody but the writer has put bytes there (XSA-403).
        let run = guest.take_zeroed(pages).ok_or(NoBuffer)?;
        Ok(PageArea { run: Some(run), guest: Arc::clone(guest), writer, open: vec![None; pages] })
    }

    fn run(&self) -> &PageRun {
        self.run.as_ref().expect("an area has its pages until it is dropped")
    }

    /// The bytes, if the writer is locked out of all of them.
    fn closed_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let size = self.open.len() * PAGE_SIZE;
        if range.start > range.end || range.end > size {
            return None;
        }
        let pages = range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE);
        let closed = range.is_empty() || self.open[pages].iter().all(Option::is_none);
        closed.then(|| self.run().part(range))
    }
}

impl ReceiveArea for PageArea {
    fn pages(&self) -> usize {
        self.open.len()
    }

    fn open(&mut self, page: usize) -> Result<Gref, GrantError> {
        if let Some(gref) = self.open[page] {
            return Ok(gref);
        }
        let mut gref = [Gref(0)];
        self.guest.take_refs(&mut gref)?;
        let [gref] = gref;
        let frame = (self.run().first() + page) as u64;
        self.guest.grant(gref, self.writer, Extent::FullPage { frame }, Access::Write);
        self.open[page] = Some(gref);
        Ok(gref)
    }

    fn close(&mut self, page: usize) -> Result<(), Pinned<()>> {
        let Some(gref) = self.open[page] else {
            return Ok(());
        };
        if !self.guest.revoke(gref) {
            return Err(Pinned(()));
        }
        self.open[page] = None;
        self.guest.give_back_refs([gref]);
        Ok(())
    }

    fn stack_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.closed_bytes(range)
    }

    fn shift(&mut self, from: usize, to: usize, len: usize) -> bool {
        let ours = |page: usize| self.open.get(page).is_some_and(Option::is_none);
        if !ours(from) || !ours(to) || from == to || len > PAGE_SIZE {
            return false;
        }
        let gfn = |page: usize| (self.run().first() + page) as u64;
        let memory = self.run().memory();
        let (Some(source), Some(target)) = (memory.page(gfn(from)), memory.page(gfn(to))) else {
            return false;
        };
        source.copy_to(0, target, 0, len);
        true
    }

    fn get(&self, at: usize, out: &mut [u8]) -> bool {
        let range = at..at.saturating_add(out.len());
        let Some(bytes) = self.closed_bytes(range) else {
            return false;
        };
        out.copy_from_slice(bytes);
        true
    }
}

impl Drop for PageArea {
    fn drop(&mut self) {
        let open = self.open.drain(..).flatten();
        let (pinned, free): (Vec<_>, Vec<_>) = open.partition(|gref| !self.guest.revoke(*gref));
        self.guest.give_back_refs(free);
        let Some(run) = self.run.take() else { return };
        if pinned.is_empty() {
            self.guest.give_back(run);
        } else {
            self.guest.bury(run, pinned);
        }
    }
}

impl fmt::Debug for PageArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageArea").field("run", &self.run).finish_non_exhaustive()
    }
}
