//! Watches that are set, and what they have to tell.

use std::collections::{HashSet, VecDeque};

use crate::wire::Event;

/// Most events that wait to be asked for. Whoever writes below a watched path can make as many as
/// it likes (XSA-326, XSA-416). Beyond, a watch has one event left: its own path, which says "look
/// at all of it again", as right after it was set. So none is lost that is not told otherwise.
pub(super) const MAX_EVENTS: usize = 4096;

struct Watch {
    token: u32,
    /// As the caller gave it.
    path: String,
    /// As it was sent.
    sent: String,
}

/// Events wait here in order. One that is already waiting is not put in twice: it carries no
/// value, and who asks later reads what is there then.
#[derive(Default)]
pub(super) struct Events {
    watches: Vec<Watch>,
    queue: VecDeque<(u32, String)>,
    waiting: HashSet<(u32, String)>,
}

impl Events {
    /// Notes a watch, before it is asked for: it may fire before it is confirmed. False if there
    /// is one with that path and token.
    pub(super) fn add(&mut self, token: u32, path: &str, sent: &str) -> bool {
        if self.watches.iter().any(|watch| watch.token == token && watch.sent == sent) {
            return false;
        }
        let (path, sent) = (path.to_owned(), sent.to_owned());
        self.watches.push(Watch { token, path, sent });
        true
    }

    /// The watch could not be set.
    pub(super) fn take_back(&mut self, token: u32, sent: &str) {
        self.watches.retain(|watch| watch.token != token || watch.sent != sent);
    }

    /// Forgets the watches with that token and what they had to tell. Gives the paths as they
    /// were sent.
    pub(super) fn remove(&mut self, token: u32) -> Vec<String> {
        self.queue.retain(|event| event.0 != token);
        self.waiting.retain(|event| event.0 != token);
        let gone = self.watches.extract_if(.., |watch| watch.token == token);
        gone.map(|watch| watch.sent).collect()
    }

    /// A watch fired. What is of no watch that we have comes from one that was just ended.
    pub(super) fn arrived(&mut self, event: Event<'_>) {
        let Ok(token) = event.token.parse() else {
            return;
        };
        let mut watches = self.watches.iter().filter(|watch| watch.token == token);
        let Some((watch, below)) =
            watches.find_map(|watch| Some((watch, below(event.path, &watch.sent)?)))
        else {
            return;
        };
        let path = if self.queue.len() >= MAX_EVENTS || below.is_empty() {
            watch.path.clone()
        } else if watch.path.ends_with('/') {
            format!("{}{below}", watch.path)
        } else {
            format!("{}/{below}", watch.path)
        };
        self.push(token, path);
    }

    /// Tells of that path, if it is not about to.
    pub(super) fn push(&mut self, token: u32, path: String) {
        let event = (token, path);
        if self.waiting.insert(event.clone()) {
            self.queue.push_back(event);
        }
    }

    /// The oldest event.
    pub(super) fn next(&mut self) -> Option<(u32, String)> {
        let event = self.queue.pop_front()?;
        self.waiting.remove(&event);
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// What of `path` is below `top`: nothing if they are the same, `None` if it is elsewhere.
fn below<'p>(path: &'p str, top: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(top)?;
    if rest.is_empty() || top == "/" { Some(rest) } else { rest.strip_prefix('/') }
}
