//! Pages that two domains share for longer: rings and tables.

use super::{Access, Pinned};
use crate::{DomId, GrantError, Gref, Words};

/// Pages that are shared with another domain, contiguous as words.
pub trait Shared: Words {
    /// The grant references, one for each page, in order.
    fn refs(&self) -> &[Gref];
}

/// Shares pages of ours, and uses those of others.
pub trait Share {
    /// Shared pages. Dropping imported ones unmaps them; exported ones are taken back with
    /// [`Share::unexport`], or at the latest when the domain ends.
    type Pages: Shared;

    /// Takes `pages` zeroed pages and grants them to `to`.
    fn export(&self, to: DomId, pages: usize, access: Access) -> Result<Self::Pages, GrantError>;

    /// Maps pages that `from` granted to us. With [`Access::Read`] stores to them panic: the
    /// mapping is read-only.
    fn import(&self, from: DomId, refs: &[Gref], access: Access)
    -> Result<Self::Pages, GrantError>;

    /// Takes exported pages back. Fails while the other side has them mapped.
    fn unexport(&self, pages: Self::Pages) -> Result<(), Pinned<Self::Pages>>;
}
