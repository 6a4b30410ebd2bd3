//! What one client of the socket asks for and is told: requests of xenstore's wire, and their
//! answers in the words of xenstored.
//!
//! A client is the toolstack: it has domain 0's rights. Limits are per client, and none of them
//! is on time: who opens a transaction and leaves it there keeps it, until the tree has changed
//! too much for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;
use xenvelope_xen::wire::{Errno, PAYLOAD_MAX, Request, WireError};

use super::super::Machine;
use super::edit::Edit;
use super::lock;
use super::path::{MAX_PATH, Path, home};
use super::rights::Rights;
use super::transaction::{Transaction, Unfinished};
use super::tree::{Made, Tree};
use super::watches::Listener;

/// Most transactions that a client may have open (`quota_max_transaction`).
const MOST_TRANSACTIONS: usize = 10;

/// Whose rights a client has.
const BY: DomId = DomId::DOM0;

/// An answer without anything in it.
const ACKNOWLEDGED: &[u8] = b"OK\0";

struct Watch {
    /// By which the store knows it.
    id: u32,
    /// Absolute.
    path: String,
    token: String,
}

/// One client.
pub(crate) struct Session {
    machine: Arc<Machine>,
    listener: Listener,
    watches: Vec<Watch>,
    /// `None`: it is too old, and fails whatever is asked of it.
    transactions: BTreeMap<u32, Option<Transaction>>,
    last_watch: u32,
    last_transaction: u32,
}

impl Session {
    /// A client connects. `ring` is called, from any thread and with the store locked, when there
    /// is something for [`Session::next_event`].
    pub(crate) fn open(machine: &Arc<Machine>, ring: Arc<dyn Fn() + Send + Sync>) -> Session {
        let mut store = lock(&machine.store);
        store.connections += 1;
        let listener = Listener::Connection(store.connections);
        store.watches.connect(listener, ring);
        drop(store);
        Session {
            machine: Arc::clone(machine),
            listener,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_watch: 0,
            last_transaction: 0,
        }
    }

    /// Answers a request: the payload of the answer, or why not.
    pub(crate) fn answer(
        &mut self,
        kind: u32,
        transaction: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let request = match Request::parse(kind, payload) {
            Err(WireError::Kind(_)) => return Err(Errno::NoSys),
            request => request,
        };
        // xenstored does not look at the transaction of these two.
        let aside = matches!(request, Ok(Request::Watch { .. } | Request::Unwatch { .. }));
        if transaction != 0 && !aside && !self.transactions.contains_key(&transaction) {
            return Err(Errno::NoEnt);
        }
        let request = match request {
            // The path or the value.
            Err(WireError::TooLong) if first_length(payload) <= MAX_PATH => {
                return Err(Errno::NoSpc);
            }
            Err(_) => return Err(Errno::Inval),
            Ok(request) => request,
        };
        let answer = match request {
            Request::Watch { path, token } => self.watch(path, token).map(|()| None),
            Request::Unwatch { path, token } => self.unwatch(path, token).map(|()| None),
            Request::ResetWatches => {
                self.reset();
                Ok(None)
            }
            Request::TransactionStart => self.start(transaction).map(Some),
            Request::TransactionEnd { commit } => self.end(transaction, commit).map(|()| None),
            Request::GetDomainPath { domid } => Ok(Some(terminated(&home(domid)))),
            Request::IsDomainIntroduced { domid } => {
                let there = lock(&self.machine.store).watches.is_introduced(domid);
                Ok(Some(terminated(if there { "T" } else { "F" })))
            }
            Request::Directory { path } => {
                let list = self.look(transaction, path, list_of)?;
                if list.len() > PAYLOAD_MAX { Err(Errno::TooBig) } else { Ok(Some(list)) }
            }
            Request::DirectoryPart { path, offset } => self
                .look(transaction, path, |tree, path| {
                    Ok((tree.changed(path).unwrap_or(0), list_of(tree, path)?))
                })
                .map(|(generation, list)| Some(part_of(&list, offset, generation))),
            Request::Read { path } => self
                .look(transaction, path, |tree, path| Ok(tree.read(BY, path)?.to_vec()))
                .map(Some),
            Request::GetPermissions { path } => self
                .look(transaction, path, |tree, path| Ok(tree.rights(BY, path)?.to_wire()))
                .map(Some),
            Request::Write { path, value } => {
                let (path, value) = (node(path)?, value.to_vec());
                self.edit(transaction, Edit::Write { path, value, made: Made::AsParent })
                    .map(|()| None)
            }
            Request::MakeDirectory { path } => {
                self.edit(transaction, Edit::MakeDirectory { path: node(path)? }).map(|()| None)
            }
            Request::SetPermissions { path, permissions } => {
                let path = node(path)?;
                let rights = Rights::from_wire(&permissions).ok_or(Errno::NoSpc)?;
                self.edit(transaction, Edit::SetRights { path, rights }).map(|()| None)
            }
            Request::Remove { path } => self.remove(transaction, path).map(|()| None),
        };
        Ok(answer?.unwrap_or_else(|| ACKNOWLEDGED.to_vec()))
    }

