//! Watches of the store and what they have to tell.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

use super::super::domain::DomainState;
use super::super::events::EventQueue;
use super::path::{Path, home, is_at_or_below};

/// Most watches of a guest (`quota_nb_watch_per_domain`).
pub(super) const MAX_WATCHES: usize = 128;

/// Most events that wait for one domain to ask for them (XSA-326, XSA-416). Beyond, a watch has
/// one event left: its own path, which says "look at all of it again".
pub(super) const MAX_EVENTS: usize = 1024;

/// Most watches of a connection to the socket.
pub(super) const MAX_CONNECTION_WATCHES: usize = 1024;

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Listener {
    /// The drivers of a domain.
    Domain(DomId),
    /// A connection to the socket, which is the toolstack's.
    Connection(u64),
}

impl Listener {
    /// Whose rights it has.
    pub(super) fn domid(self) -> DomId {
        match self {
            Listener::Domain(domid) => domid,
            Listener::Connection(_) => DomId::DOM0,
        }
    }

    fn most_watches(self) -> usize {
        match self {
            Listener::Domain(DomId::DOM0) => usize::MAX,
            Listener::Domain(_) => MAX_WATCHES,
            Listener::Connection(_) => MAX_CONNECTION_WATCHES,
        }
    }
}

/// How it is told that there is something.
enum Call {
    Domain { count: Arc<AtomicUsize>, queue: Arc<EventQueue> },
    Connection(Arc<dyn Fn() + Send + Sync>),
}

struct Watch {
    path: String,
    token: u32,
    /// It was set with a relative path, so its events carry relative ones.
    relative: bool,
}

struct Client {
    watches: Vec<Watch>,
    events: VecDeque<(u32, String)>,
    /// The same events again: an event that is already waiting is not put in twice.
    waiting: HashSet<(u32, String)>,
    call: Call,
}

impl Client {
    fn new(call: Call) -> Client {
        Client { watches: Vec::new(), events: VecDeque::new(), waiting: HashSet::new(), call }
    }

    /// The number of waiting events is another.
    fn recount(&self) {
        if let Call::Domain { count, .. } = &self.call {
            count.store(self.events.len(), Relaxed);
        }
    }

    fn push(&mut self, watch: usize, path: &str, domid: DomId) {
        let watch = &self.watches[watch];
        let full = self.events.len() >= MAX_EVENTS;
        let path = if full { &watch.path } else { path };
        let path = match path.strip_prefix(&home(domid)).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) if watch.relative => rest,
            _ => path,
        };
        let event = (watch.token, path.to_owned());
        if self.waiting.insert(event.clone()) {
            self.events.push_back(event);
            self.recount();
            match &self.call {
                Call::Domain { queue, .. } => queue.call_attention(),
                Call::Connection(ring) => ring(),
            }
        }
    }
}

/// The watches of all domains.
#[derive(Default)]
pub(super) struct Watches {
    clients: HashMap<Listener, Client>,
}

impl Watches {
    /// A domain begins.
    pub(super) fn introduce(&mut self, state: &DomainState) {
        let (count, queue) = (Arc::clone(&state.watch_events), Arc::clone(&state.queue));
        let client = Client::new(Call::Domain { count, queue });
        self.clients.insert(Listener::Domain(state.id), client);
    }

    /// Whether there is such a domain.
    pub(super) fn is_introduced(&self, domid: DomId) -> bool {
        self.clients.contains_key(&Listener::Domain(domid))
    }

    /// A connection begins. `ring` is called, with the store locked, when there is something to
    /// tell.
    pub(super) fn connect(&mut self, connection: Listener, ring: Arc<dyn Fn() + Send + Sync>) {
        self.clients.insert(connection, Client::new(Call::Connection(ring)));
    }

    /// A domain or a connection ends, and its watches with it.
    pub(super) fn release(&mut self, listener: Listener) {
        self.clients.remove(&listener);
    }

    /// Sets a watch, which fires at once.
    pub(super) fn add(
        &mut self,
        listener: Listener,
        path: &str,
        token: u32,
    ) -> Result<(), StoreError> {
        let domid = listener.domid();
        let special = ["@introduceDomain", "@releaseDomain"].contains(&path);
        if special && domid != DomId::DOM0 {
            return Err(StoreError::NoPermission);
        }
        let absolute =
            if special { path.to_owned() } else { Path::absolute(path, domid)?.to_string() };
        let client = self.clients.get_mut(&listener).ok_or(StoreError::Unreachable)?;
        if client.watches.len() >= listener.most_watches() {
            return Err(StoreError::Quota);
        }
        let relative = !special && !path.starts_with('/');
        client.watches.push(Watch { path: absolute.clone(), token, relative });
        client.push(client.watches.len() - 1, &absolute, domid);
        Ok(())
    }

    /// Ends all watches with that token, and forgets what they had to tell.
    pub(super) fn remove(&mut self, listener: Listener, token: u32) {
        let Some(client) = self.clients.get_mut(&listener) else {
            return;
        };
        client.watches.retain(|watch| watch.token != token);
        client.events.retain(|event| event.0 != token);
        client.waiting.retain(|event| event.0 != token);
        client.recount();
    }

    /// The oldest event.
    pub(super) fn next(&mut self, listener: Listener) -> Option<(u32, String)> {
        let client = self.clients.get_mut(&listener)?;
        let event = client.events.pop_front()?;
        client.waiting.remove(&event);
        client.recount();
        Some(event)
    }

    /// Tells everyone who may know that `path` was written.
    pub(super) fn fire(&mut self, path: &str, may_hear: impl Fn(DomId, &str) -> bool) {
        self.each(|client, index, domid| {
            if is_at_or_below(path, &client.watches[index].path) && may_hear(domid, path) {
                client.push(index, path, domid);
            }
        });
    }

    /// Tells everyone who may know that the subtree at `path` was removed. Who watches above is
    /// told of its top, who watches inside of the watched node, if that existed.
    pub(super) fn fire_removed(
        &mut self,
        path: &str,
        existed: impl Fn(&str) -> bool,
        may_hear: impl Fn(DomId, &str) -> bool,
    ) {
        self.each(|client, index, domid| {
            let watched = client.watches[index].path.clone();
            if is_at_or_below(path, &watched) {
                if may_hear(domid, path) {
                    client.push(index, path, domid);
                }
            } else if is_at_or_below(&watched, path)
                && existed(&watched)
                && may_hear(domid, &watched)
            {
                client.push(index, &watched, domid);
            }
        });
    }

    /// Fires `@introduceDomain` or `@releaseDomain`.
    pub(super) fn special(&mut self, name: &str) {
        self.each(|client, index, domid| {
            if client.watches[index].path == name {
                client.push(index, name, domid);
            }
        });
    }

    fn each(&mut self, mut f: impl FnMut(&mut Client, usize, DomId)) {
        for (listener, client) in &mut self.clients {
            for index in 0..client.watches.len() {
                f(client, index, listener.domid());
            }
        }
    }
}
