//! A small xenstored in a thread, at the other end of a socket. Its client is a domain.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use crate::wire::{
    Access, Assembler, Errno, Event, Header, MESSAGE_MAX, Permission, Permissions, PermissionsText,
    Request, encode, encode_error, encode_event, encode_transaction,
};
use xenvelope_grant::DomId;

#[derive(Clone)]
pub(super) struct Node {
    pub value: String,
    pub permissions: Vec<Permission>,
}

pub(super) type Tree = BTreeMap<String, Node>;

/// What it does that is out of the ordinary.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    /// How many bytes it writes at a time; 0: all.
    pub piece: usize,
    /// So many transactions end in a conflict.
    pub conflicts: u32,
    /// A watch event comes right before each answer.
    pub chatty: bool,
    /// After so many requests it says nothing any more.
    pub silent_after: Option<usize>,
    /// Bytes of a list that fit an answer; 0: as many as really do.
    pub list: usize,
    /// So many transactions are forgotten at their first request.
    pub forgetful: u32,
}

pub(super) struct State {
    pub tree: Tree,
    pub manner: Manner,
    /// Kinds of the requests that came.
    pub log: Vec<String>,
    domid: DomId,
    out: UnixStream,
    watches: Vec<(String, String)>,
    transactions: HashMap<u32, (Tree, Vec<String>)>,
    generation: u32,
}

pub(super) struct Fake(Arc<Mutex<State>>);

impl Fake {
    /// A server whose client is that domain, and the client's end.
    pub fn start(domid: DomId, manner: Manner) -> (Fake, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Fake::serve(ours, domid, manner), theirs)
    }

    /// A server for the other end of that.
    pub fn serve(ours: UnixStream, domid: DomId, manner: Manner) -> Fake {
        let mut tree = Tree::new();
        let top = |id| Node { value: String::new(), permissions: vec![entry(Access::Nothing, id)] };
        for path in ["/", "/local", "/local/domain"] {
            tree.insert(path.to_owned(), top(DomId::DOM0));
        }
        let home = format!("/local/domain/{domid}");
        tree.insert(home.clone(), top(domid));
        tree.insert(format!("{home}/domid"), Node { value: domid.to_string(), ..top(domid) });
        let out = ours.try_clone().unwrap();
        let state = Arc::new(Mutex::new(State {
            tree,
            manner,
            log: Vec::new(),
            domid,
            out,
            watches: Vec::new(),
            transactions: HashMap::new(),
            generation: 0,
        }));
        let fake = Fake(Arc::clone(&state));
        thread::spawn(move || serve(&state, ours));
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The toolstack writes something.
    pub fn write(&self, path: &str, value: &str, permissions: &[Permission]) {
        let mut state = self.state();
        let node = Node { value: value.to_owned(), permissions: permissions.to_vec() };
        state.tree.insert(path.to_owned(), node);
        state.fire(path);
    }

    pub fn permissions(&self, path: &str) -> Vec<Permission> {
        self.state().tree[path].permissions.clone()
    }

    pub fn value(&self, path: &str) -> Option<String> {
        self.state().tree.get(path).map(|node| node.value.clone())
    }
}

pub(super) fn entry(access: Access, domid: DomId) -> Permission {
    Permission { access, domid }
}

fn serve(state: &Mutex<State>, mut input: UnixStream) {
    let mut assembler = Assembler::new();
    let mut bytes = [0; 1000];
    while let Ok(length @ 1..) = input.read(&mut bytes) {
        let mut bytes = &bytes[..length];
        while let Some(message) = assembler.push(&mut bytes).unwrap() {
            let mut state = state.lock().unwrap();
            let header = message.header;
            let mut out = [0; MESSAGE_MAX];
            let answer = Request::parse(header.kind.get(), message.payload)
                .map_err(|_| Errno::Inval)
                .and_then(|request| state.answer(&header, request, &mut out));
            let length = answer.or_else(|errno| encode_error(&mut out, &header, errno)).unwrap();
            if state.manner.silent_after.is_some_and(|most| state.log.len() > most) {
                continue;
            }
            if state.manner.chatty {
                state.fire("/chatter");
            }
            state.say(&out[..length]);
        }
    }
}

