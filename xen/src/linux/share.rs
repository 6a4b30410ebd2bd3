//! Pages that two domains share for longer: gntalloc's when they are ours, gntdev's when they
//! are not.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use xenvelope_grant::seam::{Access, Pinned, Share, Shared};
use xenvelope_grant::{DomId, GrantError, Gref, Words};

use super::host::{Inner, Xen};
use super::sys::{self, SharedPagesMap};
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
        match SharedPagesMap::new(&host.gntalloc, index, pages, true) {
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

    pub(super) fn words(&self) -> &SharedPagesMap {
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
        match SharedPagesMap::new(&host.gntdev, index, refs.len(), access == Access::Write) {
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

impl Words for SharedPages {
    fn size(&self) -> usize {
        self.words().size()
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.words().load_u16(at, order)
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.words().store_u16(at, value, order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        self.words().compare_exchange_u16(at, current, new)
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.words().load_u32(at, order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.words().store_u32(at, value, order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.words().load_u64(at, order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.words().store_u64(at, value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.words().copy_out(at, out);
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.words().copy_in(at, bytes);
    }
    fn full_barrier(&self) {
        self.words().full_barrier();
    }
    fn read_barrier(&self) {
        self.words().read_barrier();
    }
}
