//! The in-use bits of an entry: set before anything in it is relied on, cleared by the last user.

use std::sync::atomic::Ordering::{Relaxed, Release};

use xenvelope_grant::entry::{EntryKind, GrantFlags};
use xenvelope_grant::seam::Access;
use xenvelope_grant::table::STATUS_V2;
use xenvelope_grant::{DomId, GrantError, Gref, Words};

use super::{ActiveEntry, GrantCheck, Purpose, Request};

/// How often a version 1 entry that changes under our hands is tried again (XSA-295).
const MAX_TRIES: usize = 5;

impl<W: Words> GrantCheck<W> {
    /// Whether flags and grantee permit the request; a user that is there already has been
    /// checked when it came.
    #[inline]
    fn permits(
        active: &ActiveEntry,
        request: Request,
        version_2: bool,
        (flags, domid): (GrantFlags, DomId),
    ) -> bool {
        if request.access == Access::Write && flags.contains(GrantFlags::READONLY) {
            return false;
        }
        if active.is_pinned() {
            return true;
        }
        let mapping = request.purpose == Purpose::Map;
        let kind = match flags.kind() {
            EntryKind::PermitAccess => !(mapping && flags.contains(GrantFlags::SUB_PAGE)),
            EntryKind::Transitive => version_2 && !mapping,
            EntryKind::Invalid | EntryKind::AcceptTransfer => false,
        };
        // Who has no key has nothing to look for in an entry that bears one.
        kind && domid == request.grantee && !flags.contains(GrantFlags::KEYED)
    }

    /// Sets the in-use bits so that the owner's revoke fails from now on, and returns the flags
    /// as they were *after* that.
    #[inline]
    pub(super) fn set_in_use(
        &self,
        active: &ActiveEntry,
        gref: Gref,
        request: Request,
    ) -> Result<GrantFlags, GrantError> {
        let bits = match request.access {
            Access::Read => GrantFlags::READING,
            Access::Write => GrantFlags::IN_USE,
        };
        let Some(status) = &self.status else {
            return self.set_in_use_v1(active, gref, request, bits);
        };
        if !Self::permits(active, request, true, self.header(gref)) {
            return Err(GrantError::General);
        }
        // Only the hypervisor writes status words, and only under the entry's lock.
        let at = gref.0 as usize * STATUS_V2;
        let now = status.load_u16(at, Relaxed);
        status.store_u16(at, now | bits.bits(), Relaxed);
        // The owner clears the flags, mb(), looks at the status; we set the status, mb(), look
        // at the flags. One of the two sees the other.
        status.full_barrier();
        let after = self.header(gref);
        if Self::permits(active, request, true, after) {
            return Ok(after.0);
        }
        let undo = if active.is_pinned() { GrantFlags::WRITING } else { GrantFlags::IN_USE };
        self.clear(gref, undo);
        Err(GrantError::General)
    }

    fn set_in_use_v1(
        &self,
        active: &ActiveEntry,
        gref: Gref,
        request: Request,
        bits: GrantFlags,
    ) -> Result<GrantFlags, GrantError> {
        let at = self.entry(gref);
        for _ in 0..MAX_TRIES {
            let header = self.header(gref);
            if !Self::permits(active, request, false, header) {
                return Err(GrantError::General);
            }
            let (flags, domid) = header;
            let new = flags | bits;
            if self.entries.compare_exchange_u16(at, flags.bits(), new.bits()).is_err() {
                continue;
            }
            // Xen exchanges flags and domid as one word. Here the domid is looked at again: the
            // entry cannot be revoked from now on, and if it was meanwhile granted to another
            // domain with the same flags, it is not ours to use.
            if active.is_pinned() || self.entries.load_u16(at + 2, Relaxed) == domid.0 {
                return Ok(new);
            }
            self.clear(gref, GrantFlags::IN_USE);
        }
        Err(GrantError::General)
    }

    /// Takes back the bits that no user needs any more (`reduce_status_for_pin`).
    #[inline]
    pub(super) fn reduce(&self, active: &ActiveEntry, gref: Gref, access: Access) {
        let mut bits = GrantFlags::empty();
        if !active.is_pinned() {
            bits |= GrantFlags::READING;
        }
        if access == Access::Write && active.writers == 0 {
            bits |= GrantFlags::WRITING;
        }
        if !bits.is_empty() {
            self.clear(gref, bits);
        }
    }

    /// Release: what was copied is visible to an owner that sees the bits gone.
    #[inline]
    pub(super) fn clear(&self, gref: Gref, bits: GrantFlags) {
        if let Some(status) = &self.status {
            let at = gref.0 as usize * STATUS_V2;
            status.store_u16(at, status.load_u16(at, Relaxed) & !bits.bits(), Release);
            return;
        }
        let at = self.entry(gref);
        let mut flags = self.entries.load_u16(at, Relaxed);
        for _ in 0..MAX_TRIES {
            match self.entries.compare_exchange_u16(at, flags, flags & !bits.bits()) {
                Ok(()) => return,
                Err(now) => flags = now,
            }
        }
        // The owner spins on its own entry. It may not hold us up (XSA-295), and what it loses
        // is its own last store.
        self.entries.store_u16(at, flags & !bits.bits(), Release);
    }
}
