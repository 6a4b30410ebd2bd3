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

use core::ops::Range;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{
    Access, Buffer, Hypervisor, Instant, Mechanism, NicPort, Offload, pages_touched,
};
use xenvelope_switch::envelope::{DeliverHead, EnvelopeBuilder, FrameHead, TAG_LEN};
use xenvelope_switch::table::Entry;

use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::peers::Staged;
use crate::transmit::Run;

/// Bytes that are inspected on a path with L3 or L4 rules, and travel inside the envelope there.
const INSPECTED: usize = 64;

/// The envelope that is being filled.
#[derive(Clone, Copy)]
pub(crate) struct OpenEnvelope {
    pub run: Run,
    head: DeliverHead,
    /// A done rides along.
    tells: bool,
    /// Frames in it are granted.
    granted: bool,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Puts a frame into an envelope to the peer of its run.
    pub(super) fn envelope(
        &mut self,
        staged: Staged<H::Buf>,
        ether_type: u16,
        run: &Run,
        now: Instant,
    ) {
        let payload = staged.frame.start + run.header_len()..staged.frame.end;
        // A frame of MAX_FRAME bytes has at most 65535 after its header.
        let Ok(total) = u16::try_from(payload.len()) else {
            return self.drop_one(DropReason::Malformed);
        };
        let frame = FrameHead { ether_type, total, offload: staged.offload };
        let inline = !run.unvouched && payload.len() <= EnvelopeBuilder::inline_limit();
        self.show(&staged, || run.travel(inline));
        let put = if inline {
            self.put_inline(staged, frame, payload, run, now)
        } else {
            self.put_granted(staged, frame, payload, run, now)
        };
        if let Err(reason) = put {
            self.drop_one(reason);
        }
    }

    /// All of a frame into the envelope.
    fn put_inline(
        &mut self,
        staged: Staged<H::Buf>,
        frame: FrameHead,
        payload: Range<usize>,
        run: &Run,
        now: Instant,
    ) -> Result<(), DropReason> {
        let bytes = staged.buffer.stack_bytes().get(payload).ok_or(DropReason::Malformed)?;
        let open = self.open.as_ref().is_some_and(|open| open.run.number == run.number);
        if !open || self.builder.push_inline(frame, bytes).is_err() {
            self.seal(now);
            self.open_envelope(run)?;
            self.builder.push_inline(frame, bytes).map_err(|_| DropReason::Malformed)?;
        }
        self.counters.inlined_frames += 1;
        self.counters.inlined_bytes += staged.frame.len() as u64;
        self.warm.keep(staged.buffer);
        Ok(())
    }

    /// A frame that is granted, perhaps but for its headers.
    fn put_granted(
        &mut self,
        mut staged: Staged<H::Buf>,
        frame: FrameHead,
        payload: Range<usize>,
        run: &Run,
        now: Instant,
    ) -> Result<(), DropReason> {
        let peer = run.entry.peer;
        let inspected = if run.inspect { payload.len().min(INSPECTED) } else { 0 };
        // The tag goes over the end of the Ethernet header, which travels in the envelope.
        let tag = if run.tagged { TAG_LEN } else { 0 };
        // Where frames do not begin that far into their buffer, there is no room in front.
        let start = (payload.start + inspected).checked_sub(tag).ok_or(DropReason::Malformed)?;
        let used = start..payload.end;
        let head = self.make_room(run, pages_touched(&used), inspected, &staged.offload, now)?;
        let mut headers = [0; INSPECTED];
        let headers = &mut headers[..inspected];
        staged.buffer.get(payload.start, headers);
        if run.tagged {
            staged.buffer.put(used.start, &head.tag().to_bytes());
        }
        if self.peers.of(&self.host, peer).cost() >= self.config.peer_quota {
            return Err(DropReason::PeerFull);
        }
        let granted = if self.keyed_for(peer) {
            // Nobody but us can tell an envelope's nonce before it is sent.
            self.host.grant_keyed(staged.buffer, head.nonce, used).map_err(drop)
        } else {
            self.host.grant(staged.buffer, peer, used, Access::Read).map_err(drop)
        };
        let out = granted.map_err(|()| DropReason::GrantFailed)?;
        let segments = self.host.segments(&out);
        let pushed = if inspected > 0 {
            self.builder.push_granted_with_headers(frame, headers, segments)
        } else {
            self.builder.push_granted(frame, segments)
        };
        let state = self.peers.of(&self.host, peer);
        if pushed.is_err() {
            state.take_back(&self.host, out, &mut self.counters);
            return Err(DropReason::Malformed);
        }
        state.send.keep(head.sequence, out, frame.total.into(), now);
        if let Some(open) = &mut self.open {
            open.granted = true;
        }
        self.counters.granted_frames += 1;
        // What travels in the envelope is not copied: the Ethernet header, inspected bytes.
        self.counters.inlined_bytes += (payload.start - staged.frame.start + inspected) as u64;
        Ok(())
    }