    /// What is to be told next: the path as the watch has it, and its token.
    pub(crate) fn next_event(&mut self) -> Option<(String, &str)> {
        loop {
            let (id, path) = lock(&self.machine.store).watches.next(self.listener)?;
            // It may have been ended with the event still waiting.
            if let Some(watch) = self.watches.iter().position(|watch| watch.id == id) {
                return Some((path, &self.watches[watch].token));
            }
        }
    }

    /// Whether a transaction is open.
    pub(crate) fn is_midway(&self) -> bool {
        !self.transactions.is_empty()
    }

    /// Gives up transactions that are too old, and with them what they hold of the tree as it
    /// was.
    pub(crate) fn give_up_stale(&mut self) {
        if self.transactions.is_empty() {
            return;
        }
        let store = lock(&self.machine.store);
        for transaction in self.transactions.values_mut() {
            if transaction.as_ref().is_some_and(|open| open.is_stale(&store.tree)) {
                *transaction = None;
            }
        }
    }

    /// Looks at a node, in the tree or as a transaction sees it.
    fn look<R>(
        &mut self,
        transaction: u32,
        path: &str,
        look: impl FnOnce(&Tree, &Path) -> Result<R, StoreError>,
    ) -> Result<R, Errno> {
        let path = node(path)?;
        match self.transactions.get_mut(&transaction) {
            None => look(&lock(&self.machine.store).tree, &path),
            Some(None) => return Err(Errno::Again),
            Some(Some(open)) => open.look(&path).and_then(|tree| look(tree, &path)),
        }
        .map_err(errno)
    }

    fn edit(&mut self, transaction: u32, edit: Edit) -> Result<(), Errno> {
        match self.transactions.get_mut(&transaction) {
            None => lock(&self.machine.store).carry_out(BY, &[edit]),
            Some(None) => return Err(Errno::Again),
            Some(Some(open)) => open.edit(BY, edit),
        }
        .map_err(errno)
    }

    /// It is no error if the node is not there, but the one above must be.
    fn remove(&mut self, transaction: u32, path: &str) -> Result<(), Errno> {
        let path = node(path)?;
        if path.is_root() {
            return Err(Errno::Inval);
        }
        let above = path.parent();
        let there = self.look(transaction, path.as_str(), |tree, path| Ok(tree.exists(path)))?;
        if there {
            return self.edit(transaction, Edit::Remove { path });
        }
        let above = self.look(transaction, above.as_str(), |tree, path| Ok(tree.exists(path)))?;
        if above { Ok(()) } else { Err(Errno::NoEnt) }
    }

