//! Guests' queues of a multi-queue card: their buffers go to the card, its frames' lengths come
//! back. The frames themselves we do not touch, and do not see.

use std::collections::VecDeque;

use xenvelope_grant::netif::{RSP_ERROR, RX_RING_SLOTS, RxFlags, RxRequest, RxResponse};
use xenvelope_grant::ring::{Back, RingError};
use xenvelope_grant::seam::{Filled, GuestQueue, Hypervisor, NicPort, Unfilled};
use xenvelope_grant::{Gref, Words};

use super::rings_of;
use crate::driver_domain::Backend;
use crate::manager::Steering;
use crate::uplink::PfControl;

/// Pages that are posted, and frames that are answered, with one call.
const BATCH: usize = 64;
/// What the card gives back when its queue ends.
const NOTHING: Result<Filled, Unfilled> = Err(Unfilled::NoLink);

/// A guest's queue, and the ring by which it posts buffers.
pub(crate) struct NicQueue<W, Q> {
    /// The card's part. None while the card has no queue for the guest: what it posts waits.
    queue: Option<Q>,
    /// What the card's part was opened for.
    steering: Steering,
    ring: Back<W, RxRequest, RxResponse>,
    /// Buffers that were taken from the ring and are to be answered, oldest first: at most a ring.
    taken: VecDeque<(u16, Gref)>,
    /// The card has the first so many of them.
    posted: usize,
}

impl<W: Words, Q: GuestQueue> NicQueue<W, Q> {
    /// One without a card's part yet.
    pub fn new(ring: Back<W, RxRequest, RxResponse>, steering: Steering) -> NicQueue<W, Q> {
        let taken = VecDeque::with_capacity(RX_RING_SLOTS as usize);
        NicQueue { queue: None, steering, ring, taken, posted: 0 }
    }

    /// The card's part, while there is one.
    pub fn card(&self) -> Option<&Q> {
        self.queue.as_ref()
    }

    /// Has the card's part opened by `open`, unless it is what is asked for already. Whether there
    /// is one. What the guest has posted goes from one to the next.
    pub fn steer(&mut self, wanted: Option<Steering>, open: impl FnOnce() -> Option<Q>) -> bool {
        if wanted != Some(self.steering) {
            (self.queue, self.posted) = (None, 0);
        }
        if let Some(steering) = wanted
            && self.queue.is_none()
        {
            self.steering = steering;
            self.queue = open();
        }
        self.queue.is_some()
    }

    /// Answers what the card has filled, and gives it new buffers. How many frames came, and
    /// whether there was anything to do.
    fn serve(&mut self) -> Result<(u64, bool), RingError> {
        let Some(queue) = &self.queue else { return Ok((0, false)) };
        let mut frames = 0;
        let mut filled = [NOTHING; BATCH];
        let count = queue.filled(&mut filled).min(self.posted);
        self.posted -= count;
        for filled in &filled[..count] {
            if *filled == NOTHING {
                // And so are all after it: they are posted again, in the same order.
                continue;
            }
            frames += u64::from(filled.is_ok());
            if let Some((id, _)) = self.taken.pop_front() {
                let _ = self.ring.push(&answer(id, filled));
            }
        }
        for _ in 0..self.ring.pending()? {
            let request = self.ring.pop();
            self.taken.push_back((request.id, Gref(request.gref)));
        }
        let mut pages = [Gref(0); BATCH];
        let waiting = self.taken.iter().skip(self.posted).map(|(_, gref)| *gref);
        let mut new = 0;
        for (page, gref) in pages[..queue.room().min(BATCH)].iter_mut().zip(waiting) {
            *page = gref;
            new += 1;
        }
        if new > 0 {
            queue.post(&pages[..new]);
            self.posted += new;
        }
        Ok((frames, count > 0 || new > 0))
    }

    /// Before a sleep: asks for an event when there are new buffers. Whether there are, or the
    /// ring is broken.
    pub fn buffers_have_come(&mut self) -> bool {
        self.queue.is_some() && self.ring.pending_or_ask().map_or(true, |count| count > 0)
    }
}

fn answer(id: u16, filled: &Result<Filled, Unfilled>) -> RxResponse {
    let mut flags = RxFlags::empty();
    let status = match filled {
        Ok(Filled { length, offload }) => {
            flags.set(RxFlags::DATA_VALIDATED, offload.checksum_valid);
            i16::try_from(*length).unwrap_or(RSP_ERROR)
        }
        Err(_) => RSP_ERROR,
    };
    RxResponse { id, offset: 0, flags: flags.bits(), status }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// All guests' queues. Whether there was anything to do.
    pub(super) fn serve_queues(&mut self) -> bool {
        let mut busy = false;
        for (port, queue) in &mut self.nic_queues {
            match queue.serve() {
                Ok((frames, did)) => {
                    self.counters.queue_in += frames;
                    busy |= did;
                }
                Err(_) => self.round.broken.push(*port),
            }
        }
        busy
    }

    /// Publishes the answers.
    pub(super) fn publish_queues(&mut self) {
        for (port, queue) in &mut self.nic_queues {
            let Some(rings) = rings_of(&mut self.vifs, *port) else { continue };
            let Some(first) = rings.queues.first_mut() else { continue };
            if queue.ring.publish() {
                first.kick_rx = true;
                self.awake.wake(*port, rings);
            }
        }
    }
}
