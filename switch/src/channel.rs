//! A channel that carries envelopes: two rings, one for each direction, of slots that hold a
//! whole envelope each.
//!
//! The rings are Xen's (`xenvelope_grant::ring`), in the layout that gives each writer cache
//! lines of its own. A request is an envelope; a response carries nothing and says that a slot
//! is empty again. The same channel leads to the driver domain and, directly, to another guest.

use crate::envelope::{MAX_ENVELOPE, claimed_length};
use thiserror::Error;
use xenvelope_grant::Words;
use xenvelope_grant::ring::{Back, Front, RingError, RingLayout};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Pages of one envelope ring: a header and 32 slots.
pub const RING_PAGES: usize = 9;

/// The layout of an envelope ring.
pub const LAYOUT: RingLayout = RingLayout::own_lines::<Slot>(RING_PAGES);

/// A slot: one envelope, an Ethernet frame that says its own length.
#[repr(C, align(8))]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Slot(pub [u8; MAX_ENVELOPE]);

impl Default for Slot {
    fn default() -> Slot {
        Slot::empty()
    }
}

impl Slot {
    /// Room for an envelope.
    pub const fn empty() -> Slot {
        Slot([0; MAX_ENVELOPE])
    }
}

/// Bytes of a slot that are read first. They hold the head of every envelope.
const HEAD: usize = 64;

/// The channel has no free slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the envelope channel is full")]
pub struct ChannelFull;

/// One end of an envelope channel.
pub struct EnvelopeChannel<W> {
    send: Front<W, Slot, ()>,
    receive: Back<W, Slot, ()>,
}

impl<W: Words> EnvelopeChannel<W> {
    /// A channel over a ring that we send on and one that we receive on, both initialised.
    pub fn new(send: Front<W, Slot, ()>, receive: Back<W, Slot, ()>) -> EnvelopeChannel<W> {
        EnvelopeChannel { send, receive }
    }

    /// A channel over rings that a process of ours before us has used, and that it may have left
    /// in the middle. What it had sent and the other side has not taken still counts as sent;
    /// what it had taken and not released comes again, and receivers know it by its sequence
    /// number. On new rings this is a new channel.
    ///
    /// # Errors
    /// If the sending ring's indices cannot be.
    pub fn resume(send: W, receive: W) -> Result<EnvelopeChannel<W>, RingError> {
        let send = Front::resume(send, LAYOUT)?;
        Ok(EnvelopeChannel { send, receive: Back::attach(receive, LAYOUT) })
    }

    /// How many envelopes can be put in.
    #[inline]
    pub fn room(&mut self) -> Result<u32, RingError> {
        if self.send.free() == 0 {
            let emptied = self.send.pending()?;
            self.send.discard(emptied);
        }
        Ok(self.send.free())
    }

    /// Puts an envelope in: an Ethernet frame of at most [`MAX_ENVELOPE`] bytes. The other side
    /// does not see it before [`EnvelopeChannel::publish`].
    #[inline]
    pub fn push(&mut self, envelope: &[u8]) -> Result<(), ChannelFull> {
        if envelope.len() > MAX_ENVELOPE {
            return Err(ChannelFull);
        }
        self.send.push_bytes(envelope).map_err(|_| ChannelFull)
    }

    /// How many envelopes have come.
    #[inline]
    pub fn pending(&self) -> Result<u32, RingError> {
        self.receive.pending()
    }

    /// Takes the next envelope out, if there is one by [`EnvelopeChannel::pending`]: a private
    /// copy of as many bytes as it says that it has.
    #[inline]
    pub fn pop<'s>(&mut self, into: &'s mut Slot) -> &'s [u8] {
        let length = self.receive.pop_bytes(into, HEAD, claimed_length);
        &into.0[..length]
    }

    /// Publishes what was put in and what was taken out. Whether the other side asked for an
    /// event.
    #[inline]
    #[must_use = "the other side sleeps until it gets the event that it asked for"]
    pub fn publish(&mut self) -> bool {
        let sent = self.send.publish();
        self.receive.release_all();
        let emptied = self.receive.publish();
        sent | emptied
    }

    /// Asks for an event at the next envelope, and looks once more. Sleep only if it says 0.
    pub fn pending_or_ask(&mut self) -> Result<u32, RingError> {
        self.receive.pending_or_ask()
    }

    /// Envelopes that were put in and that the other side has not taken out.
    pub fn unread(&mut self) -> Result<u32, RingError> {
        let emptied = self.send.pending()?;
        self.send.discard(emptied);
        Ok(self.send.outstanding())
    }

    /// The envelopes that the other side has not taken out, oldest first.
    ///
    /// # Errors
    /// If it says that it has taken more than there were.
    pub fn untaken(&mut self) -> Result<impl Iterator<Item = Slot> + '_, RingError> {
        self.unread()?;
        Ok(self.send.unanswered())
    }

    /// The memory of the two rings, to be given back.
    pub fn into_words(self) -> (W, W) {
        (self.send.into_words(), self.receive.into_words())
    }
}
