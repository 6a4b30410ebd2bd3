//! A frame's way out.
//!
//! Frames are staged by the stack and leave at [`Frontend::flush`], so that frames to the same
//! peer share an envelope and a batch costs one event. The steps of one frame: route; wait if
//! its flow is changing routes; then inline it, grant it and put it in the open envelope, or
//! hand it to the VF or to netif.

mod dones;
mod envelope;
mod paths;

pub(crate) use envelope::OpenEnvelope;

use core::ops::Range;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{Buffer, Hypervisor, Instant, NicPort, Offload};
use xenvelope_switch::table::{CHANNEL_VF, Entry, EntryFlags};
use xenvelope_switch::{EthernetHeader, MAX_FRAME};

use crate::counters::DropReason;
use crate::interface::{Frontend, OUTBOX};
use crate::peers::{Path, Staged};
use crate::route::Route;

/// Where in a buffer what follows the Ethernet header lies. Before it is room for the header of
/// a tagged frame, and for an envelope's tag, which takes the header's place: the header travels
/// in the envelope.
pub const PAYLOAD_AT: usize = 32;
/// Where in a buffer an untagged frame begins.
pub const FRAME_AT: usize = PAYLOAD_AT - 14;
/// Frames that wait for an older route to drain, for each flow.
const HELD: usize = 512;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Whether the stack may stage another frame.
    pub fn can_send(&self) -> bool {
        self.outbox.len() < OUTBOX
    }

    /// A buffer for a frame of `len` bytes, which belongs at [`FRAME_AT`].
    pub fn buffer(&self, len: usize) -> Option<H::Buf> {
        self.host.take(None, FRAME_AT + len).ok()
    }

    /// Stages a frame. It leaves at the next [`Frontend::flush`].
    pub fn send(&mut self, buffer: H::Buf, frame: Range<usize>, offload: Offload) {
        self.counters.sent.frames += 1;
        self.counters.sent.bytes += frame.len() as u64;
        self.outbox.push_back(Staged { buffer, frame, offload });
    }

    /// Sends everything that was staged or held and may go, the dones that are due, and one
    /// event to each side that asked for it. Whether anything left.
    pub fn flush(&mut self, now: Instant) -> bool {
        let mut busy = !self.outbox.is_empty();
        self.reap();
        self.release_held(now);
        while let Some(staged) = self.outbox.pop_front() {
            self.send_one(staged, now);
        }
        self.seal();
        busy |= self.send_dones(now);
        self.publish();
        busy
    }

    fn send_one(&mut self, staged: Staged<H::Buf>, now: Instant) {
        let mut head = [0; 18];
        let length = staged.frame.len();
        let seen = length.min(head.len());
        staged.buffer.get(staged.frame.start, &mut head[..seen]);
        let header = match EthernetHeader::parse(&head[..seen]) {
            Ok(header) if length <= MAX_FRAME && length > header.len() => header,
            _ => return self.drop_one(DropReason::Malformed),
        };
        let Some(route) = self.route(&header) else {
            return self.drop_one(DropReason::NoPath);
        };
        let drained = self.drained(route.entry);
        let flow = match route.entry {
            Some(entry) => &mut self.peers.of(&self.host, entry.peer).flow,
            None => &mut self.default_flow,
        };
        // Order is kept when a route changes: what went the old way arrives first.
        if !flow.held.is_empty() || (flow.path.is_some_and(|path| path != route.path) && !drained) {
            if flow.held.len() >= HELD {
                return self.drop_one(DropReason::PathFull);
            }
            flow.held_since.get_or_insert(now);
            flow.held.push_back(staged);
            return;
        }
        flow.path = Some(route.path);
        self.dispatch(staged, &header, route, now);
    }

    fn dispatch(
        &mut self,
        staged: Staged<H::Buf>,
        header: &EthernetHeader,
        route: Route,
        now: Instant,
    ) {
        match (route.path, route.entry) {
            (Path::Envelope(channel), Some(entry)) => {
                self.envelope(staged, header, entry, channel, now);
            }
            (Path::VfFrame, _) => self.by_vf(staged),
            _ => self.by_netif(staged),
        }
    }

    /// Whether everything that a flow has sent on its present way has arrived.
    fn drained(&mut self, entry: Option<Entry>) -> bool {
        let flow = match entry {
            Some(entry) => {
                let peer = self.peers.of(&self.host, entry.peer);
                if peer.send.outstanding() > 0 {
                    return false;
                }
                &peer.flow
            }
            None => &self.default_flow,
        };
        match flow.path {
            None => true,
            Some(Path::VfFrame | Path::Envelope(CHANNEL_VF)) => {
                !self.vf_up()
                    || (self.vf_backlog.is_empty()
                        && self.vf.as_ref().is_none_or(|vf| vf.in_flight() == 0))
            }
            Some(Path::Netif) => self
                .driver
                .as_ref()
                .is_none_or(|driver| driver.transmit.in_flight() == 0 && driver.backlog.is_empty()),
            Some(Path::Envelope(number)) => match self.channel(number) {
                Some(channel) => channel.unread().is_ok_and(|unread| unread == 0),
                None => true,
            },
        }
    }

    /// Sends what was held back, for flows whose older route has drained or took too long.
    fn release_held(&mut self, now: Instant) {
        let timeout = self.config.hold_timeout;
        let mut waiting: arrayvec::ArrayVec<Option<Peer>, 64> = self
            .peers
            .iter_mut()
            .filter(|(_, peer)| !peer.flow.held.is_empty())
            .map(|(peer, _)| Some(peer))
            .take(63)
            .collect();
        if !self.default_flow.held.is_empty() {
            waiting.push(None);
        }
        for peer in waiting {
            let (drained, late) = {
                let flow = self.flow(peer);
                let late = flow.held_since.is_some_and(|since| now.since(since) > timeout);
                let sample = peer.map(|peer| Entry {
                    mac: xenvelope_switch::MacAddress::BROADCAST,
                    vid: 0,
                    peer,
                    channel: 0,
                    flags: EntryFlags::empty(),
                });
                (self.drained(sample), late)
            };
            if !drained && !late {
                continue;
            }
            let flow = self.flow(peer);
            let held = core::mem::take(&mut flow.held);
            flow.held_since = None;
            flow.path = None;
            for staged in held {
                self.send_one(staged, now);
            }
        }
    }

    fn flow(&mut self, peer: Option<Peer>) -> &mut crate::peers::Flow<H::Buf> {
        match peer {
            Some(peer) => &mut self.peers.of(&self.host, peer).flow,
            None => &mut self.default_flow,
        }
    }

    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        self.counters.drop_frames(reason, 1);
    }
}
