//! Order within a flow when its route changes (rule 6).
//!
//! What went the old way must be taken by the receiver before anything that goes the new way.
//! For envelopes the receiver's done says so. Netif's answer and the card's completion say only
//! that a frame lies where the receiver will find it; the receiver therefore empties its paths in
//! an order that is right for what follows on them (`crate::receive`), and so does the driver
//! domain for frames that the card has brought to it. Three changes they cannot see: from netif to
//! the VF; from the VF to a direct channel, for the driver domain may have to pass on what the
//! card carried; and from a VF that is gone, for the card may still carry what it had taken. There
//! the sender waits a little longer.
//!
//! A flow is all that goes to one peer, or all that takes the default route. An address that had
//! an entry belongs to its last peer's flow still when it has none for a moment. One that gets its
//! first entry while frames to it are held back with the default route's, or are on its way, or
//! whose entry names another peer than before (the driver domain in a guest's place or the other
//! way round, or another incarnation), waits for these, too.

use core::time::Duration;

use arrayvec::ArrayVec;
use xenvelope_grant::Peer;
use xenvelope_grant::seam::{Hypervisor, Instant, NicPort};
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, FIRST_DIRECT_CHANNEL};
use xenvelope_switch::{EthernetHeader, MacAddress};

use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::peers::{Flow, Path, Staged};
use crate::route::Route;
use crate::transmit::header_of;

/// Frames that wait for an older route to drain, for each flow.
const HELD: usize = 512;
/// Flows whose held frames are looked at in one turn.
const FLOWS: usize = 64;
/// How long the VF is not used after netif has drained, nor a direct channel after the VF has, nor
/// any path after a VF is gone: time for the receiver to take what netif has brought, for the
/// driver domain to pass on what the card has, and for the card to carry what it has taken.
const TAKEN: Duration = Duration::from_millis(2);

/// Addresses that frames have gone to by the default route: perhaps others too, never less.
#[derive(Default)]
pub(crate) struct SentByDefault([u64; 16]);

impl SentByDefault {
    fn place(address: MacAddress) -> (usize, u64) {
        // Those that one vendor or toolstack gives differ in their last bytes.
        let [.., before, last] = address.0;
        let bit = usize::from(last) | usize::from(before & 3) << 8;
        (bit / 64, 1 << (bit % 64))
    }

    fn note(&mut self, address: MacAddress) {
        let (word, bit) = SentByDefault::place(address);
        self.0[word] |= bit;
    }

