//! Taking an envelope apart: who sent it, what it finishes, what is to be copied.
//!
//! Who sent it comes from the channel that it came by, or from our own table by its source
//! address; nothing in the envelope names a domain.

use xenvelope_grant::seam::{
    Buffer, CopyOp, Direction, Enclosed, End, Hypervisor, Instant, Mechanism, NicPort, Pinned,
    Sight, Travel, Way,
};
use xenvelope_grant::{PAGE_SIZE, Peer};
use xenvelope_switch::EthernetHeader;
use xenvelope_switch::envelope::{
    Addresses, Body, Deliver, Done, Envelope, FrameRecord, TAG_LEN, Tag,
};
use xenvelope_switch::table::{
    CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, EntryFlags, FIRST_DIRECT_CHANNEL,
};
use xenvelope_switch::window::BadDone;

use super::{Copying, Gathered, Received, Via};
use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::transmit::PAYLOAD_AT;

/// Who an envelope comes from.
struct Sender {
    peer: Peer,
    /// The path cannot vouch for it: only what bears the right tag is believed.
    unvouched: bool,
    via: Via,
}

impl Sender {
    /// How a frame of its came.
    fn travel(&self, inline: bool) -> Travel {
        let way = match self.via {
            Via::Vf => Way::Nic,
            Via::DriverDomain => Way::DriverDomain,
            Via::Direct(_) => Way::Direct,
        };
        Travel { way, enclosed: Some(Enclosed { peer: self.peer, inline }) }
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    pub(super) fn take_envelope(&mut self, bytes: &[u8], via: Via, now: Instant) {
        self.counters.envelopes_received += 1;
        if via != Via::Vf {
            self.host.observe(|| Sight::Envelope { direction: Direction::In, bytes });
        }
        let channel = match via {
            Via::Vf => CHANNEL_VF,
            Via::DriverDomain => CHANNEL_DRIVER_DOMAIN,
            Via::Direct(_) => FIRST_DIRECT_CHANNEL,
        };
        let envelope = match Envelope::parse(bytes) {
            Ok(envelope) => envelope,
            Err(_) => return self.drop_one(DropReason::BadEnvelope),
        };
        let frames = envelope.carried();
        self.counters.received_by.envelope(channel, frames);
        let mechanism = envelope.mechanism;
        let sender = match mechanism {
            Mechanism::Transitive => self.passer(&envelope, via),
            Mechanism::Keyed if self.host.has(mechanism).is_err() => Err(DropReason::BadEnvelope),
            _ => match (self.sender(&envelope.header, via), &envelope.body) {
                // The driver domain took what was for a guest that is gone by now. Its nonce
                // proves the done.
                (Err(DropReason::UnknownSource), Body::Done { .. }) if via == Via::DriverDomain => {
                    Ok(self.driver_domain())
                }
                (sender, _) => sender,
            },
        };
        let sender = match sender {
            Ok(sender) => sender,
            Err(reason) => return self.counters.drop_frames(reason, frames),
        };
        let state = self.peers.of(&self.host, sender.peer);
        if state.closed {
            return self.counters.drop_frames(DropReason::PeerClosed, frames);
        }
        state.used_at = now;
        state.done_to = Some(Addresses {
            destination: envelope.header.source,
            source: self.mac,
            tci: envelope.header.tci,
        });
        match envelope.body {
            Body::Deliver(deliver) => {
                if let Some(done) = &deliver.done {
                    self.take_done(&sender, done);
                    if self.peers.of(&self.host, sender.peer).closed {
                        return self.counters.drop_frames(DropReason::PeerClosed, frames);
                    }
                }
                let keyed = mechanism == Mechanism::Keyed;
                self.take_frames(&sender, &envelope.header, deliver, keyed, frames, now);
            }
            Body::Done { done, .. } => self.take_done(&sender, &done),
            Body::Reset { epoch } => {
                let known = state.receive.epoch() == Some(epoch);
                // A third guest does not know the epoch, which is a random number.
                if known {
                    state.restart(&self.host, &mut self.counters);
                }
            }
        }
    }

    /// Who sent it, if it may send to us by this path.
    fn sender(&self, header: &EthernetHeader, via: Via) -> Result<Sender, DropReason> {
        if header.source == self.mac {
            return Err(DropReason::Looped);
        }
        if header.destination != self.mac {
            return Err(DropReason::NotOurs);
        }
        let entry = self.lookup(header.source, header.vid()).ok_or(DropReason::UnknownSource)?;
        if let Via::Direct(peer) = via
            && peer != entry.peer
        {
            return Err(DropReason::UnknownSource);
        }
        let unvouched = via == Via::Vf && entry.flags.contains(EntryFlags::TAGGED);
        Ok(Sender { peer: entry.peer, unvouched, via })
    }

    /// The driver domain, if it is that which passes something on: who sent the frames has been
    /// its switch's affair, as with netif, and the references are its own.
    fn passer(&self, envelope: &Envelope<'_>, via: Via) -> Result<Sender, DropReason> {
        if via != Via::DriverDomain || !matches!(envelope.body, Body::Deliver(_)) {
            return Err(DropReason::BadEnvelope);
        }
        if envelope.header.source == self.mac {
            return Err(DropReason::Looped);
        }
        if envelope.header.destination != self.mac {
            return Err(DropReason::NotOurs);
        }
        Ok(self.driver_domain())
    }

    fn driver_domain(&self) -> Sender {
        let peer = Peer { domid: self.control.backend, incarnation: 0 };
        Sender { peer, unvouched: false, via: Via::DriverDomain }
    }

    /// The peer says that it has finished with frames.
    fn take_done(&mut self, sender: &Sender, done: &Done) {
        let Self { host, peers, counters, .. } = self;
        let peer = peers.of(host, sender.peer);
        match peer.send.check(done) {
            Ok(()) => {
                let mut pinned = None;
                peer.send.finish(done, |out| {
                    if let Err(Pinned(out)) = host.recycle(out) {
                        // It said done and still uses it: its quota, not ours.
                        counters.pinned += 1;
                        pinned.get_or_insert_with(alloc::vec::Vec::new).push(out);
                    }
                });
                peer.pinned.extend(pinned.into_iter().flatten());
            }
            Err(BadDone::OtherEpoch) => counters.bad_dones += 1,
            Err(BadDone::NeverSent | BadDone::WrongNonce) => {
                counters.bad_dones += 1;
                // Where the path vouches for the source it is the peer itself that lies.
                if !sender.unvouched {
                    peer.closed = true;
                }
            }
        }
    }

    fn take_frames(
        &mut self,
        sender: &Sender,
        header: &EthernetHeader,
        deliver: Deliver<'_>,
        keyed: bool,
        frames: u64,
        now: Instant,
    ) {
        let head = deliver.head;
        let state = self.peers.of(&self.host, sender.peer);
        if state.receive.check(head.epoch, head.sequence).is_err() {
            return self.counters.drop_frames(DropReason::Replayed, frames);
        }
        if sender.unvouched && !head.tagged {
            return self.counters.drop_frames(DropReason::WrongTag, frames);
        }
        let granted = deliver.frames.clone().any(|frame| frame.segments.len() > 0);
        if granted && !sender.unvouched {
            self.note_sent(sender.peer, head.want_done);
        }
        let state = self.peers.of(&self.host, sender.peer);
        if !sender.unvouched {
            // Vouched for: accepted as it is. Else only after the comparison of the tag.
            state.receive.accept(head.epoch, head.sequence, head.nonce, granted, now);
        }
        state.done_wanted |= head.want_done;
        if !self.dones_due.contains(&sender.peer) {
            self.dones_due.push(sender.peer);
        }
        self.batch.envelopes = self.batch.envelopes.wrapping_add(1);
        let tag = head.tagged.then(|| head.tag());
        let key = keyed.then_some(head.nonce);
        for frame in deliver.frames {
            let inline_only = frame.segments.len() == 0;
            let taken = if inline_only && !sender.unvouched {
                self.inline(sender, header, &frame)
            } else if tag.is_some() && !frame.inline.is_empty() {
                // Nothing that the sender alone can write stands behind inline bytes, and the tag
                // would be copied over headers.
                Err(DropReason::WrongTag)
            } else {
                self.prepare_copy(sender, header, &frame, tag, key)
            };
            if let Err(reason) = taken {
                self.drop_one(reason);
            }
        }
    }

    /// A frame that came whole.
    fn inline(
        &mut self,
        sender: &Sender,
        header: &EthernetHeader,
        frame: &FrameRecord<'_>,
    ) -> Result<(), DropReason> {
        let length = PAYLOAD_AT + frame.inline.len();
        let mut buffer = self.host.take(None, length).map_err(|_| DropReason::NoBuffer)?;
        let mut bytes = [0; 18];
        let written =
            EthernetHeader { ether_type: frame.head.ether_type, ..*header }.write(&mut bytes);
        let start = PAYLOAD_AT - written;
        buffer.put(start, &bytes[..written]);
        buffer.put(PAYLOAD_AT, frame.inline);
        let frame = Received::Owned { buffer, frame: start..length, offload: frame.head.offload };
        self.batch.gathered.push(Gathered::Frame(frame, sender.travel(true)));
        Ok(())
    }

    /// A frame that is to be copied from the sender's pages.
    fn prepare_copy(
        &mut self,
        sender: &Sender,
        header: &EthernetHeader,
        frame: &FrameRecord<'_>,
        tag: Option<Tag>,
        key: Option<u64>,
    ) -> Result<(), DropReason> {
        let total = frame.head.total as usize;
        let payload_at = match key {
            None => PAYLOAD_AT,
            Some(_) => aligned(frame, tag.is_some()),
        };
        let mut buffer =
            self.host.take(None, payload_at + total).map_err(|_| DropReason::NoBuffer)?;
        let index =
            u16::try_from(self.batch.copies.buffers.len()).map_err(|_| DropReason::NoBuffer)?;
        // Headers that were inspected are delivered as they were inspected: what the page says
        // there is never looked at.
        buffer.put(payload_at, frame.inline);
        let mut at = payload_at + frame.inline.len();
        if tag.is_some() {
            at -= TAG_LEN;
        }
        let first = self.batch.copies.ops.len();
        for segment in frame.segments.clone() {
            let (mut offset, mut left) = (segment.offset, segment.len as usize);
            while left > 0 {
                // Neither end may cross a page.
                let piece = left.min(PAGE_SIZE - at % PAGE_SIZE);
                let (dom, gref) = (sender.peer.domid, segment.gref);
                let src = match key {
                    None => End::Foreign { dom, gref, offset },
                    Some(key) => End::Keyed { dom, gref, offset, key },
                };
                let dst = End::Local { buffer: index, offset: at as u32 };
                self.batch.copies.ops.push(CopyOp::new(src, dst, piece as u16));
                at += piece;
                left -= piece;
                offset += piece as u16;
            }
        }
        let ops = first..self.batch.copies.ops.len();
        self.batch.copies.buffers.push(buffer);
        self.batch.gathered.push(Gathered::Copying(Copying {
            ops,
            header: EthernetHeader { ether_type: frame.head.ether_type, ..*header },
            total,
            offload: frame.head.offload,
            from: sender.peer,
            travel: sender.travel(false),
            tag,
            unvouched: sender.unvouched,
            envelope: self.batch.envelopes,
            inline: frame.inline.len(),
            payload_at,
        }));
        Ok(())
    }

    /// Compares the tag that was copied with the envelope's. If it is another, the envelope is a
    /// forgery, or it waited for so long that its sender took the grant back and used the reference
    /// for another frame. On a path that cannot vouch only a match moves the window.
    pub(super) fn tag_matches(
        &mut self,
        frame: &Copying,
        buffer: &H::Buf,
        accepted: &mut Option<u32>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Some(tag) = &frame.tag else { return Ok(()) };
        self.counters.tag_bytes += TAG_LEN as u64;
        let mut copied = [0; TAG_LEN];
        buffer.get(frame.payload_at + frame.inline - TAG_LEN, &mut copied);
        if !tag.matches(&copied) {
            return Err(DropReason::WrongTag);
        }
        if frame.unvouched && *accepted != Some(frame.envelope) {
            let window = &mut self.peers.of(&self.host, frame.from).receive;
            if window.check(tag.epoch, tag.sequence).is_err() {
                return Err(DropReason::Replayed);
            }
            window.accept(tag.epoch, tag.sequence, tag.nonce, true, now);
            *accepted = Some(frame.envelope);
        }
        Ok(())
    }
}

/// Where the payload goes so that each segment lies in its page as it does in the sender's: a key
/// is good for one operation, and an operation ends at the page's end of either side.
fn aligned(frame: &FrameRecord<'_>, tagged: bool) -> usize {
    let offset = frame.segments.clone().next().map_or(0, |segment| usize::from(segment.offset));
    // Before the segment's bytes lies what came inline; the tag is in front of the payload.
    let before = frame.inline.len();
    let at = if tagged { offset + TAG_LEN } else { offset };
    // A page further if there were no room for the Ethernet header.
    if at >= before + PAYLOAD_AT { at - before } else { at + PAGE_SIZE - before }
}
