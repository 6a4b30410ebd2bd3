//! Entries that bear a key instead of a domain: for whoever names it, for one copy.
//!
//! No Xen has them. The paper that envelopes come from considered them and said that they take
//! significant changes to the hypervisor; this is what they take here. The keys lie beside the
//! table, in pages that the owner writes and nobody else reads.

use std::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::entry::{EntryKind, GrantFlags};
use xenvelope_grant::table::STATUS_V2;
use xenvelope_grant::{GrantError, Gref, Words};

use super::{ActiveEntry, GrantCheck, PageExtent};

/// Bytes of a key.
pub const KEY: usize = 8;

/// Whether an entry is for whoever has its key.
fn is_open(flags: GrantFlags) -> bool {
    flags.contains(GrantFlags::KEYED) && flags.kind() == EntryKind::PermitAccess
}

impl<W: Words> GrantCheck<W> {
    /// The table with keys: a word of [`KEY`] bytes for each entry.
    pub fn with_keys(mut self, keys: W) -> GrantCheck<W> {
        self.keys = Some(keys);
        self
    }

    /// Pins entry `gref` for reading on behalf of whoever names its key, and revokes it: there is
    /// no second use. [`GrantCheck::release`] ends the first.
    ///
    /// # Errors
    /// [`GrantError::General`] for an entry without a key, another key, and an entry that was
    /// used; otherwise as [`GrantCheck::acquire`].
    pub fn acquire_keyed(
        &self,
        active: &mut ActiveEntry,
        gref: Gref,
        key: u64,
    ) -> Result<PageExtent, GrantError> {
        if gref.0 as usize >= self.len() {
            return Err(GrantError::BadRef);
        }
        let (Some(status), Some(keys)) = (&self.status, &self.keys) else {
            return Err(GrantError::General);
        };
        let bears = || keys.load_u64(gref.0 as usize * KEY, Relaxed) == key;
        let (flags, _) = self.header(gref);
        if active.is_pinned() || !is_open(flags) || !bears() {
            return Err(GrantError::General);
        }
        let word = gref.0 as usize * STATUS_V2;
        status.store_u16(
            word,
            status.load_u16(word, Relaxed) | GrantFlags::READING.bits(),
            Relaxed,
        );
        // As for other entries: the owner clears the flags, mb(), looks at the status; we set the
        // status, mb(), look at the flags. Here the look takes them away.
        status.full_barrier();
        let taken = self.entries.compare_exchange_u16(self.entry(gref), flags.bits(), 0);
        // Only now: the owner may have taken the entry back and used it for somebody else, with
        // another key, after the first look. From here on it cannot.
        let extent = self.extent(gref, flags);
        let found = match taken {
            Ok(()) if !bears() => Err(GrantError::General),
            Ok(()) if extent.frame >= self.frames => Err(GrantError::BadPage),
            Ok(()) => Ok(extent),
            Err(_) => Err(GrantError::General),
        };
        match found {
            Ok(extent) => *active = ActiveEntry { readers: 1, extent, ..ActiveEntry::IDLE },
            Err(_) => self.clear(gref, GrantFlags::READING),
        }
        found
    }
}

#[cfg(test)]
mod tests;