impl State {
    fn say(&mut self, bytes: &[u8]) {
        let piece = if self.manner.piece == 0 { bytes.len() } else { self.manner.piece };
        for bytes in bytes.chunks(piece) {
            // The client may be gone.
            let _ = self.out.write_all(bytes);
        }
    }

    pub fn fire(&mut self, path: &str) {
        for (watched, token) in self.watches.clone() {
            let rest = path.strip_prefix(&self.absolute(&watched));
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                self.tell(path, &watched, &token);
            }
        }
    }

    fn tell(&mut self, path: &str, watched: &str, token: &str) {
        let home = format!("/local/domain/{}/", self.domid);
        let relative = !watched.starts_with(['/', '@']);
        let path = if relative { &path[home.len()..] } else { path };
        let mut out = [0; MESSAGE_MAX];
        let length = encode_event(&mut out, Event { path, token }).unwrap();
        self.say(&out[..length]);
    }

    fn absolute(&self, path: &str) -> String {
        let relative = !path.starts_with(['/', '@']);
        if relative { format!("/local/domain/{}/{path}", self.domid) } else { path.to_owned() }
    }

    fn may(&self, node: &Node, access: Access) -> bool {
        let domid = self.domid;
        let entry = node.permissions.iter().skip(1).find(|entry| entry.domid == domid);
        let has = entry.unwrap_or(&node.permissions[0]).access;
        domid == DomId::DOM0
            || node.permissions[0].domid == domid
            || has == access
            || has == Access::Both
    }

    fn get(&mut self, header: &Header, path: &str, access: Access) -> Result<Node, Errno> {
        let path = self.absolute(path);
        let node = self.tree(header)?.0.get(&path).cloned().ok_or(Errno::NoEnt)?;
        if self.may(&node, access) { Ok(node) } else { Err(Errno::Acces) }
    }

    /// The tree that the request works on, and where it notes what fires.
    fn tree(&mut self, header: &Header) -> Result<(&mut Tree, Option<&mut Vec<String>>), Errno> {
        match header.transaction.get() {
            0 => Ok((&mut self.tree, None)),
            id => {
                let (tree, fired) = self.transactions.get_mut(&id).ok_or(Errno::NoEnt)?;
                Ok((tree, Some(fired)))
            }
        }
    }

    fn changed(&mut self, header: &Header, path: String) -> Result<(), Errno> {
        match self.tree(header)?.1 {
            Some(fired) => fired.push(path),
            None => self.fire(&path),
        }
        Ok(())
    }

    fn answer(
        &mut self,
        header: &Header,
        request: Request<'_>,
        out: &mut [u8; MESSAGE_MAX],
    ) -> Result<usize, Errno> {
        self.log.push(format!("{:?}", request.kind()));
        let (id, transaction) = (header.request.get(), header.transaction.get());
        if transaction != 0 && self.manner.forgetful > 0 {
            self.manner.forgetful -= 1;
            self.transactions.remove(&transaction);
        }
        if transaction != 0 && !self.transactions.contains_key(&transaction) {
            return Err(Errno::NoEnt);
        }
        let mut say = |payload: &[u8]| {
            encode(out, request.kind(), id, transaction, &[payload]).map_err(|_| Errno::TooBig)
        };
        match request {
            Request::Read { path } => {
                let node = self.get(header, path, Access::Read)?;
                return say(node.value.as_bytes());
            }
            Request::Directory { path } => {
                let names = self.children(header, path)?;
                if self.manner.list != 0 && names.len() > self.manner.list {
                    return Err(Errno::TooBig);
                }
                return say(names.as_bytes());
            }
            Request::DirectoryPart { path, offset } => {
                let names = self.children(header, path)?;
                let rest = &names.as_bytes()[offset as usize..];
                let most = &rest[..rest.len().min(self.manner.list)];
                let whole = most.iter().rposition(|byte| *byte == 0).map_or(0, |nul| nul + 1);
                let mut part = format!("{}\0", self.generation).into_bytes();
                part.extend_from_slice(&rest[..whole]);
                if whole == rest.len() {
                    part.push(0);
                }
                return say(&part);
            }
            Request::Write { path, value } => {
                let path = self.absolute(path);
                self.make(header, &path)?;
                let value = String::from_utf8(value.to_vec()).map_err(|_| Errno::Inval)?;
                self.tree(header)?.0.get_mut(&path).unwrap().value = value;
                self.changed(header, path)?;
            }
            Request::MakeDirectory { path } => {
                let path = self.absolute(path);
                self.make(header, &path)?;
            }
            Request::Remove { path } => {
                let parent = self.absolute(path).rsplit_once('/').unwrap().0.to_owned();
                match self.get(header, path, Access::Write) {
                    Ok(_) => {
                        let path = self.absolute(path);
                        let below = format!("{path}/");
                        let tree = self.tree(header)?.0;
                        tree.retain(|node, _| *node != path && !node.starts_with(&below));
                        self.changed(header, path)?;
                    }
                    Err(Errno::NoEnt) if self.tree(header)?.0.contains_key(&parent) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Request::Watch { path, token } => {
                if self.watches.contains(&(path.to_owned(), token.to_owned())) {
                    return Err(Errno::Exist);
                }
                self.watches.push((path.to_owned(), token.to_owned()));
                self.tell(&self.absolute(path), path, token);
            }
            Request::Unwatch { path, token } => {
                let before = self.watches.len();
                self.watches.retain(|watch| watch.0 != path || watch.1 != token);
                if self.watches.len() == before {
                    return Err(Errno::NoEnt);
                }
            }
            Request::TransactionStart => {
                self.generation += 1;
                self.transactions.insert(self.generation, (self.tree.clone(), Vec::new()));
                return encode_transaction(out, header, self.generation).map_err(|_| Errno::TooBig);
            }
            Request::TransactionEnd { commit } => {
                let (tree, fired) = self.transactions.remove(&transaction).ok_or(Errno::NoEnt)?;
                if commit && self.manner.conflicts > 0 {
                    self.manner.conflicts -= 1;
                    return Err(Errno::Again);
                }
                if commit {
                    self.tree = tree;
                    fired.iter().for_each(|path| self.fire(path));
                }
            }
            Request::GetPermissions { path } => {
                let node = self.get(header, path, Access::Read)?;
                let text = PermissionsText::new(&node.permissions).map_err(|_| Errno::Inval)?;
                return say(text.permissions().as_bytes());
            }
            Request::SetPermissions { path, permissions } => {
                self.set_permissions(header, path, permissions)?;
            }
            Request::ResetWatches => self.watches.clear(),
            // The client under test never asks.
            Request::GetDomainPath { .. } | Request::IsDomainIntroduced { .. } => {
                return Err(Errno::NoSys);
            }
        }
        say(b"OK\0")
    }

    fn set_permissions(
        &mut self,
        header: &Header,
        path: &str,
        permissions: Permissions<'_>,
    ) -> Result<(), Errno> {
        let node = self.get(header, path, Access::Write)?;
        let owner = node.permissions[0].domid;
        if self.domid != DomId::DOM0 && owner != self.domid {
            return Err(Errno::Acces);
        }
        if self.domid != DomId::DOM0 && permissions.owner() != Some(owner) {
            return Err(Errno::Perm);
        }
        let path = self.absolute(path);
        let node = Node { permissions: permissions.iter().collect(), ..node };
        self.tree(header)?.0.insert(path.clone(), node);
        self.changed(header, path)
    }

    fn children(&mut self, header: &Header, path: &str) -> Result<String, Errno> {
        self.get(header, path, Access::Read)?;
        let top = format!("{}/", self.absolute(path));
        let names = self.tree(header)?.0.keys().filter_map(|path| path.strip_prefix(&top));
        let names = names.filter(|name| !name.contains('/'));
        Ok(names.map(|name| format!("{name}\0")).collect())
    }

    /// Makes a node that is missing, below one that may be written. It has the permissions of
    /// that, but is owned by who made it (`construct_node`, `tools/xenstored/core.c`).
    fn make(&mut self, header: &Header, path: &str) -> Result<(), Errno> {
        match self.get(header, path, Access::Write) {
            Err(Errno::NoEnt) => {}
            other => return other.map(drop),
        }
        let parent = path.rsplit_once('/').ok_or(Errno::Inval)?.0.to_owned();
        self.make(header, if parent.is_empty() { "/" } else { &parent })?;
        let parent = self.get(header, &parent, Access::Write)?;
        let mut permissions = parent.permissions;
        if self.domid != DomId::DOM0 {
            permissions[0].domid = self.domid;
        }
        let node = Node { value: String::new(), permissions };
        self.tree(header)?.0.insert(path.to_owned(), node);
        Ok(())
    }
}
