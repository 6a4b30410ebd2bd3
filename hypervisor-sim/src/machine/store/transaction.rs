//! A transaction of a client of the socket: all of it or nothing, and as if nobody else had been
//! there in between.
//!
//! It works on a snapshot of the tree. When it ends, its changes are made again in the tree
//! itself, unless a node that it has looked at was changed there meanwhile: then it fails with
//! `EAGAIN`, as xenstored's do.

use std::collections::BTreeSet;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

use super::StoreTree;
use super::edit::Edit;
use super::path::Path;
use super::tree::Tree;

/// Most nodes that a transaction may touch (`quota_max_trans_nodes`).
pub(super) const MOST_TOUCHED: usize = 1024;

/// A transaction during which the tree was changed that often fails. What its snapshot alone
/// still holds of the tree as it was is bounded by it.
pub(super) const MOST_BEHIND: u64 = 4096;

/// Why a transaction was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unfinished {
    /// Another was quicker.
    Again,
    /// A change is not possible any more.
    Refused(StoreError),
}

pub(super) struct Transaction {
    /// The tree as it was.
    base: Tree,
    /// The same with our changes.
    view: Tree,
    touched: BTreeSet<Path>,
    edits: Vec<Edit>,
}

impl Transaction {
    pub(super) fn start(tree: &Tree) -> Transaction {
        Transaction {
            base: tree.clone(),
            view: tree.clone(),
            touched: BTreeSet::new(),
            edits: Vec::new(),
        }
    }

    /// Whether it is so old that it fails.
    pub(super) fn is_stale(&self, tree: &Tree) -> bool {
        tree.generation() - self.base.generation() > MOST_BEHIND
    }

    /// The tree as the transaction sees it, for a look at `path`.
    pub(super) fn look(&mut self, path: &Path) -> Result<&Tree, StoreError> {
        self.touch(path.clone())?;
        Ok(&self.view)
    }

    /// Makes a change in the transaction's own tree.
    pub(super) fn edit(&mut self, by: DomId, edit: Edit) -> Result<(), StoreError> {
        if self.edits.len() >= MOST_TOUCHED {
            return Err(StoreError::Quota);
        }
        let path = edit.path();
        self.touch(path.clone())?;
        // What gets or loses a child was looked at too.
        let removes = matches!(edit, Edit::Remove { .. });
        let mut at = path.clone();
        while !path.is_root() && (removes && at == *path || !self.view.exists(&at)) {
            at = at.parent();
            self.touch(at.clone())?;
        }
        if removes {
            let below = self.view.below(path);
            if below.len() > MOST_TOUCHED {
                return Err(StoreError::Quota);
            }
            for path in below {
                self.touch(Path::absolute(&path, by)?)?;
            }
        }
        edit.apply(&mut self.view, by, &mut Vec::new())?;
        self.edits.push(edit);
        Ok(())
    }

    fn touch(&mut self, path: Path) -> Result<(), StoreError> {
        if self.touched.len() >= MOST_TOUCHED && !self.touched.contains(&path) {
            return Err(StoreError::Quota);
        }
        self.touched.insert(path);
        Ok(())
    }

    /// Makes the changes in the store, and tells those that watch.
    pub(super) fn end(self, store: &mut StoreTree, by: DomId) -> Result<(), Unfinished> {
        let Transaction { base, view, touched, edits } = self;
        // So that the store's nodes are its own again.
        drop(view);
        let same = touched.iter().all(|path| base.changed(path) == store.tree.changed(path));
        drop(base);
        if !same {
            return Err(Unfinished::Again);
        }
        store.carry_out(by, &edits).map_err(Unfinished::Refused)
    }
}
