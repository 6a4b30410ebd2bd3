//! Pages that two domains share for longer.

use std::fmt;
use std::mem;
use std::sync::Arc;

use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::{Access, Pinned, Share, Shared};
use xenvelope_grant::{DomId, GrantError, Gref, HasWords, Words};

use super::domain::{Domain, DomainState};
use super::guest::Guest;
use super::{lock, read_lock};
use crate::memory::{PageRun, Window};

/// Most pages that a domain may have mapped from others: Xen's default of 1024 maptrack frames,
/// 256 handles each.
const MAX_MAPPED: usize = 1024 * 256;

/// Pages that are shared with another domain. Dropping imported ones unmaps them. Dropping
/// exported ones takes them back, and sets them aside for as long as the other side has them
/// mapped; [`Share::unexport`] says whether it does.
pub struct SharedPages {
    words: Window,
    refs: Vec<Gref>,
    side: Side,
}

enum Side {
    /// Ours. The pages; only in use as words.
    Exported { run: PageRun, guest: Arc<Guest> },
    /// Another domain's.
    Imported { domain: Domain, owner: Arc<DomainState>, access: Access, handle: u64 },
    /// Taken back.
    Closed,
}

/// What a domain has mapped from others.
#[derive(Default)]
pub(crate) struct Maptrack {
    pages: usize,
    next: u64,
    mapped: Vec<Mapped>,
}

/// One import.
pub(crate) struct Mapped {
    handle: u64,
    pub(crate) owner: DomId,
    pub(crate) frames: Vec<u64>,
    pub(crate) words: Window,
}

impl Maptrack {
    pub(crate) fn mapped(&self) -> &[Mapped] {
        &self.mapped
    }
}

impl Domain {
    /// Pages of other domains that the domain has mapped now: rings and tables.
    pub fn mapped_pages(&self) -> usize {
        lock(&self.state.maptrack).pages
    }
}

impl Share for Domain {
    type Pages = SharedPages;

    fn export(&self, to: DomId, pages: usize, access: Access) -> Result<SharedPages, GrantError> {
        let guest = &self.state.guest;
        if pages == 0 {
            return Err(GrantError::General);
        }
        let mut refs = vec![Gref(0); pages];
        guest.take_refs(&mut refs)?;
        let Some(run) = guest.take_zeroed(pages) else {
            guest.give_back_refs(refs);
            return Err(GrantError::NoSpace);
        };
        for (page, gref) in refs.iter().enumerate() {
            let frame = (run.first() + page) as u64;
            guest.grant(*gref, to, Extent::FullPage { frame }, access);
        }
        let words = run.window(pages);
        let side = Side::Exported { run, guest: Arc::clone(guest) };
        Ok(SharedPages { words, refs, side })
    }

    fn import(
        &self,
        from: DomId,
        refs: &[Gref],
        access: Access,
    ) -> Result<SharedPages, GrantError> {
        self.hypercall();
        if refs.is_empty() {
            return Err(GrantError::General);
        }
        let owner = read_lock(&self.machine.domains).shared(from).ok_or(GrantError::BadDomain)?;
        let mut maptrack = lock(&self.state.maptrack);
        if refs.len() > MAX_MAPPED - maptrack.pages {
            return Err(GrantError::NoSpace);
        }
        let mut frames = Vec::new();
        for gref in refs {
            match owner.grants.map(*gref, self.state.id, access) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    for gref in &refs[..frames.len()] {
                        owner.grants.release(*gref, access);
                    }
                    return Err(error);
                }
            }
        }
        let writable = access == Access::Write;
        let gfns = frames.iter().map(|gfn| *gfn as usize);
        let words = owner.space.memory().window(gfns, writable);
        maptrack.pages += refs.len();
        let handle = maptrack.next;
        maptrack.next += 1;
        maptrack.mapped.push(Mapped { handle, owner: from, frames, words: words.clone() });
        drop(maptrack);
        let side = Side::Imported { domain: self.clone(), owner, access, handle };
        Ok(SharedPages { words, refs: refs.to_vec(), side })
    }

    fn unexport(&self, mut pages: SharedPages) -> Result<(), Pinned<SharedPages>> {
        match pages.close() {
            Ok(()) => Ok(()),
            Err(Pinned(())) => Err(Pinned(pages)),
        }
    }
}

impl SharedPages {
    /// Ends the sharing, if nobody else uses the pages.
    fn close(&mut self) -> Result<(), Pinned<()>> {
        match mem::replace(&mut self.side, Side::Closed) {
            Side::Closed => Ok(()),
            Side::Exported { run, guest } => {
                let refs = mem::take(&mut self.refs);
                let (pinned, free): (Vec<_>, Vec<_>) =
                    refs.into_iter().partition(|gref| !guest.revoke(*gref));
                guest.give_back_refs(free);
                if pinned.is_empty() {
                    guest.give_back(run);
                    return Ok(());
                }
                self.refs = pinned;
                self.side = Side::Exported { run, guest };
                Err(Pinned(()))
            }
            Side::Imported { domain, owner, access, handle } => {
                domain.hypercall();
                for gref in &self.refs {
                    owner.grants.release(*gref, access);
                }
                let mut maptrack = lock(&domain.state.maptrack);
                maptrack.pages -= self.refs.len();
                maptrack.mapped.retain(|mapped| mapped.handle != handle);
                Ok(())
            }
        }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        if self.close().is_err()
            && let Side::Exported { run, guest } = mem::replace(&mut self.side, Side::Closed)
        {
            guest.bury(run, mem::take(&mut self.refs));
        }
    }
}

impl fmt::Debug for SharedPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPages").field("refs", &self.refs).finish_non_exhaustive()
    }
}

impl Shared for SharedPages {
    fn refs(&self) -> &[Gref] {
        &self.refs
    }
}

impl HasWords for SharedPages {
    fn words(&self) -> &(impl Words + ?Sized) {
        &self.words
    }
}
