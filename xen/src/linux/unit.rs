//! Pages that are granted to one domain from the day they are allocated to the day they are
//! freed: all that gntalloc has.

use std::io;
use std::rc::{Rc, Weak};

use arrayvec::ArrayVec;
use xenvelope_grant::seam::MAX_SEGMENTS;
use xenvelope_grant::{DomId, GrantError, Gref, Peer};

use super::host::Inner;
use super::sys::{self, OwnPages};

/// Contiguous pages of ours that `peer` may read. Freed when dropped.
pub(super) struct Unit {
    /// Gone only while it is being dropped.
    pages: Option<OwnPages>,
    pub peer: Peer,
    pub refs: ArrayVec<Gref, MAX_SEGMENTS>,
    index: u64,
    /// Not kept alive by this: the host's pool keeps units.
    host: Weak<Inner>,
}

/// What an error of gntalloc's means.
pub(super) fn grant_error(error: &io::Error) -> GrantError {
    match error.raw_os_error() {
        // Its limit, or the grant table is full.
        Some(nix::libc::ENOSPC | nix::libc::ENOMEM) => GrantError::NoSpace,
        Some(nix::libc::EPERM | nix::libc::EACCES) => GrantError::PermissionDenied,
        _ => GrantError::General,
    }
}

impl Unit {
    /// Allocates `pages` pages, at most [`MAX_SEGMENTS`].
    pub fn new(host: &Rc<Inner>, peer: Peer, pages: usize) -> Result<Unit, GrantError> {
        host.account.check(peer.domid)?;
        let mut refs: ArrayVec<Gref, MAX_SEGMENTS> = (0..pages).map(|_| Gref(0)).collect();
        let index = sys::alloc_grefs(&host.gntalloc, peer.domid, false, &mut refs)
            .map_err(|error| grant_error(&error))?;
        match OwnPages::granted(&host.gntalloc, index, pages) {
            Ok(mapped) => {
                Ok(Unit { pages: Some(mapped), peer, refs, index, host: Rc::downgrade(host) })
            }
            Err(error) => {
                let _ = sys::dealloc_grefs(&host.gntalloc, index, pages as u32);
                Err(grant_error(&error))
            }
        }
    }

    pub fn pages(&self) -> &OwnPages {
        self.pages.as_ref().expect("a unit has its pages until it is dropped")
    }

    pub fn pages_mut(&mut self) -> &mut OwnPages {
        self.pages.as_mut().expect("a unit has its pages until it is dropped")
    }

    /// It is freed without the peer's word that it is done with it.
    pub fn abandon(self) {
        if let Some(host) = self.host.upgrade() {
            host.account.freed(self.peer.domid, self.refs.len() as u32);
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // Granted until no mapping of ours is left: the mapping first.
        self.pages = None;
        // With the host the device is closed, which frees what is left.
        if let Some(host) = self.host.upgrade() {
            free(&host, self.peer.domid, self.index, self.refs.len());
        }
    }
}

/// Frees pages of gntalloc's that we have unmapped.
pub(super) fn free(host: &Inner, domain: DomId, index: u64, pages: usize) {
    if let Err(error) = sys::dealloc_grefs(&host.gntalloc, index, pages as u32) {
        tracing::error!(%domain, %error, "gntalloc does not know pages that are ours");
    }
}
