//! The back: takes requests out, puts responses in.

use core::marker::PhantomData;
use core::mem::size_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{RingError, RingFull, RingLayout, pending, publish};
use crate::Words;

/// The back of a ring whose slots are `Req` and `Rsp`.
pub struct Back<W, Req, Rsp> {
    words: W,
    layout: RingLayout,
    /// The next response's index, not yet published: `rsp_prod_pvt`.
    rsp_prod: u32,
    /// What we last published of it.
    published: u32,
    /// The next request's index: `req_cons`.
    req_cons: u32,
    slots: PhantomData<(Req, Rsp)>,
}

impl<W, Req, Rsp> Back<W, Req, Rsp>
where
    W: Words,
    Req: FromBytes + IntoBytes,
    Rsp: IntoBytes + Immutable,
{
    /// A ring in pages that the front has initialised: `BACK_RING_ATTACH`. It begins where the
    /// last back stopped answering: what a back that died had taken and not answered is taken
    /// again.
    ///
    /// A slot that it had answered without publishing holds the response, in the place of the
    /// request's first bytes. Who takes over from a dead back must expect such slots.
    ///
    /// # Panics
    /// If the pages are smaller than the layout, or a slot type is larger than the stride.
    pub fn attach(words: W, layout: RingLayout) -> Self {
        assert!(words.size() >= layout.size(), "the ring does not fit its pages");
        assert!(size_of::<Req>() <= layout.stride && size_of::<Rsp>() <= layout.stride);
        let start = words.load_u32(layout.rsp_prod, Acquire);
        Back {
            words,
            layout,
            rsp_prod: start,
            published: start,
            req_cons: start,
            slots: PhantomData,
        }
    }

    /// How many requests wait to be taken. More than the ring holds is an error:
    /// `RING_REQUEST_PROD_OVERFLOW`.
    #[inline]
    pub fn pending(&self) -> Result<u32, RingError> {
        // Acquire is rmb(): the index before the slots.
        let published = self.words.load_u32(self.layout.req_prod, Acquire);
        pending(published, self.req_cons, self.layout.slots - self.unanswered())
    }

    /// Requests taken and not yet answered.
    #[inline]
    pub fn unanswered(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod)
    }

    /// The index of the request that [`Back::pop`] takes next.
    pub fn next_index(&self) -> u32 {
        self.req_cons
    }

    /// Takes the next request out, if `pending` said that there is one. The slot is read once.
    pub fn pop(&mut self) -> Req {
        let mut request = Req::new_zeroed();
        self.words.copy_out(self.layout.slot(self.req_cons), request.as_mut_bytes());
        self.req_cons = self.req_cons.wrapping_add(1);
        request
    }

    /// As [`Back::pop`], of a request that says itself how long it is: the first `head` bytes, and
    /// then as many in all as `length` makes of them. Each byte is read once; what is behind them
    /// stays as it was in `request`. How many there are.
    ///
    /// # Panics
    /// If `head` is not a multiple of 8, or more than a request.
    #[inline]
    pub fn pop_bytes(
        &mut self,
        request: &mut Req,
        head: usize,
        length: impl FnOnce(&[u8]) -> usize,
    ) -> usize {
        let at = self.layout.slot(self.req_cons);
        let (first, rest) = request.as_mut_bytes().split_at_mut(head);
        self.words.copy_out(at, first);
        let length = length(first).min(head + rest.len());
        let more = length.saturating_sub(head).next_multiple_of(8).min(rest.len());
        self.words.copy_out(at + head, &mut rest[..more]);
        self.req_cons = self.req_cons.wrapping_add(1);
        length
    }

    /// The request that [`Back::pop`] takes next, left where it is. What decides something must
    /// be decided by one copy: use this only where the request is not used afterwards.
    pub fn peek(&self) -> Req {
        let mut request = Req::new_zeroed();
        self.words.copy_out(self.layout.slot(self.req_cons), request.as_mut_bytes());
        request
    }

    /// Puts the next response in. Fails if there is no request that it could answer.
    pub fn push(&mut self, response: &Rsp) -> Result<(), RingFull> {
        if self.unanswered() == 0 {
            return Err(RingFull);
        }
        self.words.copy_in(self.layout.slot(self.rsp_prod), response.as_bytes());
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
        Ok(())
    }

    /// Answers everything taken so far with responses that carry nothing: the slots are empty.
    #[inline]
    pub fn release_all(&mut self) {
        self.rsp_prod = self.req_cons;
    }

    /// Publishes all responses since the last time. Whether the front wants an event.
    #[inline]
    #[must_use = "the front sleeps until it gets the event that it asked for"]
    pub fn publish(&mut self) -> bool {
        publish(
            &self.words,
            self.layout.rsp_prod,
            self.layout.rsp_event,
            &mut self.published,
            self.rsp_prod,
        )
    }

    /// Asks for an event at the next request and looks once more:
    /// `RING_FINAL_CHECK_FOR_REQUESTS`. Go to sleep only if this says 0.
    pub fn pending_or_ask(&mut self) -> Result<u32, RingError> {
        self.ask_after(1)
    }

    /// As [`Back::pending_or_ask`], with an event only when `more` requests have come: a frame
    /// that waits for receive buffers needs so many at once.
    pub fn ask_after(&mut self, more: u32) -> Result<u32, RingError> {
        let waiting = self.pending()?;
        if waiting >= more {
            return Ok(waiting);
        }
        self.words.store_u32(self.layout.req_event, self.req_cons.wrapping_add(more), Relaxed);
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
