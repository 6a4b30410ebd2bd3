//! Who wants to use an entry, and who is using it.

use xenvelope_grant::seam::Access;
use xenvelope_grant::{DomId, Gref};

use super::PageExtent;

/// What an entry is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A copy.
    Copy {
        /// Whether the entry may pass on what a third domain granted. Only one level of that is
        /// allowed, so the second look-up says no.
        transitive: bool,
    },
    /// A mapping: full pages only.
    Map,
}

/// Who wants what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The domain that wants to use the entry.
    pub grantee: DomId,
    /// How.
    pub access: Access,
    /// What for.
    pub purpose: Purpose,
}

/// The hypervisor's private record of an entry in use (`struct active_grant_entry`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveEntry {
    pub(super) readers: u8,
    pub(super) writers: u8,
    pub(super) grantee: DomId,
    pub(super) extent: PageExtent,
    pub(super) sub_page: bool,
    /// Whose entry stands behind a transitive one.
    pub(super) via: Option<(DomId, Gref)>,
}

impl ActiveEntry {
    /// Nobody uses the entry.
    pub const IDLE: ActiveEntry = ActiveEntry {
        readers: 0,
        writers: 0,
        grantee: DomId(0),
        extent: PageExtent { frame: 0, start: 0, length: 0 },
        sub_page: false,
        via: None,
    };

    /// Whether anybody uses the entry.
    pub const fn is_pinned(&self) -> bool {
        self.readers != 0 || self.writers != 0
    }

    pub(super) fn pins(&mut self, access: Access) -> &mut u8 {
        match access {
            Access::Read => &mut self.readers,
            Access::Write => &mut self.writers,
        }
    }
}

/// What [`super::GrantCheck::acquire`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// These bytes of the granting domain's, pinned.
    Extent(PageExtent),
    /// The entry passes on another grant. Nothing is pinned yet: acquire that one on behalf of
    /// the granting domain, then call [`super::GrantCheck::complete`] or [`super::GrantCheck::abandon`].
    Transitive {
        /// Who granted it.
        domain: DomId,
        /// The reference there.
        gref: Gref,
        /// What the record looked like, to see whether it changed meanwhile.
        before: ActiveEntry,
    },
}
