//! Filling an envelope: inline or granted, until it is full or frames to somebody else come.
//!
//! **Tags.** Whatever is granted to another guest bears the envelope's tag, on every path. An
//! envelope may lie unread for longer than `done_timeout`; by then its grants have been taken back,
//! and the references may name newer frames to the same peer. The copy succeeds, and only the tag
//! tells that the bytes are not those of the frame. On a path that cannot vouch for the source the
//! tag also proves who wrote the envelope; only there may nothing go inline.
//!
//! Two kinds have none: frames whose headers were inspected, since the tag would be copied over
//! the headers; and what is granted to the driver domain, which copies straight into the buffers
//! of a guest without envelopes and cannot compare. It is given more time instead
//! (`Frontend::expire`).

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{
    Access, Buffer, Enclosed, Hypervisor, Instant, Mechanism, NicPort, pages_touched,
};
use xenvelope_switch::EthernetHeader;
use xenvelope_switch::envelope::{Addresses, DeliverHead, EnvelopeBuilder, FrameHead, TAG_LEN};
use xenvelope_switch::table::{CHANNEL_VF, Entry, EntryFlags};

use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::peers::Staged;
use crate::route::way_of;

/// Bytes that are inspected on a path with L3 or L4 rules, and travel inside the envelope there.
const INSPECTED: usize = 64;

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
    /// Puts a frame into an envelope to `entry`'s peer.
    pub(super) fn envelope(
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
        let frame = FrameHead { ether_type: header.ether_type, total, offload: staged.offload };
        // On a path that cannot vouch for the source nothing goes inline: it is the granted tag
        // that a third guest cannot write.
        let unvouched = entry.flags.contains(EntryFlags::TAGGED) && channel == CHANNEL_VF;
        let inline = !unvouched && payload.len() <= EnvelopeBuilder::inline_limit();
        self.show(&staged, way_of(channel), Some(Enclosed { peer: entry.peer, inline }));
        // Rules that need inspection forbid the card's path, the only one that cannot vouch.
        let inspect = entry.flags.contains(EntryFlags::INSPECT) && !unvouched;
        let inspected = if inspect { payload.len().min(INSPECTED) } else { 0 };
        let tagged = unvouched || !(inspect || self.is_driver_domain(entry.peer));
        // The tag goes over the end of the Ethernet header, which travels in the envelope.
        let tag = if tagged { TAG_LEN } else { 0 };
        let Some(start) = (payload.start + inspected).checked_sub(tag) else {
            // Not where frames belong in a buffer: there is no room in front.
            return self.drop_one(DropReason::Malformed);
        };
        let used = start..payload.end;
        let pages = if inline { 0 } else { pages_touched(&used) };
        let in_envelope = if inline { payload.len() } else { inspected };
        let addresses =
            Addresses { destination: header.destination, source: header.source, tci: header.tci };
        let fits = self.open.as_ref().is_some_and(|open| {
            open.peer == entry.peer
                && open.channel == channel
                && open.addresses == addresses
                && open.head.tagged == tagged
                && open.builder.room_for(pages, in_envelope, &staged.offload)
        });
        if !fits {
            self.seal(now);
            if let Err(reason) = self.open_envelope(entry.peer, channel, addresses, tagged) {
                return self.drop_one(reason);
            }
        }
        let Some(open) = &mut self.open else { return };
        if inline {
            let mut bytes = [0; xenvelope_switch::envelope::MAX_ENVELOPE];
            let bytes = &mut bytes[..payload.len()];
            staged.buffer.get(payload.start, bytes);
            if open.builder.push_inline(frame, bytes).is_err() {
                return self.drop_one(DropReason::Malformed);
            }
            self.counters.inlined_frames += 1;
            self.counters.inlined_bytes += staged.frame.len() as u64;
            return;
        }
        let mut headers = [0; INSPECTED];
        let headers = &mut headers[..inspected];
        staged.buffer.get(payload.start, headers);
        if tagged {
            staged.buffer.put(used.start, &open.head.tag().to_bytes());
        }
        let (sequence, key) = (open.head.sequence, open.head.nonce);
        if self.peers.of(&self.host, entry.peer).cost() >= self.config.peer_quota {
            return self.drop_one(DropReason::PeerFull);
        }
        let granted = if self.keyed_for(entry.peer) {
            // Nobody but us can tell an envelope's nonce before it is sent.
            self.host.grant_keyed(staged.buffer, key, used).map_err(drop)
        } else {
            self.host.grant(staged.buffer, entry.peer, used, Access::Read).map_err(drop)
        };
        let Ok(out) = granted else { return self.drop_one(DropReason::GrantFailed) };
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
            open.builder.push_granted_with_headers(frame, headers, segments)
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
        // What travels in the envelope is not copied: the Ethernet header, inspected bytes.
        self.counters.inlined_bytes += (header.len() + inspected) as u64;
    }

    /// Whether what is granted to `peer` is the driver domain's to copy.
    pub(super) fn is_driver_domain(&self, peer: Peer) -> bool {
        peer.domid == self.control.backend
    }

    /// Whether what is granted to `peer` bears a key. The driver domain copies on behalf of guests
    /// that know of none.
    fn keyed_for(&self, peer: Peer) -> bool {
        self.config.keyed && !self.is_driver_domain(peer)
    }

    /// Whether the table says something else of the destination than it did.
    pub(super) fn changed(&self, entry: &Entry, vid: u16) -> bool {
        let table = self.table.as_ref();
        !table.is_some_and(|table| table.reader.still_leads_to(entry.peer, entry.mac, vid))
    }

    pub(super) fn open_envelope(
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
        let done = state.to_tell();
        let tells = done.is_some();
        let mut builder = EnvelopeBuilder::deliver(addresses, head, done);
        if self.keyed_for(peer) {
            builder.mark(Mechanism::Keyed);
        }
        self.open = Some(OpenEnvelope { builder, peer, channel, head, addresses, tells });
        Ok(())
    }

    /// Finishes the open envelope and puts it on its way.
    pub(super) fn seal(&mut self, now: Instant) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let frames = open.builder.frames() as u64;
        if frames == 0 {
            return;
        }
        let pushed = self.push(open.channel, open.builder.finish());
        let Self { host, peers, counters, .. } = self;
        let peer = peers.of(host, open.peer);
        peer.used_at = now;
        if pushed {
            peer.send.sent();
            counters.envelopes_sent += 1;
            counters.sent_by.envelope(open.channel, frames);
            if open.tells {
                peer.told();
            }
        } else {
            while let Some(out) = peer.send.unsent(open.head.sequence) {
                peer.take_back(host, out, counters);
            }
            counters.drop_frames(DropReason::PathFull, frames);
        }
    }
}
