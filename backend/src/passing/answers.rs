//! Answers to a guest's transmit requests that wait for another guest's done.
//!
//! They are given in the order of the requests, as all answers are: a process that takes over from
//! one that died begins where the answers stopped, and finds every request that has none.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use xenvelope_grant::Words;
use xenvelope_grant::netif::{FATAL_SLOTS, RSP_NULL, TxRequest, TxResponse};
use xenvelope_grant::ring::Back;
use xenvelope_grant::seam::{Hypervisor, NicPort};

use crate::driver_domain::Backend;
use crate::forward::rings_of;
use crate::uplink::PfControl;

/// A frame whose answer waits. Never the same twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Ticket(pub u64);

/// An answer.
struct Answer {
    ticket: Option<Ticket>,
    ids: ArrayVec<u16, FATAL_SLOTS>,
    extras: usize,
    status: i16,
}

/// Answers of one queue, in the order of the requests, from the first that waits.
#[derive(Default)]
pub(crate) struct Answers(VecDeque<Answer>);

impl Answers {
    /// Answers a frame's requests, or has the answer wait: for a done, or for an answer before it.
    pub fn give<W: Words>(
        &mut self,
        ring: &mut Back<W, TxRequest, TxResponse>,
        ticket: Option<Ticket>,
        ids: ArrayVec<u16, FATAL_SLOTS>,
        extras: usize,
        status: i16,
    ) {
        let answer = Answer { ticket, ids, extras, status };
        if answer.ticket.is_none() && self.0.is_empty() {
            answer.push(ring);
        } else {
            self.0.push_back(answer);
        }
    }

    /// What `ticket` waited for has come: it is answered with all behind it that wait for nothing
    /// else, if it is the first.
    fn ready<W: Words>(&mut self, ring: &mut Back<W, TxRequest, TxResponse>, ticket: Ticket) {
        if let Some(answer) = self.0.iter_mut().find(|answer| answer.ticket == Some(ticket)) {
            answer.ticket = None;
        }
        while self.0.front().is_some_and(|answer| answer.ticket.is_none()) {
            if let Some(answer) = self.0.pop_front() {
                answer.push(ring);
            }
        }
    }
}

impl Answer {
    fn push<W: Words>(&self, ring: &mut Back<W, TxRequest, TxResponse>) {
        for (index, id) in self.ids.iter().enumerate() {
            let _ = ring.push(&TxResponse { id: *id, status: self.status });
            if index == 0 {
                for _ in 0..self.extras {
                    let _ = ring.push(&TxResponse { id: 0, status: RSP_NULL });
                }
            }
        }
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Answers what has been done with in this round.
    pub(crate) fn answer_finished(&mut self) {
        let Self { round, vifs, awake, .. } = self;
        for (from, ticket) in round.finished.drain(..) {
            let Some(rings) = rings_of(vifs, from.port) else { continue };
            awake.wake(from.port, rings);
            if let Some(queue) = rings.queues.get_mut(from.queue) {
                queue.answers.ready(&mut queue.tx, ticket);
            }
        }
    }
}
