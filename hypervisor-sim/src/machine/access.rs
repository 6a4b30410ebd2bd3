//! Who may touch which bytes of a domain's memory: one address space, one check.
//!
//! A domain has one address space, in which a frame number names a page to its grants and to its
//! devices alike. Both come through [`AddressSpace::check`], so there is no second set of rules
//! that could be laxer than the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use xenvelope_grant::{GrantError, PAGE_SIZE};

use crate::memory::{Memory, PageRef};

/// Why an access was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DmaFault {
    /// The domain is gone, and with it everything that translated its addresses.
    #[error("no such domain")]
    Gone,
    /// The address is not the domain's.
    #[error("an address outside of the domain's memory")]
    Outside,
}

/// Why [`AddressSpace::check`] said no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    Gone,
    NoSuchFrame,
    CrossesPage,
    OutsideWindow,
}

impl From<Denied> for GrantError {
    fn from(denied: Denied) -> GrantError {
        match denied {
            Denied::Gone => GrantError::BadDomain,
            Denied::NoSuchFrame => GrantError::BadPage,
            Denied::CrossesPage => GrantError::BadCopyArg,
            Denied::OutsideWindow => GrantError::General,
        }
    }
}

impl From<Denied> for DmaFault {
    fn from(denied: Denied) -> DmaFault {
        match denied {
            Denied::Gone => DmaFault::Gone,
            Denied::NoSuchFrame | Denied::CrossesPage | Denied::OutsideWindow => DmaFault::Outside,
        }
    }
}

/// The part of a page that may be touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageExtent {
    /// The frame (gfn).
    pub frame: u64,
    /// Where in the page the part starts.
    pub start: u16,
    /// How long it is. Start and length are the granting domain's word: their sum may be more
    /// than a page.
    pub length: u16,
}

impl PageExtent {
    /// The whole page.
    pub const fn whole(frame: u64) -> PageExtent {
        PageExtent { frame, start: 0, length: PAGE_SIZE as u16 }
    }

    #[inline]
    fn holds(&self, offset: usize, length: usize) -> Result<(), Denied> {
        let start = usize::from(self.start);
        let end = start + usize::from(self.length);
        if offset < start || offset + length > end { Err(Denied::OutsideWindow) } else { Ok(()) }
    }
}

/// A domain's memory as seen from outside of it.
pub(crate) struct AddressSpace {
    memory: Arc<Memory>,
    alive: AtomicBool,
}

impl AddressSpace {
    pub(crate) fn new(memory: Arc<Memory>) -> AddressSpace {
        AddressSpace { memory, alive: AtomicBool::new(true) }
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// The domain ends: from now on nothing is let through.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// The page, if `length` bytes at `offset` of it may be touched by whoever was let into
    /// `extent`. The order of the checks is that of Xen's `gnttab_copy_buf`
    /// (`xen/common/grant_table.c`): the page's end before the extent's.
    #[inline]
    pub(crate) fn check(
        &self,
        extent: PageExtent,
        offset: usize,
        length: usize,
    ) -> Result<PageRef<'_>, Denied> {
        let page = self.page(extent)?;
        within_page(offset, length)?;
        extent.holds(offset, length)?;
        Ok(page)
    }

    /// As [`AddressSpace::check`], of what is known to be [within a page](within_page).
    #[inline]
    pub(crate) fn check_within(
        &self,
        extent: PageExtent,
        offset: usize,
        length: usize,
    ) -> Result<PageRef<'_>, Denied> {
        let page = self.page(extent)?;
        extent.holds(offset, length)?;
        Ok(page)
    }

    #[inline]
    fn page(&self, extent: PageExtent) -> Result<PageRef<'_>, Denied> {
        if !self.is_alive() {
            return Err(Denied::Gone);
        }
        self.memory.page(extent.frame).ok_or(Denied::NoSuchFrame)
    }

    /// What a device of the domain may do: all of its memory, page by page.
    pub(crate) fn dma(
        &self,
        address: u64,
        length: usize,
        mut each: impl FnMut(PageRef<'_>, usize, std::ops::Range<usize>),
    ) -> Result<(), DmaFault> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(DmaFault::Outside)?;
            let offset = (at % PAGE_SIZE as u64) as usize;
            let piece = (length - done).min(PAGE_SIZE - offset);
            let extent = PageExtent::whole(at / PAGE_SIZE as u64);
            each(self.check(extent, offset, piece)?, offset, done..done + piece);
            done += piece;
        }
        Ok(())
    }
}

/// An access may not go beyond the page that it starts in.
#[inline]
pub(crate) fn within_page(offset: usize, length: usize) -> Result<(), Denied> {
    if offset > PAGE_SIZE || length > PAGE_SIZE - offset {
        return Err(Denied::CrossesPage);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::PageRun;

    fn space(pages: usize) -> AddressSpace {
        AddressSpace::new(Arc::clone(PageRun::map(pages).expect("memory").memory()))
    }

    fn denied(space: &AddressSpace, extent: PageExtent, offset: usize, length: usize) -> Denied {
        space.check(extent, offset, length).err().expect("must be denied")
    }

    #[test]
    fn the_page_end_is_checked_before_the_sub_page() {
        let space = space(1);
        let extent = PageExtent { frame: 0, start: 100, length: 50 };
        assert!(space.check(extent, 100, 50).is_ok());
        assert_eq!(denied(&space, extent, 99, 2), Denied::OutsideWindow);
        assert_eq!(denied(&space, extent, 149, 2), Denied::OutsideWindow);
        assert_eq!(denied(&space, extent, 4000, 97), Denied::CrossesPage);
    }

    #[test]
    fn a_sub_page_that_claims_more_than_the_page_gives_no_more_than_the_page() {
        let space = space(2);
        let extent = PageExtent { frame: 0, start: 4000, length: u16::MAX };
        assert!(space.check(extent, 4000, 96).is_ok());
        assert_eq!(denied(&space, extent, 4000, 97), Denied::CrossesPage);
    }

    #[test]
    fn a_device_faults_outside_of_the_memory_and_after_the_end_of_the_domain() {
        let space = space(2);
        let whole = space.dma(0, 2 * PAGE_SIZE, |_, _, _| {});
        assert_eq!(whole, Ok(()));
        assert_eq!(space.dma(8191, 2, |_, _, _| {}), Err(DmaFault::Outside));
        assert_eq!(space.dma(u64::MAX, 2, |_, _, _| {}), Err(DmaFault::Outside));
        space.kill();
        assert_eq!(space.dma(0, 1, |_, _, _| {}), Err(DmaFault::Gone));
    }
}
