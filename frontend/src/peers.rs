//! What we and one other guest know of each other: both windows, what is held back, what is
//! pinned. Keyed by domid *and* incarnation, so a successor inherits nothing.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{Granter, Host, Instant, Offload, Pinned};
use xenvelope_switch::envelope::{Addresses, Done};
use xenvelope_switch::window::{ReceiveWindow, SendWindow};

use crate::counters::Counters;

/// A frame that the stack has sent and that has not left.
pub struct Staged<B> {
    /// What holds it.
    pub buffer: B,
    /// Where in the buffer it lies, Ethernet header included.
    pub frame: Range<usize>,
    /// Checksum and segmentation state.
    pub offload: Offload,
}

/// How long an idle peer is remembered. A peer that comes back later begins a new epoch.
const MEMORY: Duration = Duration::from_secs(60);
/// How long one that broke the protocol is.
const MEMORY_OF_HOSTILE: Duration = Duration::from_secs(3600);

/// Which way frames of a flow go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// By the VF, as they are.
    VfFrame,
    /// By netif to the driver domain.
    Netif,
    /// In envelopes, on a channel of the forwarding table.
    Envelope(u16),
}

/// Frames that must keep their order: those to one peer, or those of the default route.
pub struct Flow<B> {
    /// Which way the last frame went. A frame that would go another way waits until that way
    /// has drained.
    pub path: Option<Path>,
    /// Frames that wait for that.
    pub held: VecDeque<Staged<B>>,
    /// Since when.
    pub held_since: Option<Instant>,
    /// When the old way was first seen to have drained.
    pub drained_at: Option<Instant>,
}

impl<B> Default for Flow<B> {
    fn default() -> Self {
        Flow { path: None, held: VecDeque::new(), held_since: None, drained_at: None }
    }
}

/// The state that we keep of one peer.
pub struct PeerState<G: Granter> {
    /// Envelopes to it.
    pub send: SendWindow<G::Out>,
    /// Envelopes from it.
    pub receive: ReceiveWindow,
    /// Frames to it: which way they go, and which wait.
    pub flow: Flow<G::Buf>,
    /// The addresses that a done to it bears.
    pub done_to: Option<Addresses>,
    /// It asked for a done: it may be waiting for buffers.
    pub done_wanted: bool,
    /// Bytes that were copied from it and that no done has told of.
    pub untold: usize,
    /// Batches on their way that copy what it granted.
    pub copying: u32,
    /// While there are some: what it may be told,
    pub told_up_to: Option<Done>,
    /// and whether it has not been told that.
    pub news: bool,
    /// Grants that could not be taken back: the peer uses them.
    pub pinned: Vec<G::Out>,
    /// When it last sent us something or was sent something.
    pub used_at: Instant,
    /// It broke the protocol: nothing is sent to it any more, and nothing taken from it.
    pub closed: bool,
}

impl<G: Granter + Host> PeerState<G> {
    fn new(host: &G) -> PeerState<G> {
        PeerState {
            // The epoch is random: who does not see our envelopes cannot name it.
            send: SendWindow::new(host.random() as u32, (host.random(), host.random())),
            receive: ReceiveWindow::default(),
            flow: Flow::default(),
            done_to: None,
            done_wanted: false,
            untold: 0,
            copying: 0,
            told_up_to: None,
            news: false,
            pinned: Vec::new(),
            used_at: host.now(),
            closed: false,
        }
    }

    /// Takes back a grant that no done came for. If the peer still uses it, it waits among the
    /// pinned ones.
    pub fn take_back(&mut self, host: &G, out: G::Out, counters: &mut Counters) {
        if let Err(Pinned(out)) = host.revoke(out) {
            counters.pinned += 1;
            self.pinned.push(out);
        }
    }

    /// Grants that the peer costs us: outstanding and pinned.
    pub fn cost(&self) -> usize {
        self.send.outstanding() + self.pinned.len()
    }

    /// Tries again to take back what was pinned.
    pub fn retry_pinned(&mut self, host: &G) {
        for out in core::mem::take(&mut self.pinned) {
            if let Err(Pinned(out)) = host.revoke(out) {
                self.pinned.push(out);
            }
        }
    }

