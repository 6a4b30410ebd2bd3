//! The hypervisor's side of a grant entry: may this domain use it, and who is using it now.
//!
//! What Xen's `acquire_grant_for_copy`, `map_grant_ref`, `_set_status_v1`, `_set_status_v2` and
//! `reduce_status_for_pin` do (`xen/common/grant_table.c`), in their order and with their codes.
//! The granting domain may rewrite an entry at any moment, so nothing read before the in-use bits
//! were set is relied on after (XSA-500), tries are bounded (XSA-295), and bits are cleared only
//! when the last user of their kind leaves (XSA-218, XSA-230).
//!
//! Everything is generic over [`Words`] and takes the hypervisor's private record as `&mut`, so
//! that the very code can be model checked against the guest's side.

mod active;
mod in_use;
mod keyed;

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use xenvelope_grant::entry::{EntryKind, GrantFlags};
use xenvelope_grant::seam::Access;
use xenvelope_grant::table::{ENTRY_V1, ENTRY_V2, STATUS_V2};
use xenvelope_grant::{DomId, GrantError, Gref, Words};

use super::access::PageExtent;
pub use active::{Acquired, ActiveEntry, Purpose, Request};
pub use keyed::KEY;

/// Xen counts up to this many users of each kind in one entry (`GNTPIN_incr2oflow_mask`: the top
/// bit of an eight-bit counter).
pub const MAX_PINS: u8 = 128;

/// The entry changed between the two halves of a transitive acquire (Xen's `ERESTART`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unstable;

/// A grant table as the hypervisor sees it.
pub struct GrantCheck<W> {
    owner: DomId,
    /// How many frames the owner has.
    frames: u64,
    entries: W,
    /// Version 2 has its in-use bits apart.
    status: Option<W>,
    /// A key for each entry, where entries may bear one.
    keys: Option<W>,
    /// How many entries there are.
    len: usize,
}