    fn start(&mut self, inside: u32) -> Result<Vec<u8>, Errno> {
        if inside != 0 {
            return Err(Errno::Busy);
        }
        if self.transactions.len() >= MOST_TRANSACTIONS {
            return Err(Errno::NoSpc);
        }
        // Zero is none, and an open one keeps its number. There are few.
        while {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            self.last_transaction == 0 || self.transactions.contains_key(&self.last_transaction)
        } {}
        let open = Transaction::start(&lock(&self.machine.store).tree);
        self.transactions.insert(self.last_transaction, Some(open));
        Ok(terminated(&self.last_transaction.to_string()))
    }

    fn end(&mut self, id: u32, commit: bool) -> Result<(), Errno> {
        let open = self.transactions.remove(&id).ok_or(Errno::NoEnt)?;
        match open {
            _ if !commit => Ok(()),
            None => Err(Errno::Again),
            Some(open) => {
                open.end(&mut lock(&self.machine.store), BY).map_err(|cause| match cause {
                    Unfinished::Again => Errno::Again,
                    Unfinished::Refused(error) => errno(error),
                })
            }
        }
    }

    fn watch(&mut self, sent: &str, token: &str) -> Result<(), Errno> {
        let path = watched(sent)?;
        if self.watches.iter().any(|watch| watch.path == path && watch.token == token) {
            return Err(Errno::Exist);
        }
        self.last_watch = self.last_watch.wrapping_add(1);
        let id = self.last_watch;
        lock(&self.machine.store).watches.add(self.listener, sent, id).map_err(errno)?;
        self.watches.push(Watch { id, path, token: token.to_owned() });
        Ok(())
    }

    fn unwatch(&mut self, sent: &str, token: &str) -> Result<(), Errno> {
        let path = watched(sent)?;
        let found = |watch: &Watch| watch.path == path && watch.token == token;
        let index = self.watches.iter().position(found).ok_or(Errno::NoEnt)?;
        let watch = self.watches.swap_remove(index);
        lock(&self.machine.store).watches.remove(self.listener, watch.id);
        Ok(())
    }

    fn reset(&mut self) {
        self.transactions.clear();
        let mut store = lock(&self.machine.store);
        for watch in self.watches.drain(..) {
            store.watches.remove(self.listener, watch.id);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        lock(&self.machine.store).watches.release(self.listener);
    }
}

/// A node's path. The special ones are no nodes.
fn node(path: &str) -> Result<Path, Errno> {
    if path.starts_with('@') {
        return Err(Errno::Inval);
    }
    Path::absolute(path, BY).map_err(|_| Errno::Inval)
}

/// What is watched, absolute.
fn watched(sent: &str) -> Result<String, Errno> {
    match sent {
        "@introduceDomain" | "@releaseDomain" => Ok(sent.to_owned()),
        _ => Ok(node(sent)?.to_string()),
    }
}

/// How long the first string of a payload is.
fn first_length(payload: &[u8]) -> usize {
    payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len())
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn list_of(tree: &Tree, path: &Path) -> Result<Vec<u8>, StoreError> {
    Ok(tree.list(BY, path)?.flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect())
}

/// As many whole names as fit, from `offset` on. An empty name after the last says that it was.
fn part_of(list: &[u8], offset: u32, generation: u64) -> Vec<u8> {
    let mut part = terminated(&generation.to_string());
    let rest = usize::try_from(offset).ok().and_then(|from| list.get(from..)).unwrap_or_default();
    for name in rest.split_inclusive(|byte| *byte == 0) {
        if part.len() + name.len() >= PAYLOAD_MAX {
            return part;
        }
        part.extend_from_slice(name);
    }
    part.push(0);
    part
}

fn errno(error: StoreError) -> Errno {
    match error {
        StoreError::NoEntry => Errno::NoEnt,
        StoreError::NoPermission => Errno::Acces,
        StoreError::TooLong | StoreError::Quota => Errno::NoSpc,
        StoreError::Malformed => Errno::Inval,
        StoreError::Unreachable => Errno::Io,
    }
}
