//! Batches whose copies are on their way.
//!
//! Where the hypervisor copies with an engine, a batch is handed over and the next one is gathered
//! meanwhile. Where it copies at once, a batch is finished when it has been handed over, and the
//! rest is the same.
//!
//! Whatever the copies take, batches are delivered one after the other, and a peer is told done
//! only of envelopes whose copies are finished: it may use their pages for something else then.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{
    CallFailed, CopyTicket, Direction, Granter, Host, Hypervisor, Instant, NicPort, Sight,
    Submitted, Travel,
};
use xenvelope_switch::envelope::{Done, MAX_ENVELOPE};

use super::{Batch, Gathered, Received, finish};
use crate::counters::DropReason;
use crate::interface::{Frontend, INBOX};
use crate::peers::PeerState;

/// Batches that may be on their way. While there are that many, what comes waits in the rings.
const FLIGHTS: usize = 4;

/// Frames that a batch of an engine's has room for from the start.
const ROOM: usize = INBOX / 2;

/// Bytes to be copied of what one path brings after which the others get their turn.
const PATH_BYTES: usize = 512 * 1024;

/// Frames that fit into one envelope: of one byte each.
const MAX_FRAMES: usize = 128;
const _: () = assert!(MAX_FRAMES * (8 + 1) >= MAX_ENVELOPE, "a record has 8 bytes at least");

/// What one peer sent of a batch that is to be copied.
pub(super) struct Sent {
    peer: Peer,
    /// Granted frames.
    frames: u32,
    /// Bytes of those.
    bytes: usize,
    /// What it may be told when the batch has been copied.
    done: Option<Done>,
    /// It asked for a done.
    wanted: bool,
}

enum Copies {
    Underway(CopyTicket),
    Finished(Result<(), CallFailed>),
}

struct Flight<H: Hypervisor> {
    batch: Batch<H>,
    copies: Copies,
}

/// The batches that have been handed over, oldest first.
pub(crate) struct Flights<H: Hypervisor> {
    underway: VecDeque<Flight<H>>,
    /// The space of others.
    spare: Vec<Batch<H>>,
    /// Frames in those underway.
    frames: usize,
    /// Space was made for as many as there may be.
    has_room: bool,
}

impl<H: Hypervisor> Default for Flights<H> {
    fn default() -> Self {
        let (underway, spare) = (VecDeque::with_capacity(FLIGHTS), Vec::with_capacity(FLIGHTS + 1));
        Flights { underway, spare, frames: 0, has_room: false }
    }
}

impl<H: Hypervisor> Flights<H> {
    /// There is an engine: so many batches may be on their way at once. Their space is made when
    /// the first one is, and not when there happen to be so many. True if it was made now.
    fn make_room(&mut self) -> bool {
        if core::mem::replace(&mut self.has_room, true) {
            return false;
        }
        self.spare.clear();
        self.spare.extend((0..FLIGHTS).map(|_| Batch::with_room(ROOM)));
        true
    }

