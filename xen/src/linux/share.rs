//! Pages that two domains share for longer: gntalloc's when they are ours, gntdev's when they
//! are not.

use std::rc::Rc;

use xenvelope_grant::seam::{Access, Pinned, Share, Shared};
use xenvelope_grant::{DomId, GrantError, Gref, HasWords, Words};

use super::host::{Inner, Xen};
use super::sys::{self, DevicePages, SharedPagesMap};
use super::unit::{free, grant_error};

/// Pages that are shared with another domain. Dropped, they are unmapped, and freed if they are
/// ours.
pub struct SharedPages {
    /// Gone only while it is being dropped.
    words: Option<SharedPagesMap>,
    refs: Vec<Gref>,
    index: u64,
    other: DomId,
    ours: bool,
    host: Rc<Inner>,
}

impl SharedPages {
    pub(super) fn export(
        host: &Rc<Inner>,
        to: DomId,
        pages: usize,
        access: Access,
    ) -> Result<SharedPages, GrantError> {
        host.account.check(to)?;
        let mut refs = vec![Gref(0); pages];
        let writable = access == Access::Write;
        // The kernel hands out zeroed pages (`GFP_KERNEL | __GFP_ZERO`).
        let index = sys::alloc_grefs(&host.gntalloc, to, writable, &mut refs)
            .map_err(|error| grant_error(&error))?;
        match DevicePages::map(&host.gntalloc, index, pages, true) {
            Ok(words) => Ok(SharedPages {
                words: Some(words),
                refs,
                index,
                other: to,
                ours: true,
                host: Rc::clone(host),
            }),
            Err(error) => {
                free(host, to, index, pages);
                Err(grant_error(&error))
            }
        }
    }

    pub(super) fn map(&self) -> &SharedPagesMap {
        self.words.as_ref().expect("pages are mapped until they are dropped")
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        self.words = None;
        let count = self.refs.len();
        if self.ours {
            free(&self.host, self.other, self.index, count);
            self.host.account.freed(self.other, count as u32);
        } else if let Err(error) = sys::unmap_grants(&self.host.gntdev, self.index, count as u32) {
            tracing::error!(domain = %self.other, %error, "gntdev does not know a mapping of ours");
        }
    }
}

impl Share for Xen {
    type Pages = SharedPages;

    fn export(&self, to: DomId, pages: usize, access: Access) -> Result<SharedPages, GrantError> {
        if pages == 0 {
            return Err(GrantError::General);
        }
        SharedPages::export(&self.inner, to, pages, access)
    }

    fn import(
        &self,
        from: DomId,
        refs: &[Gref],
        access: Access,
    ) -> Result<SharedPages, GrantError> {
        if refs.is_empty() {
            return Err(GrantError::General);
        }
        let host = &self.inner;
        let index =
            sys::map_grants(&host.gntdev, from, refs).map_err(|error| grant_error(&error))?;
        // The hypercall is made by mmap; a reference that is not granted to us fails there. A
        // mapping without PROT_WRITE is made read-only in Xen too.
        match DevicePages::map(&host.gntdev, index, refs.len(), access == Access::Write) {
            Ok(words) => Ok(SharedPages {
                words: Some(words),
                refs: refs.to_vec(),
                index,
                other: from,
                ours: false,
                host: Rc::clone(host),
            }),
            Err(_) => {
                let _ = sys::unmap_grants(&host.gntdev, index, refs.len() as u32);
                Err(GrantError::General)
            }
        }
    }

    /// Always succeeds: whether the other side still has them mapped the kernel does not say. It
    /// keeps such pages from use until they are let go.
    fn unexport(&self, pages: SharedPages) -> Result<(), Pinned<SharedPages>> {
        drop(pages);
        Ok(())
    }
}

impl Shared for SharedPages {
    fn refs(&self) -> &[Gref] {
        &self.refs
    }
}

impl HasWords for SharedPages {
    fn words(&self) -> &(impl Words + ?Sized) {
        self.map()
    }
}
