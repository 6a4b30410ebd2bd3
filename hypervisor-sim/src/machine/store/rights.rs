//! Who may do what with a node.

use arrayvec::ArrayVec;
use xenvelope_grant::DomId;
use xenvelope_xen::wire::{Access, Permission, Permissions, PermissionsText};

/// A node's permissions as xenstored keeps them: the first entry names the owner, who may do
/// everything, and says what those may do that have no entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rights(ArrayVec<Permission, { PermissionsText::MOST }>);

impl Rights {
    /// Nobody's but the owner's.
    pub(super) fn of(owner: DomId) -> Rights {
        let mut entries = ArrayVec::new();
        entries.push(Permission { access: Access::Nothing, domid: owner });
        Rights(entries)
    }

    /// The same owner, and one other domain that may read.
    pub(super) fn readable_by(&self, reader: DomId) -> Rights {
        let mut rights = Rights::of(self.owner());
        rights.0.push(Permission { access: Access::Read, domid: reader });
        rights
    }

    /// As a client sent them; `None` if there are too many.
    pub(super) fn from_wire(permissions: &Permissions<'_>) -> Option<Rights> {
        let mut entries = ArrayVec::new();
        for permission in permissions.iter() {
            entries.try_push(permission).ok()?;
        }
        if entries.is_empty() { None } else { Some(Rights(entries)) }
    }

    /// As they are sent.
    pub(super) fn to_wire(&self) -> Vec<u8> {
        // One to five entries: there is a text.
        PermissionsText::new(&self.0)
            .map(|text| text.permissions().as_bytes().to_vec())
            .unwrap_or_default()
    }

    pub(super) fn owner(&self) -> DomId {
        self.0.first().map_or(DomId::DOM0, |entry| entry.domid)
    }

    fn access(&self, domid: DomId) -> Access {
        let named = self.0.iter().skip(1).find(|entry| entry.domid == domid);
        named.or(self.0.first()).map_or(Access::Nothing, |entry| entry.access)
    }

    pub(super) fn may_read(&self, domid: DomId) -> bool {
        domid == self.owner() || matches!(self.access(domid), Access::Read | Access::Both)
    }

    pub(super) fn may_write(&self, domid: DomId) -> bool {
        domid == self.owner() || matches!(self.access(domid), Access::Write | Access::Both)
    }

    /// Takes all rights from a domain id: what it owned is the toolstack's. Whether that changed
    /// anything.
    pub(super) fn forget(&mut self, domid: DomId) -> bool {
        let before = self.0.len();
        let owned = self.owner() == domid;
        let mut first = true;
        self.0.retain(|entry| std::mem::take(&mut first) || entry.domid != domid);
        if let Some(owner) = self.0.first_mut()
            && owned
        {
            owner.domid = DomId::DOM0;
        }
        owned || self.0.len() != before
    }
}