    fn has(&self, address: MacAddress) -> bool {
        let (word, bit) = SentByDefault::place(address);
        self.0[word] & bit != 0
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// The frame, if it may go now. Otherwise it is held back, or dropped if too many are.
    pub(super) fn in_order(
        &mut self,
        staged: Staged<H::Buf>,
        header: &EthernetHeader,
        route: &Route,
        now: Instant,
    ) -> Option<Staged<H::Buf>> {
        if self.is_settled(header, route) {
            return Some(staged);
        }
        let peer = self.flow_of(header, route);
        let may_go = self.flow(peer).held.is_empty()
            && !self.is_behind_default(peer, header)
            && self.may_go(peer, route.path, now);
        let flow = self.flow(peer);
        if may_go {
            flow.path = Some(route.path);
            flow.drained_at = None;
            let entry = route.entry.filter(|entry| peer == Some(entry.peer));
            self.settled = entry.map(|entry| (header.destination, header.vid(), entry.peer));
            return Some(staged);
        }
        if flow.held.len() >= HELD {
            self.drop_one(DropReason::PathFull);
            return None;
        }
        flow.held_since.get_or_insert(now);
        flow.held.push_back(staged);
        None
    }

    /// Whether there is nothing to find out: the last frame went to the same peer at the same
    /// address, its flow still goes this way, and nobody waits.
    fn is_settled(&mut self, header: &EthernetHeader, route: &Route) -> bool {
        let Some(entry) = route.entry else { return false };
        if self.settled != Some((header.destination, header.vid(), entry.peer))
            || !self.default_flow.held.is_empty()
        {
            return false;
        }
        let flow = self.flow(Some(entry.peer));
        let settled = flow.held.is_empty() && flow.path == Some(route.path);
        if settled {
            flow.drained_at = None;
        }
        settled
    }

    /// Whose flow a frame belongs to; `None` is the default route's.
    pub(super) fn flow_of(&mut self, header: &EthernetHeader, route: &Route) -> Option<Peer> {
        let address = (header.destination, header.vid());
        match route.entry {
            Some(entry) => match self.last_peer.get(&address).copied() {
                Some(before)
                    if before == entry.peer || !self.has_left(before, entry.peer, route.path) =>
                {
                    Some(before)
                }
                None if self.sent_by_default.has(header.destination)
                    && !self.may_go(None, route.path, self.now) =>
                {
                    None
                }
                _ => {
                    self.settled = None;
                    self.last_peer.insert(address, entry.peer);
                    Some(entry.peer)
                }
            },
            None if header.destination.is_multicast() => None,
            None => {
                let peer = self.last_peer.get(&address).copied();
                if peer.is_none() {
                    self.sent_by_default.note(header.destination);
                }
                peer
            }
        }
    }

    /// Whether nothing of a peer's flow can be overtaken by what goes to another in its place this
    /// way. Another incarnation's done is not waited for where it is the one that takes what was sent:
    /// it may be gone. But what the card or the driver domain carries to the address, the one in its
    /// place gets; it may be the same guest, to which a manager that began anew gave another.
    fn has_left(&mut self, peer: Peer, successor: Peer, path: Path) -> bool {
        let served = self.is_driver_domain(peer) || self.is_driver_domain(successor);
        let flow = self.flow(Some(peer));
        if !flow.held.is_empty() {
            return false;
        }
        // What lies in the driver domain's channel it passes on by the address, too.
        let by_guest =
            |path| matches!(path, Path::Envelope(number) if number != CHANNEL_DRIVER_DOMAIN);
        let waits = |before| before != path && (served || !by_guest(before));
        !flow.path.is_some_and(waits) || self.may_go(Some(peer), path, self.now)
    }

    /// Whether earlier frames to the same address are held back with the default route's: it had
    /// no entry then.
    fn is_behind_default(&self, peer: Option<Peer>, header: &EthernetHeader) -> bool {
        let same = |other: EthernetHeader| {
            (other.destination, other.vid()) == (header.destination, header.vid())
        };
        peer.is_some()
            && self.default_flow.held.iter().any(|staged| header_of(staged).is_some_and(same))
    }

    /// Whether a flow may go this way now.
    fn may_go(&mut self, peer: Option<Peer>, path: Path, now: Instant) -> bool {
        // A peer that has just come into the table had its frames sent by the default route.
        let before = self.flow(peer).path.or(self.default_flow.path);
        let Some(before) = before.filter(|before| *before != path) else { return true };
        let by_vf = |path| matches!(path, Path::VfFrame | Path::Envelope(CHANNEL_VF));
        if by_vf(before) && by_vf(path) && self.vf_up() {
            // The VF is one queue, at both ends.
            return self.vf_backlog.is_empty();
        }
        if !self.drained(peer, before) {
            return false;
        }
        let direct = matches!(path, Path::Envelope(FIRST_DIRECT_CHANNEL..));
        let unseen = match before {
            Path::Netif => by_vf(path),
            Path::VfFrame => direct || !self.vf_up(),
            Path::Envelope(_) => false,
        };
        if unseen {
            let drained_at = *self.flow(peer).drained_at.get_or_insert(now);
            return now.since(drained_at) >= TAKEN;
        }
        true
    }

    /// Whether everything that a flow has sent by `path` has arrived.
    fn drained(&mut self, peer: Option<Peer>, path: Path) -> bool {
        match path {
            Path::VfFrame => {
                !self.vf_up()
                    || (self.vf_backlog.is_empty()
                        && self.vf.as_ref().is_none_or(|vf| vf.in_flight() == 0))
            }
            Path::Netif => self
                .driver
                .as_ref()
                .is_none_or(|driver| driver.transmit.in_flight() == 0 && driver.backlog.is_empty()),
            Path::Envelope(number) => peer.is_none_or(|peer| {
                self.peers.of(&self.host, peer).send.all_done()
                    || (number == CHANNEL_DRIVER_DOMAIN && self.passed_to_successor(peer))
            }),
        }
    }

    /// Whether the guest is another incarnation by now and the driver domain has taken all that was
    /// for this one: nobody may be left to say done of it, but it passes on at once what it takes.
    fn passed_to_successor(&mut self, peer: Peer) -> bool {
        let succeeded = self.last_peer.iter().any(|(&(mac, vid), &of)| {
            of == peer
                && self.lookup(mac, vid).is_some_and(|entry| {
                    entry.peer.domid == peer.domid && entry.peer.incarnation != peer.incarnation
                })
        });
        let channel = self.driver.as_mut().and_then(|driver| driver.envelopes.as_mut());
        succeeded && channel.is_none_or(|channel| channel.unread().is_ok_and(|unread| unread == 0))
    }

    /// Sends what was held back, for flows whose older route has drained or took too long.
    pub(super) fn release_held(&mut self, now: Instant) {
        if !self.holding() {
            return;
        }
        // The default route's first: others may wait for what is held with it.
        let default = (!self.default_flow.held.is_empty()).then_some(None);
        let peers = self.peers.iter_mut().filter(|(_, peer)| !peer.flow.held.is_empty());
        let waiting: ArrayVec<Option<Peer>, FLOWS> =
            default.into_iter().chain(peers.map(|(peer, _)| Some(peer))).take(FLOWS).collect();
        for peer in waiting {
            let timeout = self.config.hold_timeout;
            let late = self.flow(peer).held_since.is_some_and(|since| now.since(since) > timeout);
            if late && let Some(peer) = peer {
                // By now whatever is still on the old route is lost.
                self.peers.of(&self.host, peer).send.give_up();
            }
            while let Some(header) = self.flow(peer).held.front().map(header_of) {
                let route = header.and_then(|header| Some((header, self.route(&header)?)));
                // One that was held with the default route's may have an entry by now.
                let its = route
                    .as_ref()
                    .map_or(peer, |(header, route)| peer.or_else(|| self.flow_of(header, route)));
                if let Some((header, route)) = &route
                    && (self.is_behind_default(peer, header)
                        || (!late
                            && (!self.may_go(peer, route.path, now)
                                || (its != peer && !self.may_go(its, route.path, now)))))
                {
                    break;
                }
                let flow = self.flow(peer);
                // Its older route stays drained: those behind it do not wait for that once more.
                let Some(staged) = flow.held.pop_front() else { break };
                flow.held_since = if flow.held.is_empty() { None } else { Some(now) };
                match route {
                    Some((header, route)) => {
                        // One that was held for who had the address before goes to who has it now.
                        let to = route.entry.map(|entry| entry.peer).or(its);
                        for peer in [its, to] {
                            let flow = self.flow(peer);
                            (flow.path, flow.drained_at) = (Some(route.path), None);
                        }
                        self.dispatch(staged, &header, route, now);
                    }
                    None => self.drop_one(DropReason::NoPath),
                }
            }
        }
    }

    pub(super) fn flow(&mut self, peer: Option<Peer>) -> &mut Flow<H::Buf> {
        match peer {
            Some(peer) => &mut self.peers.of(&self.host, peer).flow,
            None => &mut self.default_flow,
        }
    }
}