    /// Whether none is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.underway.is_empty()
    }

    /// Whether no more can be handed over.
    pub(crate) fn is_full(&self) -> bool {
        self.underway.len() >= FLIGHTS
    }

    /// Frames in pages that the driver domain takes back are lost. How many.
    pub(crate) fn lose_area(&mut self) -> usize {
        let mut lost = 0;
        for flight in &mut self.underway {
            flight.batch.gathered.retain(|gathered| {
                let in_area = matches!(gathered, Gathered::Frame(frame, _) if frame.in_area());
                lost += usize::from(in_area);
                !in_area
            });
        }
        self.frames = self.frames.saturating_sub(lost);
        lost
    }

    /// Nobody will ask for what is on its way.
    pub(crate) fn abandon(&mut self, host: &H) {
        for flight in self.underway.drain(..) {
            if let Copies::Underway(ticket) = flight.copies {
                host.abandon(ticket);
            }
        }
        self.frames = 0;
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Whether nothing more can be taken in now, and if so, whether that is the stack's doing.
    pub(super) fn is_full(&self) -> Option<bool> {
        if self.inbox.len() >= INBOX / 2 {
            Some(true)
        } else if self.flights.is_full() || self.inbox.len() + self.flights.frames >= INBOX / 2 {
            Some(false)
        } else {
            None
        }
    }

    /// Whether one more envelope of a path stays where it is: its frames might find no place, or
    /// so much is to be copied from that path, which began when `before` bytes were, that what is
    /// copied first would not be warm any more when it is read.
    #[inline]
    pub(super) fn is_crowded(&self, before: usize) -> bool {
        self.inbox.len() + self.flights.frames + self.batch.gathered.len() > INBOX - MAX_FRAMES
            || self.batch.bytes - before >= PATH_BYTES
    }

    /// Notes that an envelope of that peer's has so many granted frames, which are copied with the
    /// batch. Before the envelope is accepted.
    pub(super) fn note_sent(&mut self, peer: Peer, frames: u32, wanted: bool) {
        let state = self.peers.of(&self.host, peer);
        match self.batch.senders.iter_mut().rev().find(|sent| sent.peer == peer) {
            Some(sent) => {
                sent.frames += frames;
                sent.wanted |= wanted;
            }
            None => {
                state.copies_begin();
                self.batch.senders.push(Sent { peer, frames, bytes: 0, done: None, wanted });
            }
        }
    }

    /// Notes that so many bytes of that peer's are copied with the batch.
    pub(super) fn note_bytes(&mut self, peer: Peer, bytes: usize) {
        self.batch.bytes += bytes;
        if let Some(sent) = self.batch.senders.iter_mut().rev().find(|sent| sent.peer == peer) {
            sent.bytes += bytes;
        }
    }

    /// Hands over what was gathered, with one call.
    #[inline]
    pub(super) fn submit_batch(&mut self) {
        if !(self.batch.gathered.is_empty() && self.batch.senders.is_empty()) {
            self.submit_gathered();
        }
    }

    fn submit_gathered(&mut self) {
        let spare = self.flights.spare.pop().unwrap_or_default();
        let mut batch = core::mem::replace(&mut self.batch, spare);
        for sent in &mut batch.senders {
            sent.done = self.peers.get(sent.peer).and_then(|state| state.receive.done());
        }
        let copies = if batch.copies.ops.is_empty() {
            Copies::Finished(Ok(()))
        } else {
            match self.host.submit(&mut batch.copies) {
                Submitted::Finished(result) => Copies::Finished(result),
                Submitted::Underway(ticket) => {
                    if self.flights.make_room() {
                        self.batch = Batch::with_room(ROOM);
                    }
                    Copies::Underway(ticket)
                }
            }
        };
        self.flights.frames += batch.gathered.len();
        self.flights.underway.push_back(Flight { batch, copies });
    }

    /// Delivers the batches that have been copied, oldest first, up to the first that has not.
    /// Whether there was one.
    #[inline]
    pub(super) fn deliver_finished(&mut self, now: Instant) -> bool {
        !self.flights.is_empty() && self.deliver_those_finished(now)
    }

    fn deliver_those_finished(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(flight) = self.flights.underway.front_mut() {
            let result = match flight.copies {
                Copies::Finished(result) => result,
                Copies::Underway(ticket) => {
                    match self.host.finished(ticket, &mut flight.batch.copies) {
                        Some(result) => result,
                        None => break,
                    }
                }
            };
            let Some(mut flight) = self.flights.underway.pop_front() else { break };
            self.flights.frames -= flight.batch.gathered.len();
            self.deliver(&mut flight.batch, result.is_ok(), now);
            for sent in flight.batch.senders.drain(..) {
                let Some(state) = self.peers.get(sent.peer) else { continue };
                state.copies_end(&sent, now);
                if !self.dones_due.contains(&sent.peer) {
                    self.dones_due.push(sent.peer);
                }
            }
            // The one that was used last is used next, so that one is enough where copies are
            // finished at once. Nothing is being gathered now.
            // Those from before there was an engine are not used again.
            if !self.flights.has_room || flight.batch.gathered.capacity() >= ROOM {
                self.flights.spare.push(core::mem::replace(&mut self.batch, flight.batch));
            }
            any = true;
        }
        any
    }

    /// Everything of a batch, in order of arrival. The batch is empty afterwards.
    fn deliver(&mut self, batch: &mut Batch<H>, copied: bool, now: Instant) {
        let mut accepted = None;
        let mut buffers = batch.copies.buffers.drain(..);
        for gathered in batch.gathered.drain(..) {
            let (received, travel) = match gathered {
                Gathered::Frame(received, travel) => (received, travel),
                Gathered::Copying(frame) => {
                    let Some(buffer) = buffers.next() else { break };
                    let Some(envelope) = batch.envelopes.get(frame.envelope) else { break };
                    let mut ops = batch.copies.ops[frame.ops.clone()].iter();
                    let verdict = if !copied || ops.any(|op| op.status.check().is_err()) {
                        Err(DropReason::CopyFailed)
                    } else {
                        self.tag_matches(&frame, envelope, &buffer, &mut accepted, now)
                    };
                    match verdict {
                        Ok(()) => (finish(frame, envelope, buffer), envelope.travel),
                        Err(reason) => {
                            self.drop_one(reason);
                            continue;
                        }
                    }
                }
            };
            self.hand_over(received, travel);
        }
        drop(buffers);
        batch.copies.ops.clear();
        batch.envelopes.clear();
        batch.bytes = 0;
    }

    /// Puts a frame where the stack finds it.
    #[inline]
    pub(super) fn hand_over(&mut self, received: Received<H::Buf>, travel: Travel) {
        if received.in_area() && self.driver.is_none() {
            // The connection ended while the batch was being gathered.
            self.drop_one(DropReason::BadResponse);
        } else if self.inbox.len() >= INBOX {
            let frames = received.frames();
            self.discard(received);
            self.counters.drop_frames(DropReason::InboxFull, frames as u64);
        } else {
            if !matches!(received, Received::Parcel(_)) {
                self.host.observe(|| Sight::Frame {
                    direction: Direction::In,
                    travel,
                    bytes: self.bytes_of(&received),
                });
            }
            self.inbox.push_back(received);
        }
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Drop for Frontend<H, N> {
    fn drop(&mut self) {
        self.flights.abandon(&self.host);
    }
}

impl<G: Granter + Host> PeerState<G> {
    /// An envelope of this peer's is the first of a batch that is to be copied.
    fn copies_begin(&mut self) {
        if self.copying == 0 {
            self.told_up_to = self.receive.done();
            self.news = self.receive.waiting_since().is_some();
        }
        self.copying += 1;
    }

    /// A batch has been copied: the peer may be told of what it sent of it.
    fn copies_end(&mut self, sent: &Sent, now: Instant) {
        self.copying = self.copying.saturating_sub(1);
        self.told_up_to = sent.done;
        self.news = true;
        self.done_wanted |= sent.wanted;
        self.untold += sent.bytes;
        self.receive.owe(sent.frames, now);
    }

    /// What there is to tell the peer of its envelopes, if there is anything new.
    pub(crate) fn to_tell(&self) -> Option<Done> {
        self.receive.waiting_since()?;
        match self.copying {
            0 => self.receive.done(),
            _ if self.news => self.told_up_to,
            _ => None,
        }
    }

    /// It has been told.
    pub(crate) fn told(&mut self) {
        self.receive.told();
        self.done_wanted = false;
        self.untold = 0;
        self.news = false;
    }
}
