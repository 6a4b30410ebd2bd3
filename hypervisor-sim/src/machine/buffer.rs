//! A guest's buffers.

use std::fmt;
use std::sync::Arc;

use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::seam::Buffer;

use super::counters::add;
use super::guest::Guest;
use crate::memory::PageRun;

/// Contiguous pages of a domain, in nobody else's reach. Dropping it gives them back to the
/// domain's allocator.
pub struct FrameBuffer {
    /// Always there, except while it is being dropped or buried.
    run: Option<PageRun>,
    guest: Arc<Guest>,
}

impl FrameBuffer {
    pub(crate) fn new(run: PageRun, guest: Arc<Guest>) -> FrameBuffer {
        FrameBuffer { run: Some(run), guest }
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
    pub(crate) fn bury(mut self, refs: Vec<xenvelope_grant::Gref>) {
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
    fn stack_bytes(&self) -> &[u8] {
        self.run().bytes()
    }
    fn stack_bytes_mut(&mut self) -> &mut [u8] {
        self.run_mut().bytes_mut()
    }
    fn get(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.run().bytes()[at..][..out.len()]);
        add(&self.guest.counters.inlined_bytes, out.len() as u64);
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.run_mut().bytes_mut()[at..][..bytes.len()].copy_from_slice(bytes);
        add(&self.guest.counters.inlined_bytes, bytes.len() as u64);
    }
}
