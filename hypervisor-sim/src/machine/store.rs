//! xenstore: one tree for the whole machine, with owners, readers, watches and quotas.

mod edit;
mod path;
mod rights;
mod session;
mod transaction;
mod tree;
mod watches;

#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Host, Store, StoreError, WatchEvent};

use super::domain::{Domain, DomainState};
use super::lock;
use edit::{Edit, Happened};
use path::{Path, home};
pub(crate) use session::Session;
use tree::Tree;
use watches::{Listener, Watches};

/// The store's whole state.
pub(crate) struct StoreTree {
    tree: Tree,
    watches: Watches,
    /// Connections to the socket so far.
    connections: u64,
}

impl StoreTree {
    pub(crate) fn new() -> StoreTree {
        StoreTree { tree: Tree::new(), watches: Watches::default(), connections: 0 }
    }

    /// A domain begins. What a predecessor left under its id is removed, as the toolstack does
    /// when it makes a domain; then it gets a home with its id and name, which it may read.
    pub(crate) fn introduce(&mut self, state: &DomainState) {
        self.watches.introduce(state);
        let home = home(state.id);
        let (id, name) = (state.id.to_string(), state.name.replace('\0', ""));
        let mut changes = vec![Change::Remove { path: &home }];
        let keys = [("domid", id.as_str()), ("name", name.as_str())];
        let keys = keys.map(|(key, value)| (format!("{home}/{key}"), value));
        changes.extend(keys.iter().map(|(path, value)| Change::Write {
            path,
            value,
            reader: Some(state.id),
        }));
        // The toolstack has no quota, and the paths are well formed. A domain whose name is longer
        // than a value may be gets an empty home.
        let _ = self.commit(DomId::DOM0, &changes);
        self.watches.special("@introduceDomain");
    }

    /// A domain ends. Whatever its id permits, in its part of the store and elsewhere, must not
    /// be permitted to the next domain of that id (XSA-322, XSA-417, XSA-483).
    pub(crate) fn release(&mut self, state: &DomainState) {
        self.watches.release(Listener::Domain(state.id));
        self.tree.forget(state.id);
        self.watches.special("@releaseDomain");
    }

    fn commit(&mut self, by: DomId, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let edits: Result<Vec<_>, _> = changes.iter().map(|change| Edit::new(change, by)).collect();
        self.carry_out(by, &edits?)
    }

    /// All of them, or none.
    fn carry_out(&mut self, by: DomId, edits: &[Edit]) -> Result<(), StoreError> {
        let mut undo = Vec::with_capacity(edits.len());
        let mut happened = Vec::with_capacity(edits.len());
        for edit in edits {
            match edit.apply(&mut self.tree, by, &mut happened) {
                Ok(step) => undo.push(step),
                Err(error) => {
                    while let Some(step) = undo.pop() {
                        self.tree.undo(step);
                    }
                    return Err(error);
                }
            }
        }
        let StoreTree { tree, watches, .. } = self;
        for event in &happened {
            match event {
                Happened::Written(path) => {
                    watches.fire(path, |domid, path| tree.may_hear(domid, path, None));
                }
                Happened::Removed(path, gone) => watches.fire_removed(
                    path,
                    |path| gone.contains_key(path),
                    |domid, path| tree.may_hear(domid, path, gone.get(path)),
                ),
            }
        }
        Ok(())
    }

    /// One node a line.
    pub(crate) fn print(&self) -> String {
        self.tree.print()
    }
}

impl Domain {
    fn reachable(&self) -> Result<(), StoreError> {
        if self.is_alive() { Ok(()) } else { Err(StoreError::Unreachable) }
    }
}

/// Puts text into the caller's space.
fn fill<'o>(text: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
    let out = out.get_mut(..text.len()).ok_or(StoreError::TooLong)?;
    out.copy_from_slice(text.as_bytes());
    std::str::from_utf8(out).map_err(|_| StoreError::Malformed)
}

impl Store for Domain {
    fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        self.reachable()?;
        let path = Path::absolute(path, self.domid())?;
        let store = lock(&self.machine.store);
        let value = store.tree.read(self.domid(), &path)?;
        fill(std::str::from_utf8(value).map_err(|_| StoreError::Malformed)?, out)
    }

    fn list<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        self.reachable()?;
        let path = Path::absolute(path, self.domid())?;
        let store = lock(&self.machine.store);
        let names: Vec<_> = store.tree.list(self.domid(), &path)?.collect();
        fill(&names.join("\0"), out)
    }

    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let mut store = lock(&self.machine.store);
        self.reachable()?;
        store.commit(self.domid(), changes)
    }

    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError> {
        let mut store = lock(&self.machine.store);
        self.reachable()?;
        store.watches.add(Listener::Domain(self.domid()), path, token)
    }

    fn unwatch(&self, token: u32) {
        let mut store = lock(&self.machine.store);
        if self.is_alive() {
            store.watches.remove(Listener::Domain(self.domid()), token);
        }
    }

    fn next<'o>(&self, out: &'o mut [u8]) -> Option<WatchEvent<'o>> {
        // Drivers ask often, and mostly there is nothing: no need for the store's lock then.
        if self.state.watch_events.load(Relaxed) == 0 {
            return None;
        }
        let mut store = lock(&self.machine.store);
        if !self.is_alive() {
            return None;
        }
        let (token, path) = store.watches.next(Listener::Domain(self.domid()))?;
        drop(store);
        // Paths are ASCII, so every cut is a character boundary.
        let length = path.len().min(out.len());
        let path = fill(&path[..length], out).ok()?;
        Some(WatchEvent { token, path })
    }
}
