//! Pages that a backend fills.
//!
//! gntalloc cannot take access back and give it again, so the backend can write these pages at
//! any time. What it wrote is therefore copied into private memory the first time that it is
//! looked at, and only that is looked at (XSA-155).

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use xenvelope_grant::seam::{Access, NoBuffer, Pinned, ReceiveArea, Shared};
use xenvelope_grant::{DomId, GrantError, Gref, PAGE_SIZE};

use super::host::Inner;
use super::share::SharedPages;
use super::sys::Mirror;

/// Contiguous pages that one domain may write, with a private mirror.
pub struct MirroredArea {
    shared: SharedPages,
    mirror: Mirror,
    /// The pages that the backend has been told of.
    open: Vec<bool>,
}

impl MirroredArea {
    pub(super) fn new(
        host: &Rc<Inner>,
        writer: DomId,
        pages: usize,
    ) -> Result<MirroredArea, NoBuffer> {
        let shared = SharedPages::export(host, writer, pages, Access::Write).map_err(|error| {
            tracing::warn!(%writer, pages, %error, "no pages for the receive area");
            NoBuffer
        })?;
        let mirror = Mirror::new(pages).map_err(|_| NoBuffer)?;
        Ok(MirroredArea { shared, mirror, open: vec![false; pages] })
    }
}

impl ReceiveArea for MirroredArea {
    fn pages(&self) -> usize {
        self.open.len()
    }

    fn open(&mut self, page: usize) -> Result<Gref, GrantError> {
        self.open[page] = true;
        self.mirror.forget(page);
        Ok(self.shared.refs()[page])
    }

    /// The backend can still write there; what it writes after we have looked is not seen.
    fn close(&mut self, page: usize) -> Result<(), Pinned<()>> {
        self.open[page] = false;
        Ok(())
    }

    fn stack_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.open.len() * PAGE_SIZE {
            return None;
        }
        let pages = range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE);
        if !range.is_empty() && self.open[pages].contains(&true) {
            return None;
        }
        Some(self.mirror.see(self.shared.map(), range))
    }

    /// In the mirror, where the frame is read.
    fn shift(&mut self, from: usize, to: usize, len: usize) -> bool {
        let ours = |page: usize| self.open.get(page) == Some(&false);
        if !ours(from) || !ours(to) || from == to || len > PAGE_SIZE {
            return false;
        }
        self.mirror.shift(self.shared.map(), from, to, len);
        true
    }

    fn get(&self, at: usize, out: &mut [u8]) -> bool {
        let Some(bytes) = self.stack_bytes(at..at.saturating_add(out.len())) else { return false };
        out.copy_from_slice(bytes);
        true
    }
}

impl fmt::Debug for MirroredArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirroredArea").field("pages", &self.open.len()).finish_non_exhaustive()
    }
}
