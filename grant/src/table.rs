//! The granting domain's side of its grant table: making an entry valid, and invalid again.
//!
//! The hypervisor reads entries at any moment, so the order of the stores is the protocol
//! (comment in `xen/include/public/grant_table.h`, "Introducing a valid entry"):
//! domid, frame, write barrier, flags. Taking one back must not race with a use that has just
//! begun: with version 1 a compare-exchange of the flags that fails while `GTF_reading` or
//! `GTF_writing` is set; with version 2 the flags go first, then a full barrier, then the status
//! word is looked at.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::entry::{Extent, GrantFlags};
use crate::seam::Access;
use crate::{DomId, Gref, Words};
use thiserror::Error;

/// The entry is in use by the domain that it was granted to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the grant is in use")]
pub struct InUse;

/// Something that this version of the table cannot express.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CannotGrant {
    /// The reference is beyond the table.
    #[error("the grant table has no such entry")]
    NoEntry,
    /// Sub-page and transitive grants need version 2.
    #[error("grant table version 1 knows full-page grants only")]
    Version,
    /// A frame number that does not fit 32 bits, in version 1.
    #[error("the frame number does not fit a version 1 entry")]
    FrameTooBig,
}

/// Bytes of a version 1 entry.
pub const ENTRY_V1: usize = 8;
/// Bytes of a version 2 entry.
pub const ENTRY_V2: usize = 16;
/// Bytes of a version 2 status word.
pub const STATUS_V2: usize = 2;

/// A grant table that we own: version 1, or version 2 with its status words.
pub enum GrantTable<W> {
    /// Version 1.
    V1 {
        /// The entries.
        entries: W,
    },
    /// Version 2.
    V2 {
        /// The entries.
        entries: W,
        /// The status words, written by the hypervisor.
        status: W,
    },
}

