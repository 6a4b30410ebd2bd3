//! A guest's buffers.

use std::fmt;
use std::sync::Arc;

use xenvelope_grant::seam::Buffer;
use xenvelope_grant::{Gref, PAGE_SIZE};

use super::guest::Guest;
use crate::memory::PageRun;

/// Contiguous pages of a domain, in nobody else's reach. Dropping it gives them back to the
/// domain's allocator.
pub struct FrameBuffer {
    /// Always there, except while it is being dropped or buried.
    run: Option<PageRun>,
    guest: Arc<Guest>,
    /// A reference that it was granted by, revoked, for the next time: most buffers have one page
    /// and are granted again and again.
    gref: Option<Gref>,
}

impl FrameBuffer {
    pub(crate) fn new(run: PageRun, guest: Arc<Guest>) -> FrameBuffer {
        FrameBuffer { run: Some(run), guest, gref: None }
    }

    /// The reference that it has kept.
    pub(crate) fn take_ref(&mut self) -> Option<Gref> {
        self.gref.take()
    }

    /// Keeps a reference whose entry is revoked.
    pub(crate) fn keep_ref(&mut self, gref: Gref) {
        if let Some(other) = self.gref.replace(gref) {
            self.guest.give_back_refs([other]);
        }
    }

    pub(crate) fn run(&self) -> &PageRun {
        self.run.as_ref().expect("a buffer has its pages until it is dropped")
    }

    pub(crate) fn run_mut(&mut self) -> &mut PageRun {
        self.run.as_mut().expect("a buffer has its pages until it is dropped")
    }

    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Puts the pages where they wait for their peer to let go of `refs`.
    pub(crate) fn bury(mut self, refs: Vec<Gref>) {
        if let Some(run) = self.run.take() {
            self.guest.bury(run, refs);
        }
    }

    /// Where the buffer starts in its domain's address space: what a device of the domain is told.
    pub fn dma_address(&self) -> u64 {
        (self.run().first() * PAGE_SIZE) as u64
    }
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.guest.give_back(run);
        }
        if let Some(gref) = self.gref.take() {
            self.guest.give_back_refs([gref]);
        }
    }
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameBuffer").field(&self.run).finish()
    }
}

impl Buffer for FrameBuffer {
    fn capacity(&self) -> usize {
        self.run().pages() * PAGE_SIZE
    }
    /// Always: a grant is revoked before its buffer comes back.
    fn is_private(&self) -> bool {
        true
    }
    fn stack_bytes(&self) -> &[u8] {
        self.run().bytes()
    }
    fn stack_bytes_mut(&mut self) -> &mut [u8] {
        self.run_mut().bytes_mut()
    }
    fn get(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.run().bytes()[at..][..out.len()]);
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.run_mut().bytes_mut()[at..][..bytes.len()].copy_from_slice(bytes);
    }
}
