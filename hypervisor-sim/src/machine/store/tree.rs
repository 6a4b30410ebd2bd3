//! The nodes of the store.
//!
//! A clone is a snapshot and costs next to nothing: it shares all nodes with its original until
//! one of them changes. Transactions work on clones.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

use super::path::Path;
use super::rights::Rights;

/// Most nodes that a guest may own (`quota_nb_entry_per_domain`).
pub(super) const MAX_NODES: usize = 1000;

/// Most nodes of the whole tree, the toolstack's included: what bounds a client of the socket.
pub(super) const MOST_NODES: usize = 65_536;

#[derive(Clone)]
struct Node {
    value: Vec<u8>,
    rights: Rights,
    /// When its value, its rights or the list of its children changed last.
    generation: u64,
    children: BTreeMap<String, Arc<Node>>,
}

impl Node {
    fn new(rights: Rights, generation: u64) -> Node {
        Node { value: Vec::new(), rights, generation, children: BTreeMap::new() }
    }

    fn each(&self, path: &str, f: &mut impl FnMut(&str, &Node)) {
        f(path, self);
        for (name, child) in &self.children {
            child.each(&format!("{path}/{name}"), f);
        }
    }

    fn forget(&mut self, domid: DomId, generation: u64) {
        if self.rights.forget(domid) {
            self.generation = generation;
        }
        for child in self.children.values_mut() {
            Arc::make_mut(child).forget(domid, generation);
        }
    }
}

/// Whose a node is that a write makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// The writer's. The node itself, also one that is there already, may be read by another.
    Own { reader: Option<DomId> },
    /// Its rights are those of the node above, as xenstored does it for the toolstack.
    AsParent,
}

/// A removed node and what was below it.
pub(super) struct Subtree(Arc<Node>);

/// How to take one change back.
pub(super) enum Undo {
    /// Nothing was changed.
    Nothing,
    /// The node was there.
    Restore { path: Path, value: Vec<u8>, rights: Rights },
    /// The first `depth` names of the path were made.
    Unmake { path: Path, depth: usize },
    /// The node was removed, with all below it.
    Insert { path: Path, subtree: Subtree },
}

