//! The front: puts requests in, takes responses out.

use core::marker::PhantomData;
use core::mem::size_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{RingError, RingFull, RingLayout, pending, publish};
use crate::Words;

/// The front of a ring whose slots are `Req` and `Rsp`.
pub struct Front<W, Req, Rsp> {
    words: W,
    layout: RingLayout,
    /// The next request's index, not yet published: `req_prod_pvt`.
    req_prod: u32,
    /// What we last published of it.
    published: u32,
    /// The next response's index: `rsp_cons`.
    rsp_cons: u32,
    slots: PhantomData<(Req, Rsp)>,
}

impl<W, Req, Rsp> Front<W, Req, Rsp>
where
    W: Words,
    Req: IntoBytes + Immutable,
    Rsp: FromBytes + IntoBytes,
{
    /// A ring in new pages: `SHARED_RING_INIT` and `FRONT_RING_INIT`. Each side is told of the
    /// first entry.
    ///
    /// # Panics
    /// If the pages are smaller than the layout, or a slot type is larger than the stride.
    pub fn new(words: W, layout: RingLayout) -> Self {
        Self::starting_at(words, layout, 0)
    }

    /// As [`Front::new`], with indices that start at `start`, so that tests reach the wrap.
    pub fn starting_at(words: W, layout: RingLayout, start: u32) -> Self {
        let ring = Self::over(words, layout, start);
        ring.words.store_u32(layout.req_prod, start, Relaxed);
        ring.words.store_u32(layout.rsp_prod, start, Relaxed);
        ring.words.store_u32(layout.req_event, start.wrapping_add(1), Relaxed);
        ring.words.store_u32(layout.rsp_event, start.wrapping_add(1), Relaxed);
        ring
    }

    /// A ring that the other side has initialised, with nothing outstanding: `FRONT_RING_ATTACH`
    /// for a channel whose pages the consumer gave. It begins where the index stands; a wrong
    /// index there harms only the channel of who wrote it.
    ///
    /// # Panics
    /// If the pages are smaller than the layout, or a slot type is larger than the stride.
    pub fn attach(words: W, layout: RingLayout) -> Self {
        let start = words.load_u32(layout.req_prod, Acquire);
        Self::over(words, layout, start)
    }

    /// A ring on which another front, of ours, has put requests in before, and died or was
    /// replaced: `FRONT_RING_ATTACH` with what is outstanding taken over. The next request goes
    /// where the dead front's published index stands; what it had put in and not published is
    /// lost. On a ring on which nothing has happened yet this is [`Front::attach`].
    ///
    /// Responses that have come and were not taken count as taken: this is for rings whose
    /// responses carry nothing (an envelope ring's slots are empty again). Indices that cannot
    /// be are an error: the peer writes in this page too.
    ///
    /// # Panics
    /// If the pages are smaller than the layout, or a slot type is larger than the stride.
    pub fn resume(words: W, layout: RingLayout) -> Result<Self, RingError> {
        let start = words.load_u32(layout.req_prod, Acquire);
        let answered = words.load_u32(layout.rsp_prod, Acquire);
        pending(start, answered, layout.slots)?;
        let mut ring = Self::over(words, layout, start);
        ring.rsp_cons = answered;
        Ok(ring)
    }

    fn over(words: W, layout: RingLayout, start: u32) -> Self {
        assert!(words.size() >= layout.size(), "the ring does not fit its pages");
        assert!(size_of::<Req>() <= layout.stride && size_of::<Rsp>() <= layout.stride);
        Front {
            words,
            layout,
            req_prod: start,
            published: start,
            rsp_cons: start,
            slots: PhantomData,
        }
    }

    /// How many requests can be put in: `RING_FREE_REQUESTS`.
    #[inline]
    pub fn free(&self) -> u32 {
        self.layout.slots - self.outstanding()
    }

    /// Requests put in whose responses we have not taken.
    #[inline]
    pub fn outstanding(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// The index that the next request gets.
    pub fn next_index(&self) -> u32 {
        self.req_prod
    }

    /// Puts a request in. The back does not see it before [`Front::publish`].
    pub fn push(&mut self, request: &Req) -> Result<(), RingFull> {
        if self.free() == 0 {
            return Err(RingFull);
        }
        self.words.copy_in(self.layout.slot(self.req_prod), request.as_bytes());
        self.req_prod = self.req_prod.wrapping_add(1);
        Ok(())
    }

    /// Puts in a request that says itself how long it is: what is behind it in the slot stays as it
    /// was, which is what the peer has seen before. Of the last word the rest is zeros.
    ///
    /// # Panics
    /// If it is longer than a slot.
    #[inline]
    pub fn push_bytes(&mut self, request: &[u8]) -> Result<(), RingFull> {
        assert!(request.len() <= size_of::<Req>(), "a request of {} bytes", request.len());
        if self.free() == 0 {
            return Err(RingFull);
        }
        let (words, rest) = request.as_chunks::<8>();
        let at = self.layout.slot(self.req_prod);
        self.words.copy_in(at, words.as_flattened());
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            // A slot is a whole number of words: they are aligned for that.
            let left = (size_of::<Req>() - 8 * words.len()).min(last.len());
            self.words.copy_in(at + 8 * words.len(), &last[..left]);
        }
        self.req_prod = self.req_prod.wrapping_add(1);
        Ok(())
    }

    /// Publishes all requests since the last time. Whether the back wants an event.
    #[inline]
    #[must_use = "the back sleeps until it gets the event that it asked for"]
    pub fn publish(&mut self) -> bool {
        publish(
            &self.words,
            self.layout.req_prod,
            self.layout.req_event,
            &mut self.published,
            self.req_prod,
        )
    }

    /// How many responses wait to be taken. More than there are requests outstanding is an
    /// error.
    #[inline]
    pub fn pending(&self) -> Result<u32, RingError> {
        // Acquire is rmb(): the index before the slots.
        let published = self.words.load_u32(self.layout.rsp_prod, Acquire);
        pending(published, self.rsp_cons, self.published.wrapping_sub(self.rsp_cons))
    }

    /// Takes the next response out, if `pending` said that there is one. The slot is read once.
    pub fn pop(&mut self) -> Rsp {
        let mut response = Rsp::new_zeroed();
        self.words.copy_out(self.layout.slot(self.rsp_cons), response.as_mut_bytes());
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        response
    }

    /// Takes `count` responses that carry nothing: slots that the back has emptied. No more than
    /// [`Front::pending`] said.
    #[inline]
    pub fn discard(&mut self, count: u32) {
        self.rsp_cons = self.rsp_cons.wrapping_add(count);
    }

    /// The requests whose responses have not been taken, oldest first, as they lie in the ring now:
    /// where the back can write them, it may have.
    pub fn unanswered(&self) -> impl Iterator<Item = Req> + '_
    where
        Req: FromBytes,
    {
        (0..self.outstanding()).map(|index| {
            let mut request = Req::new_zeroed();
            let slot = self.layout.slot(self.rsp_cons.wrapping_add(index));
            self.words.copy_out(slot, request.as_mut_bytes());
            request
        })
    }

    /// Asks for an event at the next response and looks once more:
    /// `RING_FINAL_CHECK_FOR_RESPONSES`. Go to sleep only if this says 0.
    pub fn pending_or_ask(&mut self) -> Result<u32, RingError> {
        self.ask_after(1)
    }

    /// As [`Front::pending_or_ask`], with an event only when `more` responses have come.
    pub fn ask_after(&mut self, more: u32) -> Result<u32, RingError> {
        let waiting = self.pending()?;
        if waiting >= more {
            return Ok(waiting);
        }
        self.words.store_u32(self.layout.rsp_event, self.rsp_cons.wrapping_add(more), Relaxed);
        // mb(): the event index before the second look.
        self.words.full_barrier();
        self.pending()
    }

    /// The memory.
    pub fn words(&self) -> &W {
        &self.words
    }

    /// The memory, when the ring is no longer used.
    pub fn into_words(self) -> W {
        self.words
    }
}
