//! A frame's way out.
//!
//! Frames are staged by the stack and leave at [`Frontend::flush`], so that frames to the same
//! peer share an envelope and a batch costs one event. The steps of one frame: route; wait if
//! its flow is changing routes; then inline it, grant it and put it in the open envelope, or
//! hand it to the VF or to netif.

use core::ops::Range;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{
    Access, Buffer, Hypervisor, Instant, NicError, NicPort, Offload, Pinned, Refused,
};
use xenvelope_switch::envelope::{Addresses, DeliverHead, EnvelopeBuilder, FrameHead, TAG_LEN};
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, Entry, EntryFlags};
use xenvelope_switch::{EthernetHeader, MAX_FRAME};

use crate::counters::DropReason;
use crate::interface::{Frontend, OUTBOX};
use crate::netfront::Finished;
use crate::peers::{Path, Staged};
use crate::route::Route;

/// Where in a buffer what follows the Ethernet header lies. Before it is room for the header of
/// a tagged frame, and for an envelope's tag, which takes the header's place: the header travels
/// in the envelope.
pub const PAYLOAD_AT: usize = 32;
/// Where in a buffer an untagged frame begins.
pub const FRAME_AT: usize = PAYLOAD_AT - 14;
/// Bytes that are inspected on a path with L3 or L4 rules, and travel inside the envelope there.
const INSPECTED: usize = 64;
/// Frames that wait for an older route to drain, for each flow.
const HELD: usize = 512;