    /// The run of the open envelope.
    pub(super) fn open_run(&self) -> Option<&Run> {
        self.open.as_ref().map(|open| &open.run)
    }

    /// Sees to it that the open envelope takes one more frame of a run. What it says of itself.
    fn make_room(
        &mut self,
        run: &Run,
        segments: usize,
        inline: usize,
        offload: &Offload,
        now: Instant,
    ) -> Result<DeliverHead, DropReason> {
        if let Some(open) = &self.open
            && open.run.number == run.number
            && self.builder.room_for(segments, inline, offload)
        {
            return Ok(open.head);
        }
        self.seal(now);
        self.open_envelope(run)
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

    pub(super) fn open_envelope(&mut self, run: &Run) -> Result<DeliverHead, DropReason> {
        if !self.room(run.channel) {
            return Err(DropReason::PathFull);
        }
        let peer = run.entry.peer;
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
            tagged: run.tagged,
            want_done: cost > quota / 2 || state.send.half_full(),
        };
        // What the peer may be waiting for rides along.
        let done = state.to_tell();
        self.builder.deliver_next(run.addresses, head, done);
        if self.keyed_for(peer) {
            self.builder.mark(Mechanism::Keyed);
        }
        self.open = Some(OpenEnvelope { run: *run, head, tells: done.is_some(), granted: false });
        Ok(head)
    }

    /// Finishes the open envelope and puts it on its way. Nobody has seen it before: when its
    /// destination has become somebody else since the look-up, all that was granted in it is taken
    /// back (rule 1).
    pub(super) fn seal(&mut self, now: Instant) {
        let Some(open) = self.open.take() else {
            return;
        };
        let frames = self.builder.frames() as u64;
        if frames == 0 {
            return;
        }
        let entry = &open.run.entry;
        if open.granted {
            let out = self.peers.of(&self.host, entry.peer).send.bytes();
            if out >= self.config.peer_bytes as u64 {
                // Who asks for room waits from here on.
                self.builder.want_done();
            }
        }
        // Frames may have been put in a while ago: nothing goes by a table whose heart has stopped.
        let fresh = self.table.as_ref().is_some_and(|table| table.fresh);
        let changed = !fresh || open.granted && self.changed(entry, open.run.addresses.vid());
        let pushed = !changed && self.push_built(open.run.channel);
        let Self { host, peers, counters, .. } = self;
        let peer = peers.of(host, entry.peer);
        peer.used_at = now;
        if pushed {
            peer.send.sent();
            counters.envelopes_sent += 1;
            counters.sent_by.envelope(open.run.channel, frames);
            if open.tells {
                peer.told();
            }
            return;
        }
        while let Some(out) = peer.send.unsent(open.head.sequence) {
            peer.take_back(host, out, counters);
        }
        if changed {
            counters.changed_underway += frames;
            self.run = None;
        }
        let reason = if changed { DropReason::NoPath } else { DropReason::PathFull };
        self.counters.drop_frames(reason, frames);
    }
}
