//! The grant tables of all domains, as the hypervisor uses them.

use std::ops::Deref;

use spin::Yield;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use xenvelope_grant::seam::Access;
use xenvelope_grant::{DomId, GrantError, Gref};

use super::access::{Denied, PageExtent};
use super::domain::DomainState;
use super::grant_check::{Acquired, ActiveEntry, GrantCheck, Purpose, Request};
use crate::memory::{PageRef, Window};

/// How often a transitive entry that changes under our hands is tried again. Xen restarts the
/// hypercall; the bound keeps the caller's time its own.
const MAX_RESTARTS: usize = 4;

/// What is kept of an entry, under a lock of Xen's kind: it is held for some instructions, and let
/// go by a store. A processor of the simulator's is a thread, whose core may be another's just now;
/// so who waits gives his own away.
type Active = SpinMutex<ActiveEntry, Yield>;

#[inline]
fn lock(active: &Active) -> SpinMutexGuard<'_, ActiveEntry> {
    active.lock()
}

/// One domain's grant table and who uses what of it.
pub(crate) struct GrantState {
    check: GrantCheck<Window>,
    /// One lock an entry, as in Xen: two users of different entries never meet.
    active: Box<[Active]>,
}

impl GrantState {
    pub(crate) fn new(check: GrantCheck<Window>) -> GrantState {
        let active = (0..check.len()).map(|_| Active::new(ActiveEntry::IDLE)).collect();
        GrantState { check, active }
    }

    #[inline]
    fn entry(&self, gref: Gref) -> Result<&Active, GrantError> {
        self.active.get(gref.0 as usize).ok_or(GrantError::BadRef)
    }

    #[inline]
    fn acquire(&self, gref: Gref, request: Request) -> Result<Acquired, GrantError> {
        self.check.acquire(&mut lock(self.entry(gref)?), gref, request)
    }

    /// Ends one use of an entry.
    #[inline]
    pub(crate) fn release(&self, gref: Gref, access: Access) {
        if let Ok(entry) = self.entry(gref) {
            self.check.release(&mut lock(entry), gref, access);
        }
    }

    /// Pins an entry for a mapping and returns the frame.
    pub(crate) fn map(
        &self,
        gref: Gref,
        grantee: DomId,
        access: Access,
    ) -> Result<u64, GrantError> {
        match self.acquire(gref, Request { grantee, access, purpose: Purpose::Map })? {
            Acquired::Extent(extent) => Ok(extent.frame),
            // Cannot be: a mapping of one is refused before.
            Acquired::Transitive { .. } => Err(GrantError::General),
        }
    }

    /// All entries that are valid now, with their flags; version 2's in-use bits are not among
    /// them.
    pub(crate) fn live(&self) -> Vec<(Gref, DomId, u16)> {
        (0..self.check.len() as u32)
            .map(|gref| (Gref(gref), self.check.header(Gref(gref))))
            .filter(|(_, (flags, _))| flags.bits() & 3 != 0)
            .map(|(gref, (flags, domid))| (gref, domid, flags.bits()))
            .collect()
    }
}

/// An entry that is pinned for one copy. `D` keeps the domains: for the time of a call, or for as
/// long as an engine takes.
pub(crate) struct CopyPin<D: Deref<Target = DomainState>> {
    /// The domain whose entry was named.
    owner: D,
    gref: Gref,
    access: Access,
    /// The domain and entry behind a transitive one.
    via: Option<(D, Gref)>,
    extent: PageExtent,
}

impl<D: Deref<Target = DomainState>> CopyPin<D> {
    /// Pins `gref` of `owner` for a copy on behalf of `grantee`. `domain_of` finds the one behind a
    /// transitive entry.
    #[inline(always)]
    pub(crate) fn new(
        domain_of: impl Fn(DomId) -> Option<D>,
        owner: D,
        gref: Gref,
        grantee: DomId,
        access: Access,
    ) -> Result<CopyPin<D>, GrantError> {
        let request = Request { grantee, access, purpose: Purpose::Copy { transitive: true } };
        for _ in 0..MAX_RESTARTS {
            let (domain, target, before) = match owner.grants.acquire(gref, request)? {
                Acquired::Extent(extent) => {
                    return Ok(CopyPin { owner, gref, access, via: None, extent });
                }
                Acquired::Transitive { domain, gref, before } => (domain, gref, before),
            };
            // The entry's lock is not held while the other table is looked at: two domains that
            // pass each other's grants on would otherwise wait for each other.
            let abandon = |error| {
                if let Ok(entry) = owner.grants.entry(gref) {
                    owner.grants.check.abandon(&mut lock(entry), gref, access);
                }
                error
            };
            let third = domain_of(domain).ok_or_else(|| abandon(GrantError::General))?;
            let onward =
                Request { grantee: owner.id, access, purpose: Purpose::Copy { transitive: false } };
            let extent = match third.grants.acquire(target, onward).map_err(abandon)? {
                Acquired::Extent(extent) => extent,
                // Cannot be: a second level is refused before.
                Acquired::Transitive { .. } => return Err(abandon(GrantError::General)),
            };
            let completed = {
                let mut active = lock(owner.grants.entry(gref)?);
                owner.grants.check.complete(&mut active, request, before, (domain, target), extent)
            };
            if completed.is_ok() {
                return Ok(CopyPin { owner, gref, access, via: Some((third, target)), extent });
            }
            third.grants.release(target, access);
            abandon(GrantError::Again);
        }
        Err(GrantError::General)
    }

    /// Pins `gref` of `owner`, which bears `key`, for its one copy.
    pub(crate) fn keyed(owner: D, gref: Gref, key: u64) -> Result<CopyPin<D>, GrantError> {
        let grants = &owner.grants;
        let extent = grants.check.acquire_keyed(&mut lock(grants.entry(gref)?), gref, key)?;
        Ok(CopyPin { owner, gref, access: Access::Read, via: None, extent })
    }

    /// The page, if `length` bytes at `offset` of it, which are within a page, were granted.
    #[inline]
    pub(crate) fn check(&self, offset: usize, length: usize) -> Result<PageRef<'_>, Denied> {
        let holder = self.via.as_ref().map_or(&self.owner, |(third, _)| third);
        holder.space.check_within(self.extent, offset, length)
    }
}

impl<D: Deref<Target = DomainState>> Drop for CopyPin<D> {
    #[inline]
    fn drop(&mut self) {
        self.owner.grants.release(self.gref, self.access);
        if let Some((third, gref)) = &self.via {
            third.grants.release(*gref, self.access);
        }
    }
}
