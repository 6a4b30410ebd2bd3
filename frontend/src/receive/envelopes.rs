//! Taking an envelope apart: who sent it, what it finishes, what is to be copied.
//!
//! Who sent it comes from the channel that it came by, or from our own table by its source
//! address; nothing in the envelope names a domain.

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{
    Buffer, Direction, Enclosed, Hypervisor, Instant, Mechanism, NicPort, Offload, Pinned, Sight,
    Travel, Way,
};
use xenvelope_switch::envelope::{Addresses, Body, Deliver, Done, Envelope, FrameRecord, InPlace};
use xenvelope_switch::table::{
    CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, Entry, EntryFlags, FIRST_DIRECT_CHANNEL,
};
use xenvelope_switch::window::BadDone;
use xenvelope_switch::{EthernetHeader, MacAddress};

use super::parcel::Whole;
use super::{Enclosing, Gathered, Received, Via};
use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::transmit::PAYLOAD_AT;

/// Who sends in an address's name, as the table said it in this turn: envelopes come in bursts.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    source: MacAddress,
    vid: u16,
    entry: Entry,
}

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
    /// Takes an envelope apart. If its frames are to be read where they lie, they are given back.
    pub(super) fn take_envelope(&mut self, bytes: &[u8], via: Via, now: Instant) -> Option<Whole> {
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
            Err(_) => {
                self.drop_one(DropReason::BadEnvelope);
                return None;
            }
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
            Err(reason) => {
                self.counters.drop_frames(reason, frames);
                return None;
            }
        };
        let state = self.peers.of(&self.host, sender.peer);
        if state.closed {
            self.counters.drop_frames(DropReason::PeerClosed, frames);
            return None;
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
                        self.counters.drop_frames(DropReason::PeerClosed, frames);
                        return None;
                    }
                }
                let keyed = mechanism == Mechanism::Keyed;
                return self.take_frames(&sender, &envelope.header, deliver, keyed, frames, now);
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
        None
    }

    /// Who sent it, if it may send to us by this path.
    fn sender(&mut self, header: &EthernetHeader, via: Via) -> Result<Sender, DropReason> {
        if header.source == self.mac {
            return Err(DropReason::Looped);
        }
        if header.destination != self.mac {
            return Err(DropReason::NotOurs);
        }
        let (source, vid) = (header.source, header.vid());
        let entry = match self.known {
            Some(known) if (known.source, known.vid) == (source, vid) => known.entry,
            _ => self.lookup(source, vid).ok_or(DropReason::UnknownSource)?,
        };
        self.known = Some(Known { source, vid, entry });
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
        let Self { host, peers, counters, warm, .. } = self;
        let peer = peers.of(host, sender.peer);
        match peer.send.check(done) {
            Ok(()) => {
                let mut pinned = None;
                host.end(peer.send.oldest_done(done));
                peer.send.finish(done, |out| {
                    match host.recycle(out) {
                        Ok(buffer) => warm.keep(buffer),
                        Err(Pinned(out)) => {
                            // It said done and still uses it: its quota, not ours.
                            counters.pinned += 1;
                            pinned.get_or_insert_with(alloc::vec::Vec::new).push(out);
                        }
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
    ) -> Option<Whole> {
        let head = deliver.head;
        let state = self.peers.of(&self.host, sender.peer);
        if state.receive.check(head.epoch, head.sequence).is_err() {
            self.counters.drop_frames(DropReason::Replayed, frames);
            return None;
        }
        if sender.unvouched && !head.tagged {
            self.counters.drop_frames(DropReason::WrongTag, frames);
            return None;
        }
        let granted = deliver.frames.granted();
        if granted > 0 && !sender.unvouched {
            self.note_sent(sender.peer, granted, head.want_done);
        }
        let state = self.peers.of(&self.host, sender.peer);
        if !sender.unvouched {
            // Vouched for: accepted as it is. Else only after the comparison of the tag.
            state.receive.accept(head.epoch, head.sequence, head.nonce, granted, now);
        }
        state.done_wanted |= head.want_done;
        if self.dones_due.last() != Some(&sender.peer) && !self.dones_due.contains(&sender.peer) {
            self.dones_due.push(sender.peer);
        }
        let tag = head.tagged.then(|| head.tag());
        if granted > 0 || sender.unvouched {
            self.batch.envelopes.push(Enclosing {
                header: *header,
                from: sender.peer,
                travel: sender.travel(false),
                tag,
                unvouched: sender.unvouched,
            });
        }
        let travel = sender.travel(true);
        if !sender.unvouched
            && sender.via != Via::Vf
            && !self.parcels.is_empty()
            && let Some(frames) = InPlace::of(header, &deliver)
        {
            return Some(Whole { frames, travel });
        }
        let key = keyed.then_some(head.nonce);
        let mut ethernet = [0; 18];
        let ethernet_len = header.write(&mut ethernet);
        let ethernet = &mut ethernet[..ethernet_len];
        for frame in deliver.frames {
            let inline_only = frame.segments.len() == 0;
            let taken = if inline_only && !sender.unvouched {
                // The frames' header is the envelope's but for the type.
                if let Some(ether_type) = ethernet.last_chunk_mut() {
                    *ether_type = frame.head.ether_type.to_be_bytes();
                }
                self.inline(ethernet, &frame, travel)
            } else if tag.is_some() && !frame.inline.is_empty() {
                // Nothing that the sender alone can write stands behind inline bytes, and the tag
                // would be copied over headers.
                Err(DropReason::WrongTag)
            } else {
                self.prepare_copy(sender.peer, &frame, tag.is_some(), key)
            };
            if let Err(reason) = taken {
                self.drop_one(reason);
            }
        }
        None
    }

    /// A frame that came whole.
    fn inline(
        &mut self,
        header: &[u8],
        frame: &FrameRecord<'_>,
        travel: Travel,
    ) -> Result<(), DropReason> {
        let frame = self.stored(header, frame.inline, frame.head.offload)?;
        self.arrive(frame, travel);
        Ok(())
    }

    /// A frame of those parts, to be read later.
    pub(super) fn stored(
        &mut self,
        header: &[u8],
        payload: &[u8],
        offload: Offload,
    ) -> Result<Received<H::Buf>, DropReason> {
        match self.small.put(header, payload) {
            Some(frame) => Ok(Received::Small { frame, offload }),
            None => self.in_buffer(header, payload, offload),
        }
    }

    /// What came whole has its turn after what is still being copied.
    #[inline]
    pub(super) fn arrive(&mut self, frame: Received<H::Buf>, travel: Travel) {
        if self.batch.gathered.is_empty() && self.flights.is_empty() {
            // Nothing that came before it is still to be copied.
            self.hand_over(frame, travel);
        } else {
            self.batch.gathered.push(Gathered::Frame(frame, travel));
        }
    }

    /// A frame of those parts in a buffer of its own.
    #[cold]
    fn in_buffer(
        &mut self,
        header: &[u8],
        payload: &[u8],
        offload: Offload,
    ) -> Result<Received<H::Buf>, DropReason> {
        let length = PAYLOAD_AT + payload.len();
        let mut buffer = self.buffer_of(length)?;
        let start = PAYLOAD_AT - header.len();
        buffer.put(start, header);
        buffer.put(PAYLOAD_AT, payload);
        Ok(Received::Owned { buffer, frame: start..length, offload })
    }

    /// A buffer for what comes.
    pub(super) fn buffer_of(&mut self, length: usize) -> Result<H::Buf, DropReason> {
        let warm = self.warm.take(length);
        warm.or_else(|| self.host.take(None, length).ok()).ok_or(DropReason::NoBuffer)
    }
}
