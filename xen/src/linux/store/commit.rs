//! All changes, or none.

use std::thread::sleep;
use std::time::Duration;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, StoreError};

use super::connection::{Connection, Fault, Refusal};
use crate::wire::{
    self, Access, Errno, Permission, Permissions, PermissionsText, Request, VALUE_MAX, check_path,
};

/// How often a transaction is tried when others were quicker. A store that prefers those who come
/// often (XSA-206) must not keep us for ever.
const TRIES: u32 = 16;

impl Connection {
    pub(super) fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        changes.iter().try_for_each(|change| self.check(change))?;
        let mut reader = false;
        for change in changes {
            reader |= matches!(change, Change::Write { reader: Some(_), .. });
        }
        match changes {
            [] => return Ok(()),
            // With a reader it is several requests.
            [change] if !reader => return self.apply(change, DomId::DOM0, 0).map_err(Into::into),
            _ => {}
        }
        let us = if reader { self.domid()? } else { DomId::DOM0 };
        for attempt in 0..TRIES {
            match self.attempt(changes, us) {
                Err(Refusal::Said(Errno::Again)) => {}
                result => return result.map_err(Into::into),
            }
            // Some are unlucky once or twice. Who is more often waits until it is quieter.
            if let Some(times) = attempt.checked_sub(2) {
                sleep(Duration::from_millis(1 << times.min(5)));
            }
        }
        Err(StoreError::Unreachable)
    }

    /// Finds what the store would not take before anything is changed.
    fn check(&self, change: &Change<'_>) -> Result<(), StoreError> {
        match *change {
            Change::Write { path, value, .. } => {
                check_path(&self.resolve(path))?;
                if value.contains('\0') {
                    return Err(StoreError::Malformed);
                }
                if value.len() > VALUE_MAX { Err(StoreError::TooLong) } else { Ok(()) }
            }
            Change::Remove { path } => Ok(check_path(&self.resolve(path))?),
        }
    }

    /// One transaction.
    fn attempt(&mut self, changes: &[Change<'_>], us: DomId) -> Result<(), Refusal> {
        let id = self.call(&Request::TransactionStart, 0)?;
        let id = wire::transaction(&id).map_err(|_| self.lose(Fault::Nonsense))?;
        let done = changes.iter().try_for_each(|change| self.apply(change, us, id));
        match self.call(&Request::TransactionEnd { commit: done.is_ok() }, id) {
            // It is not there (see `apply`).
            Err(Refusal::Said(Errno::NoEnt)) => done.and(Err(Refusal::Said(Errno::Again))),
            end => done.and(end.map(drop)),
        }
    }

    fn apply(&mut self, change: &Change<'_>, us: DomId, transaction: u32) -> Result<(), Refusal> {
        match *change {
            Change::Remove { path } => {
                let path = self.resolve(path);
                match self.call(&Request::Remove { path: &path }, transaction) {
                    // Its parent does not exist either.
                    Ok(_) | Err(Refusal::Said(Errno::NoEnt)) => Ok(()),
                    Err(refusal) => Err(refusal),
                }
            }
            Change::Write { path, value, reader } => {
                let path = self.resolve(path);
                let before = match reader {
                    Some(_) => self.standing(&path, transaction)?,
                    None => Standing::Theirs,
                };
                let write = Request::Write { path: &path, value: value.as_bytes() };
                match self.call(&write, transaction) {
                    Ok(_) => {}
                    // A write makes what is missing. It is the transaction that is not there: we
                    // were migrated to a store that has not heard of it.
                    Err(Refusal::Said(Errno::NoEnt)) if transaction != 0 => {
                        return Err(Refusal::Said(Errno::Again));
                    }
                    Err(refusal) => return Err(refusal),
                }
                match (reader, before) {
                    (Some(reader), Standing::Missing) => self.admit(&path, us, reader, transaction),
                    (Some(reader), Standing::Owned(owner, readers))
                        if owner == us && readers != Some(reader) =>
                    {
                        self.admit(&path, us, reader, transaction)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whose a node is before it is written. Permissions are set on nodes that this commit makes,
    /// and on ours if they are not yet so: setting them fires watches once more. What the
    /// toolstack made for us has its permissions already; only its owner may set them, and domain
    /// 0, which may everything, must not take a guest's nodes from it.
    fn standing(&mut self, path: &str, transaction: u32) -> Result<Standing, Refusal> {
        let permissions = match self.call(&Request::GetPermissions { path }, transaction) {
            Ok(permissions) => permissions,
            Err(Refusal::Said(Errno::NoEnt)) => return Ok(Standing::Missing),
            Err(Refusal::Said(Errno::Acces | Errno::Perm)) => return Ok(Standing::Theirs),
            Err(refusal) => return Err(refusal),
        };
        let permissions =
            Permissions::parse(&permissions).map_err(|_| self.lose(Fault::Nonsense))?;
        let mut entries = permissions.iter();
        let (Some(owner), reader, None) = (entries.next(), entries.next(), entries.next()) else {
            return Ok(permissions
                .owner()
                .map_or(Standing::Theirs, |us| Standing::Owned(us, None)));
        };
        let reader = reader
            .filter(|reader| owner.access == Access::Nothing && reader.access == Access::Read)
            .map(|reader| reader.domid);
        Ok(Standing::Owned(owner.domid, reader))
    }

    /// Lets one other domain read a node, and no more.
    fn admit(
        &mut self,
        path: &str,
        us: DomId,
        reader: DomId,
        transaction: u32,
    ) -> Result<(), Refusal> {
        let owner = Permission { access: Access::Nothing, domid: us };
        let reader = Permission { access: Access::Read, domid: reader };
        let text = PermissionsText::new(&[owner, reader])?;
        let request = Request::SetPermissions { path, permissions: text.permissions() };
        match self.call(&request, transaction) {
            // Not ours after all. Then who owns it says who reads it.
            Ok(_) | Err(Refusal::Said(Errno::Acces | Errno::Perm)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}

/// A node before it is written.
enum Standing {
    /// There is none.
    Missing,
    /// Its owner and, if it may read and no one may anything else, the other domain.
    Owned(DomId, Option<DomId>),
    /// Not ours to look at, or of no interest.
    Theirs,
}