impl<W: Words> GrantTable<W> {
    /// How many entries there are.
    pub fn len(&self) -> u32 {
        let entries = match self {
            GrantTable::V1 { entries } => entries.size() / ENTRY_V1,
            GrantTable::V2 { entries, status } => {
                (entries.size() / ENTRY_V2).min(status.size() / STATUS_V2)
            }
        };
        u32::try_from(entries).unwrap_or(u32::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes entry `gref` valid: `to`, and nobody else, gets `access` to `extent`.
    ///
    /// The entry must be ours to use: free, and not granted at present.
    pub fn grant(
        &self,
        gref: Gref,
        to: DomId,
        extent: Extent,
        access: Access,
    ) -> Result<(), CannotGrant> {
        if gref.0 >= self.len() {
            return Err(CannotGrant::NoEntry);
        }
        let readonly = match access {
            Access::Read => GrantFlags::READONLY,
            Access::Write => GrantFlags::empty(),
        };
        match self {
            GrantTable::V1 { entries } => {
                let Extent::FullPage { frame } = extent else {
                    return Err(CannotGrant::Version);
                };
                let frame = u32::try_from(frame).map_err(|_| CannotGrant::FrameTooBig)?;
                let at = gref.0 as usize * ENTRY_V1;
                entries.store_u16(at + 2, to.0, Relaxed);
                entries.store_u32(at + 4, frame, Relaxed);
                // Release is Xen's wmb(): domid and frame before the flags that make them valid.
                entries.store_u16(at, (GrantFlags::PERMIT_ACCESS | readonly).bits(), Release);
            }
            GrantTable::V2 { entries, .. } => {
                let at = gref.0 as usize * ENTRY_V2;
                let (flags, word1, word2) = match extent {
                    Extent::FullPage { frame } => (GrantFlags::PERMIT_ACCESS, 0, frame),
                    Extent::SubPage { frame, offset, length } => (
                        GrantFlags::PERMIT_ACCESS | GrantFlags::SUB_PAGE,
                        u32::from(offset) | u32::from(length) << 16,
                        frame,
                    ),
                    Extent::Transitive { domain, gref } => {
                        (GrantFlags::TRANSITIVE, u32::from(domain.0), u64::from(gref.0))
                    }
                };
                entries.store_u16(at + 2, to.0, Relaxed);
                entries.store_u32(at + 4, word1, Relaxed);
                entries.store_u64(at + 8, word2, Relaxed);
                // As above: wmb(), then the flags.
                entries.store_u16(at, (flags | readonly).bits(), Release);
            }
        }
        Ok(())
    }

    /// Makes entry `gref` valid for whoever has its key, read-only and for one copy
    /// ([`GrantFlags::KEYED`]: not Xen's). Where keys are kept the hypervisor says; the entry's is
    /// there before this is called.
    ///
    /// # Errors
    /// In version 1, for a transitive extent, and for a reference beyond the table.
    pub fn grant_keyed(&self, gref: Gref, extent: Extent) -> Result<(), CannotGrant> {
        let GrantTable::V2 { entries, .. } = self else { return Err(CannotGrant::Version) };
        if gref.0 >= self.len() {
            return Err(CannotGrant::NoEntry);
        }
        let (flags, word1, frame) = match extent {
            Extent::FullPage { frame } => (GrantFlags::empty(), 0, frame),
            Extent::SubPage { frame, offset, length } => {
                (GrantFlags::SUB_PAGE, u32::from(offset) | u32::from(length) << 16, frame)
            }
            Extent::Transitive { .. } => return Err(CannotGrant::Version),
        };
        let at = gref.0 as usize * ENTRY_V2;
        // A key instead of a domain: no domain has that id.
        entries.store_u16(at + 2, DomId::INVALID.0, Relaxed);
        entries.store_u32(at + 4, word1, Relaxed);
        entries.store_u64(at + 8, frame, Relaxed);
        let flags = flags | GrantFlags::PERMIT_ACCESS | GrantFlags::READONLY | GrantFlags::KEYED;
        // wmb(), as above. The key's store is before it too.
        entries.store_u16(at, flags.bits(), Release);
        Ok(())
    }

    /// Takes entry `gref` back. After `Ok` nobody can begin to use it, and nobody is using it:
    /// what the user wrote before it let go is visible.
    ///
    /// After [`InUse`] nobody new can begin to use a version 2 entry; a version 1 entry stays
    /// valid. Call it again later.
    pub fn revoke(&self, gref: Gref) -> Result<(), InUse> {
        self.end([gref]);
        self.ended(gref)
    }

    /// The first half of [`GrantTable::revoke`], for several entries, with one barrier. Nobody new
    /// can begin to use a version 2 entry after it; with version 1 all is left to the second half.
    pub fn end(&self, refs: impl IntoIterator<Item = Gref>) {
        let GrantTable::V2 { entries, .. } = self else { return };
        let (len, mut any) = (self.len(), false);
        // Not a loop: several iterators in one are cheaper from within.
        refs.into_iter().filter(|gref| gref.0 < len).for_each(|gref| {
            entries.store_u16(gref.0 as usize * ENTRY_V2, 0, Relaxed);
            any = true;
        });
        // The hypervisor sets the status, mb(), looks at the flags again; we clear the flags, mb(),
        // look at the status. One of the two sees the other: for each entry by itself, so one
        // barrier between all flags and all statuses does for all.
        if any {
            entries.full_barrier();
        }
    }

    /// The second half of [`GrantTable::revoke`], for an entry that was [ended](GrantTable::end)
    /// and not granted since. What comes of it is what comes of a revoke.
    ///
    /// # Errors
    /// [`InUse`], as of a revoke.
    pub fn ended(&self, gref: Gref) -> Result<(), InUse> {
        if gref.0 >= self.len() {
            return Ok(());
        }
        match self {
            GrantTable::V1 { entries } => {
                let at = gref.0 as usize * ENTRY_V1;
                let mut flags = entries.load_u16(at, Relaxed);
                loop {
                    if GrantFlags::from_bits_retain(flags).intersects(GrantFlags::IN_USE) {
                        return Err(InUse);
                    }
                    // The word changes under us only when a use begins or ends; the hypervisor
                    // gives up on an entry that spins (XSA-295), and so the loop is bounded by
                    // what the hypervisor does on the peer's behalf. The compare-exchange is
                    // sequentially consistent: it also acquires what the last user wrote.
                    match entries.compare_exchange_u16(at, flags, 0) {
                        Ok(()) => return Ok(()),
                        Err(now) => flags = now,
                    }
                }
            }
            GrantTable::V2 { status, .. } => {
                let used = status.load_u16(gref.0 as usize * STATUS_V2, Acquire);
                if GrantFlags::from_bits_retain(used).intersects(GrantFlags::IN_USE) {
                    Err(InUse)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Whether the peer is using the entry just now. Good for statistics and tests only: it may
    /// begin a moment later (XSA-396). Ask [`GrantTable::revoke`].
    pub fn in_use(&self, gref: Gref) -> bool {
        let word = match self {
            GrantTable::V1 { entries } => entries.load_u16(gref.0 as usize * ENTRY_V1, Relaxed),
            GrantTable::V2 { status, .. } => status.load_u16(gref.0 as usize * STATUS_V2, Relaxed),
        };
        GrantFlags::from_bits_retain(word).intersects(GrantFlags::IN_USE)
    }
}
