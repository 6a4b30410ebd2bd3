//! The nodes of the store.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

use super::path::Path;

/// Most nodes that a guest may own (`quota_nb_entry_per_domain`).
pub(super) const MAX_NODES: usize = 1000;

struct Node {
    value: String,
    /// Who wrote it first.
    owner: DomId,
    reader: Option<DomId>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn new(owner: DomId) -> Node {
        Node { value: String::new(), owner, reader: None, children: BTreeMap::new() }
    }

    fn each(&self, path: &str, f: &mut impl FnMut(&str, &Node)) {
        f(path, self);
        for (name, child) in &self.children {
            child.each(&format!("{path}/{name}"), f);
        }
    }

    fn each_mut(&mut self, f: &mut impl FnMut(&mut Node)) {
        f(self);
        for child in self.children.values_mut() {
            child.each_mut(f);
        }
    }
}

/// A removed node and what was below it.
pub(super) struct Subtree(Node);

/// How to take one change back.
pub(super) enum Undo {
    /// Nothing was changed.
    Nothing,
    /// The node was there.
    Restore { path: Path, value: String, reader: Option<DomId> },
    /// The first `depth` names of the path were made.
    Unmake { path: Path, depth: usize },
    /// The node was removed, with all below it.
    Insert { path: Path, subtree: Subtree },
}

/// All nodes, and who owns how many.
pub(super) struct Tree {
    root: Node,
    owned: HashMap<DomId, usize>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { root: Node::new(DomId::DOM0), owned: HashMap::new() }
    }

    fn find(&self, path: &Path) -> Option<&Node> {
        path.names().try_fold(&self.root, |node, name| node.children.get(name))
    }

    fn find_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.names().try_fold(&mut self.root, |node, name| node.children.get_mut(name))
    }

    fn may_read(domid: DomId, path: &Path, node: &Node) -> bool {
        domid == DomId::DOM0
            || node.owner == domid
            || node.reader == Some(domid)
            || path.is_in_home_of(domid)
    }

    /// The value of a node.
    pub(super) fn read(&self, by: DomId, path: &Path) -> Result<&str, StoreError> {
        Ok(&self.readable(by, path)?.value)
    }

    /// The names of a node's children.
    pub(super) fn list(&self, by: DomId, path: &Path) -> Result<String, StoreError> {
        let names: Vec<_> = self.readable(by, path)?.children.keys().map(String::as_str).collect();
        Ok(names.join("\0"))
    }

    fn readable(&self, by: DomId, path: &Path) -> Result<&Node, StoreError> {
        let node = self.find(path).ok_or(StoreError::NoEntry)?;
        if Self::may_read(by, path, node) { Ok(node) } else { Err(StoreError::NoPermission) }
    }

    /// Whether a watch of that domain is told of a change of `path`: if it could read the node
    /// or, when there is none any more, if it is in its own part.
    pub(super) fn may_hear(&self, domid: DomId, path: &str, removed_for: Option<DomId>) -> bool {
        let Ok(path) = Path::absolute(path, domid) else {
            return false;
        };
        match self.find(&path) {
            Some(node) => Self::may_read(domid, &path, node),
            None => domid == DomId::DOM0 || path.is_in_home_of(domid) || removed_for == Some(domid),
        }
    }

    /// Writes a node; those above it are made when they are not there.
    pub(super) fn write(
        &mut self,
        by: DomId,
        path: &Path,
        value: &str,
        reader: Option<DomId>,
    ) -> Result<Undo, StoreError> {
        if let Some(node) = self.find_mut(path) {
            let old = std::mem::replace(&mut node.value, value.to_owned());
            let undo = Undo::Restore { path: path.clone(), value: old, reader: node.reader };
            node.reader = reader.or(node.reader);
            return Ok(undo);
        }
        let depth = self.depth_of_missing(path);
        let new = path.names().count() - depth + 1;
        let owned = self.owned.entry(by).or_default();
        if by != DomId::DOM0 && *owned + new > MAX_NODES {
            return Err(StoreError::Quota);
        }
        *owned += new;
        let mut node = &mut self.root;
        for name in path.names() {
            node = node.children.entry(name.to_owned()).or_insert_with(|| Node::new(by));
        }
        value.clone_into(&mut node.value);
        node.reader = reader;
        Ok(Undo::Unmake { path: path.clone(), depth })
    }

    /// How many names of the path lead to the first node that does not exist.
    fn depth_of_missing(&self, path: &Path) -> usize {
        let mut node = &self.root;
        let mut depth = 1;
        for name in path.names() {
            match node.children.get(name) {
                Some(child) => node = child,
                None => break,
            }
            depth += 1;
        }
        depth
    }

    /// Removes a node and all below it, and says which they were and who could read each.
    pub(super) fn remove(&mut self, path: &Path) -> (Undo, Vec<(String, Option<DomId>)>) {
        let depth = path.names().count();
        let Some(node) = self.detach(path, depth) else {
            return (Undo::Nothing, Vec::new());
        };
        let mut removed = Vec::new();
        node.each(path.as_str(), &mut |path, node| {
            removed.push((path.to_owned(), node.reader));
        });
        (Undo::Insert { path: path.clone(), subtree: Subtree(node) }, removed)
    }

    /// Takes the node out that the first `depth` names lead to.
    fn detach(&mut self, path: &Path, depth: usize) -> Option<Node> {
        let above = path.names().take(depth.checked_sub(1)?);
        let mut parent = &mut self.root;
        for name in above {
            parent = parent.children.get_mut(name)?;
        }
        let node = parent.children.remove(path.names().nth(depth - 1)?)?;
        self.count(&node, false);
        Some(node)
    }

    fn count(&mut self, subtree: &Node, more: bool) {
        subtree.each("", &mut |_, node| {
            let owned = self.owned.entry(node.owner).or_default();
            *owned = if more { *owned + 1 } else { owned.saturating_sub(1) };
        });
    }

    /// Takes a change back. Changes are taken back in reverse order.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Restore { path, value, reader } => {
                if let Some(node) = self.find_mut(&path) {
                    (node.value, node.reader) = (value, reader);
                }
            }
            Undo::Unmake { path, depth } => drop(self.detach(&path, depth)),
            Undo::Insert { path, subtree: Subtree(node) } => {
                self.count(&node, true);
                let Some((name, above)) = split_last(&path) else {
                    return;
                };
                let parent = above
                    .iter()
                    .try_fold(&mut self.root, |node, name| node.children.get_mut(*name));
                if let Some(parent) = parent {
                    parent.children.insert(name.to_owned(), node);
                }
            }
        }
    }

    /// Takes all rights from a domain id: what it owned is the toolstack's, and what it could
    /// read it cannot.
    pub(super) fn forget(&mut self, domid: DomId) {
        if domid == DomId::DOM0 {
            return;
        }
        self.root.each_mut(&mut |node| {
            if node.owner == domid {
                node.owner = DomId::DOM0;
            }
            if node.reader == Some(domid) {
                node.reader = None;
            }
        });
        let left = self.owned.remove(&domid).unwrap_or(0);
        *self.owned.entry(DomId::DOM0).or_default() += left;
    }

    /// One node a line.
    pub(super) fn print(&self) -> String {
        let mut text = String::new();
        self.root.each("", &mut |path, node| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{path} = \"{}\" (d{})", node.value, node.owner);
        });
        text
    }
}

fn split_last(path: &Path) -> Option<(&str, Vec<&str>)> {
    let mut names: Vec<_> = path.names().collect();
    let last = names.pop()?;
    Some((last, names))
}