/// All nodes, and who owns how many.
#[derive(Clone)]
pub(super) struct Tree {
    root: Arc<Node>,
    owned: HashMap<DomId, usize>,
    /// Grows with every change.
    generation: u64,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let root = Arc::new(Node::new(Rights::of(DomId::DOM0), 0));
        Tree { root, owned: HashMap::new(), generation: 0 }
    }

    fn find(&self, path: &Path) -> Option<&Node> {
        path.names().try_fold(&*self.root, |node, name| node.children.get(name).map(|n| &**n))
    }

    fn find_mut(&mut self, path: &Path) -> Option<&mut Node> {
        // So that nothing is copied for a node that is not there.
        self.find(path)?;
        path.names().try_fold(Arc::make_mut(&mut self.root), |node, name| {
            node.children.get_mut(name).map(Arc::make_mut)
        })
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// How often the tree was changed.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// When a node was changed last, if there is one.
    pub(super) fn changed(&self, path: &Path) -> Option<u64> {
        self.find(path).map(|node| node.generation)
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.find(path).is_some()
    }

    fn may_read(domid: DomId, path: &Path, node: &Node) -> bool {
        domid == DomId::DOM0 || node.rights.may_read(domid) || path.is_in_home_of(domid)
    }

    /// A guest writes its own part, and what it was given; the toolstack everything. Of a node
    /// that is not there the one above decides.
    pub(super) fn is_writable_by(&self, domid: DomId, path: &Path) -> bool {
        if path.is_writable_by(domid) {
            return true;
        }
        let mut node = &*self.root;
        for name in path.names() {
            let Some(child) = node.children.get(name) else { break };
            node = child;
        }
        node.rights.may_write(domid)
    }

    /// The value of a node.
    pub(super) fn read(&self, by: DomId, path: &Path) -> Result<&[u8], StoreError> {
        Ok(&self.readable(by, path)?.value)
    }

    /// The names of a node's children.
    pub(super) fn list(
        &self,
        by: DomId,
        path: &Path,
    ) -> Result<impl Iterator<Item = &str>, StoreError> {
        Ok(self.readable(by, path)?.children.keys().map(String::as_str))
    }

    /// Who may do what with a node.
    pub(super) fn rights(&self, by: DomId, path: &Path) -> Result<&Rights, StoreError> {
        Ok(&self.readable(by, path)?.rights)
    }

    fn readable(&self, by: DomId, path: &Path) -> Result<&Node, StoreError> {
        let node = self.find(path).ok_or(StoreError::NoEntry)?;
        if Self::may_read(by, path, node) { Ok(node) } else { Err(StoreError::NoPermission) }
    }

    /// Whether a watch of that domain is told of a change of `path`: if it could read the node
    /// or, when there is none any more, if it could read the one that was, or if it is in its own
    /// part.
    pub(super) fn may_hear(&self, domid: DomId, path: &str, gone: Option<&Rights>) -> bool {
        let Ok(path) = Path::absolute(path, domid) else {
            return false;
        };
        match self.find(&path) {
            Some(node) => Self::may_read(domid, &path, node),
            None => {
                domid == DomId::DOM0
                    || path.is_in_home_of(domid)
                    || gone.is_some_and(|rights| rights.may_read(domid))
            }
        }
    }

    /// Writes a node; those above it are made when they are not there.
    pub(super) fn write(
        &mut self,
        by: DomId,
        path: &Path,
        value: &[u8],
        made: Made,
    ) -> Result<Undo, StoreError> {
        let generation = self.next_generation();
        if let Some(node) = self.find_mut(path) {
            let old = std::mem::replace(&mut node.value, value.to_owned());
            let rights = node.rights.clone();
            if let Made::Own { reader: Some(reader) } = made {
                node.rights = rights.readable_by(reader);
            }
            node.generation = generation;
            return Ok(Undo::Restore { path: path.clone(), value: old, rights });
        }
        let (depth, above) = self.deepest(path);
        let rights = if made == Made::AsParent { above.rights.clone() } else { Rights::of(by) };
        let owner = rights.owner();
        let new = path.names().count() - depth + 1;
        let owned = self.owned.get(&owner).copied().unwrap_or(0);
        let over = by != DomId::DOM0 && owned + new > MAX_NODES;
        if over || self.owned.values().sum::<usize>() + new > MOST_NODES {
            return Err(StoreError::Quota);
        }
        self.owned.insert(owner, owned + new);
        let mut node = Arc::make_mut(&mut self.root);
        for (index, name) in path.names().enumerate() {
            if index + 1 == depth {
                // It gets another child.
                node.generation = generation;
            }
            let child = node.children.entry(name.to_owned());
            let made = || Arc::new(Node::new(rights.clone(), generation));
            node = Arc::make_mut(child.or_insert_with(made));
        }
        value.clone_into(&mut node.value);
        if let Made::Own { reader: Some(reader) } = made {
            node.rights = rights.readable_by(reader);
        }
        Ok(Undo::Unmake { path: path.clone(), depth })
    }

    /// Sets a node's permissions. Only the toolstack gives it to another.
    pub(super) fn set_rights(
        &mut self,
        by: DomId,
        path: &Path,
        rights: &Rights,
    ) -> Result<Undo, StoreError> {
        let generation = self.next_generation();
        let node = self.find_mut(path).ok_or(StoreError::NoEntry)?;
        let before = node.rights.owner();
        if by != DomId::DOM0 && (by != before || rights.owner() != before) {
            return Err(StoreError::NoPermission);
        }
        let old = std::mem::replace(&mut node.rights, rights.clone());
        node.generation = generation;
        let value = node.value.clone();
        if !path.is_root() {
            self.moved(before, rights.owner());
        }
        Ok(Undo::Restore { path: path.clone(), value, rights: old })
    }

    /// One node of `from` is now one of `to`.
    fn moved(&mut self, from: DomId, to: DomId) {
        let owned = self.owned.entry(from).or_default();
        *owned = owned.saturating_sub(1);
        *self.owned.entry(to).or_default() += 1;
    }

    /// The last node of the path that exists, and how many names lead to the one after it.
    fn deepest(&self, path: &Path) -> (usize, &Node) {
        let mut node = &*self.root;
        let mut depth = 1;
        for name in path.names() {
            match node.children.get(name) {
                Some(child) => node = child,
                None => break,
            }
            depth += 1;
        }
        (depth, node)
    }

    /// Removes a node and all below it, and says which they were and the rights of each.
    pub(super) fn remove(&mut self, path: &Path) -> (Undo, Vec<(String, Rights)>) {
        let depth = path.names().count();
        let Some(node) = self.detach(path, depth) else {
            return (Undo::Nothing, Vec::new());
        };
        let mut removed = Vec::new();
        node.each(path.as_str(), &mut |path, node| {
            removed.push((path.to_owned(), node.rights.clone()));
        });
        (Undo::Insert { path: path.clone(), subtree: Subtree(node) }, removed)
    }

    /// A node and all below it.
    pub(super) fn below(&self, path: &Path) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(node) = self.find(path) {
            let top = if path.is_root() { "" } else { path.as_str() };
            node.each(top, &mut |path, _| all.push(path.to_owned()));
        }
        all
    }

    /// Takes the node out that the first `depth` names lead to.
    fn detach(&mut self, path: &Path, depth: usize) -> Option<Arc<Node>> {
        let above = path.above(depth.checked_sub(1)?);
        let generation = self.next_generation();
        let parent = self.find_mut(&above)?;
        let node = parent.children.remove(path.names().nth(depth - 1)?)?;
        parent.generation = generation;
        self.count(&node, false);
        Some(node)
    }

    fn count(&mut self, subtree: &Node, more: bool) {
        subtree.each("", &mut |_, node| {
            let owned = self.owned.entry(node.rights.owner()).or_default();
            *owned = if more { *owned + 1 } else { owned.saturating_sub(1) };
        });
    }

    /// Takes a change back. Changes are taken back in reverse order.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Restore { path, value, rights } => {
                let generation = self.next_generation();
                if let Some(node) = self.find_mut(&path) {
                    let (now, before) = (node.rights.owner(), rights.owner());
                    (node.value, node.rights) = (value, rights);
                    node.generation = generation;
                    if now != before && !path.is_root() {
                        self.moved(now, before);
                    }
                }
            }
            Undo::Unmake { path, depth } => drop(self.detach(&path, depth)),
            Undo::Insert { path, subtree: Subtree(node) } => {
                self.count(&node, true);
                let generation = self.next_generation();
                let names = path.names().count();
                let (Some(name), Some(parent)) =
                    (path.names().last(), self.find_mut(&path.above(names.saturating_sub(1))))
                else {
                    return;
                };
                parent.children.insert(name.to_owned(), node);
                parent.generation = generation;
            }
        }
    }

    /// Takes all rights from a domain id: what it owned is the toolstack's, and what it could
    /// read it cannot.
    pub(super) fn forget(&mut self, domid: DomId) {
        if domid == DomId::DOM0 {
            return;
        }
        let generation = self.next_generation();
        Arc::make_mut(&mut self.root).forget(domid, generation);
        let left = self.owned.remove(&domid).unwrap_or(0);
        *self.owned.entry(DomId::DOM0).or_default() += left;
    }

    /// One node a line.
    pub(super) fn print(&self) -> String {
        let mut text = String::new();
        self.root.each("", &mut |path, node| {
            let (value, owner) = (String::from_utf8_lossy(&node.value), node.rights.owner());
            // Writing to a string does not fail.
            let _ = writeln!(text, "{path} = \"{value}\" (d{owner})");
        });
        text
    }
}