/// The envelope that is being filled.
pub(crate) struct OpenEnvelope {
    builder: EnvelopeBuilder,
    peer: Peer,
    channel: u16,
    head: DeliverHead,
    addresses: Addresses,
    /// A done rides along.
    tells: bool,
}

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
        self.outbox.push_back(Staged {
            buffer,
            frame,
            offload,
        });
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
                !self.vf_up() || self.vf.as_ref().is_none_or(|vf| vf.in_flight() == 0)
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
                let late = flow
                    .held_since
                    .is_some_and(|since| now.since(since) > timeout);
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

    /// Puts a frame into an envelope to `entry`'s peer.
    fn envelope(
        &mut self,
        mut staged: Staged<H::Buf>,
        header: &EthernetHeader,
        entry: Entry,
        channel: u16,
        now: Instant,
    ) {
        let payload = staged.frame.start + header.len()..staged.frame.end;
        // A frame of MAX_FRAME bytes has at most 65535 after its header.
        let Ok(total) = u16::try_from(payload.len()) else {
            return self.drop_one(DropReason::Malformed);
        };
        let frame = FrameHead {
            ether_type: header.ether_type,
            total,
            offload: staged.offload,
        };
        // On a path that cannot vouch for the source nothing goes inline: it is the granted tag
        // that a third guest cannot write.
        let tagged = entry.flags.contains(EntryFlags::TAGGED);
        let inline = !tagged && payload.len() <= EnvelopeBuilder::inline_limit();
        let inspected = if entry.flags.contains(EntryFlags::INSPECT) {
            payload.len().min(INSPECTED)
        } else {
            0
        };
        let granted = payload.start + inspected..payload.end;
        let pages = if inline || granted.is_empty() {
            0
        } else {
            let tag = if tagged { TAG_LEN } else { 0 };
            (granted.end - 1) / xenvelope_grant::PAGE_SIZE
                - (granted.start - tag) / xenvelope_grant::PAGE_SIZE
                + 1
        };
        let in_envelope = if inline { payload.len() } else { inspected };
        let addresses = Addresses {
            destination: header.destination,
            source: header.source,
            tci: header.tci,
        };
        let fits = self.open.as_ref().is_some_and(|open| {
            open.peer == entry.peer
                && open.channel == channel
                && open.addresses == addresses
                && open.head.tagged == tagged
                && open.builder.room_for(pages, in_envelope, &staged.offload)
        });
        if !fits {
            self.seal();
            if let Err(reason) = self.open_envelope(entry.peer, channel, addresses, tagged) {
                return self.drop_one(reason);
            }
        }
        let Some(open) = &mut self.open else { return };
        if inline || granted.is_empty() {
            let mut bytes = [0; xenvelope_switch::envelope::MAX_ENVELOPE];
            let bytes = &mut bytes[..payload.len()];
            staged.buffer.get(payload.start, bytes);
            let pushed = if inline {
                open.builder.push_inline(frame, bytes)
            } else {
                open.builder.push_granted_with_headers(frame, bytes, &[])
            };
            if pushed.is_err() {
                return self.drop_one(DropReason::Malformed);
            }
            self.counters.inlined_frames += 1;
            self.counters.inlined_bytes += staged.frame.len() as u64;
            return;
        }
        let mut headers = [0; INSPECTED];
        let headers = &mut headers[..inspected];
        staged.buffer.get(payload.start, headers);
        let mut used = granted;
        if tagged {
            // In front of what is granted: over the header, which travels in the envelope, or
            // over inspected bytes, which do too.
            used.start -= TAG_LEN;
            staged.buffer.put(used.start, &open.head.tag().to_bytes());
        }
        let sequence = open.head.sequence;
        let out = match self
            .host
            .grant(staged.buffer, entry.peer, used, Access::Read)
        {
            Ok(out) => out,
            Err(Refused { .. }) => return self.drop_one(DropReason::GrantFailed),
        };
        if self.changed(&entry, header.vid()) {
            // Between look-up and grant the destination became somebody else: rule 1.
            self.counters.changed_underway += 1;
            let peer = self.peers.of(&self.host, entry.peer);
            peer.take_back(&self.host, out, &mut self.counters);
            return self.drop_one(DropReason::NoPath);
        }
        let Some(open) = &mut self.open else { return };
        let segments = self.host.segments(&out);
        let pushed = if inspected > 0 {
            open.builder
                .push_granted_with_headers(frame, headers, segments)
        } else {
            open.builder.push_granted(frame, segments)
        };
        let peer = self.peers.of(&self.host, entry.peer);
        if pushed.is_err() {
            peer.take_back(&self.host, out, &mut self.counters);
            return self.drop_one(DropReason::Malformed);
        }
        peer.send.keep(sequence, out, now);
        self.counters.granted_frames += 1;
    }

    /// Whether the table says something else of the destination than it did.
    fn changed(&self, entry: &Entry, vid: u16) -> bool {
        let Some(table) = &self.table else {
            return true;
        };
        // The grant before the second look.
        table.reader.barrier();
        table
            .reader
            .lookup(entry.mac, vid)
            .is_none_or(|now| now.peer != entry.peer)
    }

    fn open_envelope(
        &mut self,
        peer: Peer,
        channel: u16,
        addresses: Addresses,
        tagged: bool,
    ) -> Result<(), DropReason> {
        if !self.room(channel) {
            return Err(DropReason::PathFull);
        }
        let quota = self.config.peer_quota;
        let state = self.peers.of(&self.host, peer);
        if state.closed {
            return Err(DropReason::PeerClosed);
        }
        let cost = state.cost();
        let sequence = match state.send.open() {
            Some(sequence) if cost < quota => sequence,
            _ => return Err(DropReason::PeerFull),
        };
        let head = DeliverHead {
            epoch: state.send.epoch(),
            sequence,
            nonce: state.send.nonce(sequence),
            tagged,
            want_done: cost > quota / 2 || state.send.half_full(),
        };
        // What the peer may be waiting for rides along.
        let done = if state.receive.unacknowledged() > 0 {
            state.receive.done()
        } else {
            None
        };
        state.receive.told();
        state.done_wanted = false;
        let builder = EnvelopeBuilder::deliver(addresses, head, done);
        self.open = Some(OpenEnvelope {
            builder,
            peer,
            channel,
            head,
            addresses,
        });
        Ok(())
    }

    /// Finishes the open envelope and puts it on its way.
    fn seal(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let frames = open.builder.frames() as u64;
        if frames == 0 {
            return;
        }
        let pushed = self.push(open.channel, open.builder.finish());
        let Self {
            host,
            peers,
            counters,
            ..
        } = self;
        let peer = peers.of(host, open.peer);
        if pushed {
            peer.send.sent();
            counters.envelopes_sent += 1;
            if open.tells {
                peer.receive.told();
                peer.done_wanted = false;
            }
        } else {
            while let Some(out) = peer.send.unsent(open.head.sequence) {
                peer.take_back(host, out, counters);
            }
            counters.drop_frames(DropReason::PathFull, frames);
        }
    }

    /// Whether a channel can take an envelope now.
    fn room(&mut self, channel: u16) -> bool {
        if channel == CHANNEL_VF {
            return self.vf_up();
        }
        self.channel(channel)
            .is_some_and(|channel| channel.room().is_ok_and(|room| room > 0))
    }

    /// Puts an envelope on a channel.
    fn push(&mut self, number: u16, envelope: &[u8]) -> bool {
        if number == CHANNEL_VF {
            let Some(vf) = &self.vf else { return false };
            let Ok(mut buffer) = self.host.take(None, envelope.len()) else {
                return false;
            };
            buffer.put(0, envelope);
            return vf
                .send(buffer, 0..envelope.len(), Offload::default())
                .is_ok();
        }
        self.channel(number)
            .is_some_and(|channel| channel.push(envelope).is_ok())
    }

    /// The envelope channel of a number that is not the VF's.
    fn channel(
        &mut self,
        number: u16,
    ) -> Option<&mut xenvelope_switch::channel::EnvelopeChannel<H::Pages>> {
        if number == CHANNEL_DRIVER_DOMAIN {
            return self.driver.as_mut()?.envelopes.as_mut();
        }
        self.direct
            .iter_mut()
            .find(|direct| direct.number == number)?
            .channel
            .as_mut()
    }

    fn by_vf(&mut self, staged: Staged<H::Buf>) {
        let Some(vf) = &self.vf else {
            return self.drop_one(DropReason::NoPath);
        };
        match vf.send(staged.buffer, staged.frame, staged.offload) {
            Ok(()) => self.counters.vf_frames += 1,
            Err(unsent) => self.drop_one(match unsent.cause {
                NicError::Full => DropReason::PathFull,
                NicError::NoLink => DropReason::NoPath,
                NicError::TooLong => DropReason::Malformed,
            }),
        }
    }

    fn by_netif(&mut self, staged: Staged<H::Buf>) {
        let limit = self.config.backlog;
        let Some(driver) = &mut self.driver else {
            return self.drop_one(DropReason::NoPath);
        };
        if driver.backlog.len() >= limit {
            return self.drop_one(DropReason::PathFull);
        }
        driver.backlog.push_back(staged);
        self.drain_backlog();
    }

    /// Moves frames from the queue in front of netif's ring into the ring.
    fn drain_backlog(&mut self) {
        let Some(driver) = &mut self.driver else {
            return;
        };
        while let Some(Staged {
            buffer,
            frame,
            offload,
        }) = driver.backlog.pop_front()
        {
            match driver
                .transmit
                .send(&self.host, buffer, frame.clone(), offload)
            {
                Ok(()) => self.counters.netif_frames += 1,
                Err(refused) if refused.full => {
                    let buffer = refused.buffer;
                    driver.backlog.push_front(Staged {
                        buffer,
                        frame,
                        offload,
                    });
                    break;
                }
                Err(_) => self.counters.drop_frames(DropReason::GrantFailed, 1),
            }
        }
    }

    /// Takes back what has left: the VF's buffers and netif's answers.
    fn reap(&mut self) {
        if let Some(vf) = &self.vf {
            while vf.completed().is_some() {}
        }
        let Self {
            host,
            driver,
            counters,
            ..
        } = self;
        let Some(link) = driver else { return };
        let result = link.transmit.reap(|finished| {
            let out = match finished {
                Finished::Taken(out) => out,
                Finished::Refused(out) => {
                    counters.drop_frames(DropReason::Refused, 1);
                    out
                }
            };
            if let Err(Pinned(_)) = host.recycle(out) {
                // Answered, but still in use: the pages are lost until the hypervisor frees
                // them (XSA-396).
                counters.pinned += 1;
            }
        });
        match result {
            Ok(_) => self.drain_backlog(),
            Err(_) => self.disconnect(),
        }
    }

    /// Sends a done to each peer that may be waiting for buffers and got none on an envelope.
    fn send_dones(&mut self, now: Instant) -> bool {
        let mut sent = false;
        let mut index = 0;
        while index < self.dones_due.len() {
            let peer = self.dones_due[index];
            let delay = self.config.done_delay;
            let Some(state) = self.peers.get(peer) else {
                self.dones_due.swap_remove(index);
                continue;
            };
            let due = state.done_wanted
                || state.receive.unacknowledged() >= xenvelope_switch::window::WINDOW / 8
                || state
                    .receive
                    .waiting_since()
                    .is_some_and(|since| now.since(since) >= delay);
            if state.receive.unacknowledged() == 0 {
                self.dones_due.swap_remove(index);
                continue;
            }
            if !due {
                index += 1;
                continue;
            }
            let (epoch, done, to) = (state.send.epoch(), state.receive.done(), state.done_to);
            if let (Some(done), Some(addresses)) = (done, to)
                && let Some(entry) = self.lookup(
                    addresses.destination,
                    addresses.tci.map_or(0, |tci| tci & 0x0fff),
                )
                && let Some(Path::Envelope(channel)) = self.path_of(&entry)
            {
                let mut builder = EnvelopeBuilder::done(addresses, epoch, done);
                if !(self.room(channel) && self.push(channel, builder.finish())) {
                    index += 1;
                    continue;
                }
                self.counters.dones_sent += 1;
                sent = true;
            }
            if let Some(state) = self.peers.get(peer) {
                state.receive.told();
                state.done_wanted = false;
            }
            self.dones_due.swap_remove(index);
        }
        sent
    }

    /// Publishes on every path, with one event to each side that asked for one.
    fn publish(&mut self) {
        if let Some(driver) = &mut self.driver {
            let mut kick = core::mem::take(&mut driver.kick);
            kick |= driver.transmit.publish();
            kick |= driver.receive.post();
            if let Some(envelopes) = &mut driver.envelopes {
                kick |= envelopes.publish();
            }
            if kick {
                self.host.notify(&driver.port);
            }
        }
        for direct in &mut self.direct {
            let mut kick = core::mem::take(&mut direct.kick);
            if let Some(channel) = &mut direct.channel {
                kick |= channel.publish();
            }
            if kick {
                self.host.notify(&direct.port);
            }
        }
        if let Some(vf) = &self.vf {
            let (mut count, length) = vf.wanted();
            while count > 0 {
                let Ok(buffer) = self.host.take(None, FRAME_AT + length) else {
                    break;
                };
                if vf.post(buffer, FRAME_AT).is_err() {
                    break;
                }
                count -= 1;
            }
            vf.kick();
        }
    }

    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        self.counters.drop_frames(reason, 1);
    }
}