impl<W: Words> GrantCheck<W> {
    /// The table of `owner`, which has `frames` frames. With status words it is version 2.
    pub fn new(owner: DomId, frames: u64, entries: W, status: Option<W>) -> GrantCheck<W> {
        let len = match &status {
            None => entries.size() / ENTRY_V1,
            Some(status) => (entries.size() / ENTRY_V2).min(status.size() / STATUS_V2),
        };
        GrantCheck { owner, frames, entries, status, keys: None, len }
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flags and grantee of an entry, for whoever lists the table.
    #[inline]
    pub fn header(&self, gref: Gref) -> (GrantFlags, DomId) {
        let at = self.entry(gref);
        let flags = self.entries.load_u16(at, Acquire);
        (GrantFlags::from_bits_retain(flags), DomId(self.entries.load_u16(at + 2, Relaxed)))
    }

    /// Pins entry `gref` for the request, after all checks.
    #[inline]
    pub fn acquire(
        &self,
        active: &mut ActiveEntry,
        gref: Gref,
        request: Request,
    ) -> Result<Acquired, GrantError> {
        if gref.0 as usize >= self.len() {
            return Err(GrantError::BadRef);
        }
        let Request { grantee, access, purpose } = request;
        let pinned = active.is_pinned();
        let mapping = purpose == Purpose::Map;
        if pinned
            && (active.grantee != grantee
                || *active.pins(access) >= MAX_PINS
                || (mapping && active.sub_page))
        {
            return Err(GrantError::General);
        }
        let upgrade = !pinned || (access == Access::Write && active.writers == 0);
        if !upgrade && active.via.is_none() {
            *active.pins(access) += 1;
            return Ok(Acquired::Extent(active.extent));
        }
        let flags =
            if upgrade { self.set_in_use(active, gref, request)? } else { self.header(gref).0 };
        let found = self.look_up(active, gref, request, flags);
        match found {
            Ok(Acquired::Extent(_)) => *active.pins(access) += 1,
            Ok(Acquired::Transitive { .. }) => {}
            Err(_) => self.reduce(active, gref, access),
        }
        found
    }

    #[inline]
    fn look_up(
        &self,
        active: &mut ActiveEntry,
        gref: Gref,
        request: Request,
        flags: GrantFlags,
    ) -> Result<Acquired, GrantError> {
        let at = self.entry(gref);
        let pinned = active.is_pinned();
        if self.status.is_some() && flags.kind() == EntryKind::Transitive {
            if request.purpose != (Purpose::Copy { transitive: true }) {
                return Err(GrantError::General);
            }
            let domain = DomId(self.entries.load_u32(at + 4, Relaxed) as u16);
            let target = Gref(self.entries.load_u64(at + 8, Relaxed) as u32);
            if domain == self.owner {
                return Err(GrantError::General);
            }
            return Ok(Acquired::Transitive { domain, gref: target, before: *active });
        }
        if active.via.is_some() {
            // It was transitive when it was pinned and is not any more: the page is not the
            // owner's, which Xen answers so.
            return Err(GrantError::BadDomain);
        }
        if pinned && request.purpose == Purpose::Map {
            return Ok(Acquired::Extent(active.extent));
        }
        let sub_page = self.status.is_some() && flags.contains(GrantFlags::SUB_PAGE);
        let extent = self.extent(gref, flags);
        if extent.frame >= self.frames {
            return Err(GrantError::BadPage);
        }
        if pinned {
            // A reader's entry that is now wanted for writing must still be the same bytes.
            let same = extent.frame == active.extent.frame
                && (!active.sub_page || (sub_page && extent == active.extent));
            return if same {
                Ok(Acquired::Extent(active.extent))
            } else {
                Err(GrantError::General)
            };
        }
        *active = ActiveEntry { grantee: request.grantee, extent, sub_page, ..ActiveEntry::IDLE };
        Ok(Acquired::Extent(extent))
    }

    /// The bytes of an entry that is not transitive.
    #[inline]
    fn extent(&self, gref: Gref, flags: GrantFlags) -> PageExtent {
        let at = self.entry(gref);
        if self.status.is_none() {
            PageExtent::whole(u64::from(self.entries.load_u32(at + 4, Relaxed)))
        } else if flags.contains(GrantFlags::SUB_PAGE) {
            let part = self.entries.load_u32(at + 4, Relaxed);
            let frame = self.entries.load_u64(at + 8, Relaxed);
            PageExtent { frame, start: part as u16, length: (part >> 16) as u16 }
        } else {
            PageExtent::whole(self.entries.load_u64(at + 8, Relaxed))
        }
    }

    /// Pins a transitive entry after the one behind it was pinned and gave `extent`.
    pub fn complete(
        &self,
        active: &mut ActiveEntry,
        request: Request,
        before: ActiveEntry,
        via: (DomId, Gref),
        extent: PageExtent,
    ) -> Result<(), Unstable> {
        let same_pins = active.readers == before.readers && active.writers == before.writers;
        let same_entry = !before.is_pinned()
            || (active.grantee == request.grantee
                && active.extent == extent
                && active.via == Some(via));
        if !same_pins || !same_entry {
            return Err(Unstable);
        }
        if !active.is_pinned() {
            // Always as a sub-page: that keeps it from being mapped.
            let (grantee, via) = (request.grantee, Some(via));
            *active = ActiveEntry { grantee, extent, sub_page: true, via, ..ActiveEntry::IDLE };
        }
        *active.pins(request.access) += 1;
        Ok(())
    }

    /// Gives up half-way through a transitive acquire.
    pub fn abandon(&self, active: &mut ActiveEntry, gref: Gref, access: Access) {
        self.reduce(active, gref, access);
    }

    /// Ends one use.
    #[inline]
    pub fn release(&self, active: &mut ActiveEntry, gref: Gref, access: Access) {
        let pins = active.pins(access);
        *pins = pins.saturating_sub(1);
        self.reduce(active, gref, access);
        if !active.is_pinned() {
            *active = ActiveEntry::IDLE;
        }
    }

    #[inline]
    fn entry(&self, gref: Gref) -> usize {
        gref.0 as usize * if self.status.is_some() { ENTRY_V2 } else { ENTRY_V1 }
    }
}

#[cfg(test)]
mod tests;