    /// It is not who we may send to any more: nothing of ours stays granted to it (rule 5).
    pub fn take_back_all(&mut self, host: &G, counters: &mut Counters) {
        while let Some(out) = self.send.expired(Instant::FAR_FUTURE) {
            self.take_back(host, out, counters);
        }
    }

    /// Whether there is any reason to remember it at `now`. One that broke the protocol is
    /// remembered for longer.
    pub fn is_of_use(&self, now: Instant) -> bool {
        let memory = if self.closed { MEMORY_OF_HOSTILE } else { MEMORY };
        self.cost() > 0 || !self.flow.held.is_empty() || now.since(self.used_at) < memory
    }

    /// A new epoch: everything outstanding is taken back.
    pub fn restart(&mut self, host: &G, counters: &mut Counters) {
        self.take_back_all(host, counters);
        self.send = SendWindow::new(host.random() as u32, (host.random(), host.random()));
        self.receive = ReceiveWindow::default();
        self.told_up_to = None;
    }
}

/// How peers are hashed. Their keys come from the manager, so nobody can choose them to collide,
/// and in what order they are looked at must not hang on where the process lies in memory: who
/// runs a frontend twice with the same input sees the same.
pub(crate) type PeerHash = foldhash::fast::FixedState;

/// All peers.
pub struct Peers<G: Granter> {
    states: Vec<(Peer, PeerState<G>)>,
    /// Where among them each is.
    places: hashbrown::HashMap<Peer, usize, PeerHash>,
    /// Where the one is that was asked for last: frames come in bursts.
    last: usize,
}

impl<G: Granter> Default for Peers<G> {
    fn default() -> Self {
        Peers { states: Vec::new(), places: hashbrown::HashMap::default(), last: 0 }
    }
}

impl<G: Granter + Host> Peers<G> {
    /// The state of `peer`, made if there is none.
    #[inline]
    pub fn of(&mut self, host: &G, peer: Peer) -> &mut PeerState<G> {
        if !self.is_last(peer) {
            self.last = self.places.get(&peer).copied().unwrap_or_else(|| self.add(host, peer));
        }
        &mut self.states[self.last].1
    }

    /// A peer that we have not met. A manager that begins anew gives guests that are still there
    /// other incarnations, and their envelopes may come once more on a path that cannot vouch for
    /// them: what has come from the domain before counts. If it is another guest with the same id,
    /// so is its epoch, and nothing of that is left with its first envelope.
    #[cold]
    fn add(&mut self, host: &G, peer: Peer) -> usize {
        let others = self.iter().filter(|(other, _)| other.domid == peer.domid);
        let before = others.max_by_key(|(other, _)| other.incarnation);
        let receive = before.map(|(_, state)| state.receive.come_so_far()).unwrap_or_default();
        self.states.push((peer, PeerState { receive, ..PeerState::new(host) }));
        self.places.insert(peer, self.states.len() - 1);
        self.states.len() - 1
    }

    /// The state of `peer`, if there is one.
    #[inline]
    pub fn get(&mut self, peer: Peer) -> Option<&mut PeerState<G>> {
        if !self.is_last(peer) {
            self.last = *self.places.get(&peer)?;
        }
        Some(&mut self.states[self.last].1)
    }

    fn is_last(&self, peer: Peer) -> bool {
        self.states.get(self.last).is_some_and(|(last, _)| *last == peer)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Peer, &PeerState<G>)> {
        self.states.iter().map(|(peer, state)| (*peer, state))
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Peer, &mut PeerState<G>)> {
        self.states.iter_mut().map(|(peer, state)| (*peer, state))
    }

    /// Forgets peers that are of no use any more: a host sees many guests come and go.
    pub fn forget_idle(&mut self, host: &G, now: Instant) {
        let before = self.states.len();
        self.states.retain(|(peer, state)| {
            let keep = state.is_of_use(now);
            if !keep {
                host.forget(*peer);
            }
            keep
        });
        if self.states.len() < before {
            self.places.clear();
            let places = self.states.iter().enumerate().map(|(place, (peer, _))| (*peer, place));
            self.places.extend(places);
        }
    }
}
