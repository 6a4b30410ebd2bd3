//! One change of the tree, by a domain's driver or by a client of the socket.

use std::collections::HashMap;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, StoreError};
use xenvelope_xen::wire::VALUE_MAX;

use super::path::Path;
use super::rights::Rights;
use super::tree::{Made, Tree, Undo};

/// What happened, for those that watch.
pub(super) enum Happened {
    /// A node was written, made, or given other permissions.
    Written(String),
    /// The top of what was removed; then all that was, and the rights of each.
    Removed(String, HashMap<String, Rights>),
}

/// A change that is well-formed.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// Writes a node, and makes those above it.
    Write { path: Path, value: Vec<u8>, made: Made },
    /// Makes a node, and those above it, if there is none.
    MakeDirectory { path: Path },
    /// Removes a node and all below it.
    Remove { path: Path },
    /// Sets a node's permissions.
    SetRights { path: Path, rights: Rights },
}

impl Edit {
    /// A change that came through the seam.
    pub(super) fn new(change: &Change<'_>, by: DomId) -> Result<Edit, StoreError> {
        match *change {
            Change::Write { path, value, reader } => {
                let path = Path::absolute(path, by)?;
                if value.len() > VALUE_MAX {
                    return Err(StoreError::TooLong);
                }
                if value.contains('\0') {
                    return Err(StoreError::Malformed);
                }
                Ok(Edit::Write { path, value: value.into(), made: Made::Own { reader } })
            }
            Change::Remove { path } => Ok(Edit::Remove { path: Path::absolute(path, by)? }),
        }
    }

    /// The node.
    pub(super) fn path(&self) -> &Path {
        match self {
            Edit::Write { path, .. }
            | Edit::MakeDirectory { path }
            | Edit::Remove { path }
            | Edit::SetRights { path, .. } => path,
        }
    }

    /// Carries it out, and says how to take it back.
    pub(super) fn apply(
        &self,
        tree: &mut Tree,
        by: DomId,
        happened: &mut Vec<Happened>,
    ) -> Result<Undo, StoreError> {
        let path = self.path();
        if !tree.is_writable_by(by, path) {
            return Err(StoreError::NoPermission);
        }
        let undo = match self {
            Edit::Write { value, made, .. } => tree.write(by, path, value, *made)?,
            Edit::MakeDirectory { .. } if tree.exists(path) => return Ok(Undo::Nothing),
            Edit::MakeDirectory { .. } => tree.write(by, path, &[], Made::AsParent)?,
            Edit::SetRights { rights, .. } => tree.set_rights(by, path, rights)?,
            Edit::Remove { .. } => {
                if path.is_root() {
                    return Err(StoreError::NoPermission);
                }
                let (undo, removed) = tree.remove(path);
                if !removed.is_empty() {
                    let gone = removed.into_iter().collect();
                    happened.push(Happened::Removed(path.to_string(), gone));
                }
                return Ok(undo);
            }
        };
        happened.push(Happened::Written(path.to_string()));
        Ok(undo)
    }
}
