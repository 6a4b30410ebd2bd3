//! What has been passed on to one guest, and the references that it takes.

use arrayvec::ArrayVec;
use xenvelope_grant::Gref;
use xenvelope_grant::seam::{
    Hypervisor, Instant, MAX_SEGMENTS, Mechanism, MechanismError, Offload, Pinned, Segment,
};
use xenvelope_switch::envelope::{
    Addresses, DeliverHead, Done, EnvelopeBuilder, EnvelopeFull, FrameHead,
};
use xenvelope_switch::window::{BadDone, SendWindow};

use super::{OUT, Ticket};
use crate::forward::QueueId;

/// A frame that a guest was passed.
pub(crate) struct Out {
    /// Our references to its pieces.
    pub refs: ArrayVec<Gref, MAX_SEGMENTS>,
    /// Whose requests wait for it; none if they were answered because it took too long.
    pub waiting: Option<(QueueId, Ticket)>,
    /// When it was passed on.
    pub since: Instant,
}

/// What a guest was passed and has not said done of.
pub(crate) struct Passed {
    /// The frames by their number here.
    window: SendWindow<u16>,
    outs: Vec<Option<Out>>,
    free: Vec<u16>,
    open: Option<Open>,
    /// Of senders whose frames the guest has not said done of, by port: their last envelope.
    last: Vec<(u32, u32)>,
}

/// The envelope that is being filled.
struct Open {
    builder: EnvelopeBuilder,
    /// The sender's port.
    from: u32,
    addresses: Addresses,
    sequence: u32,
}

impl Passed {
    /// Nothing was passed on yet. The numbers are random, as for any window.
    pub fn new(epoch: u32, key: (u64, u64)) -> Passed {
        Passed {
            window: SendWindow::new(epoch, key),
            outs: (0..OUT).map(|_| None).collect(),
            free: (0..OUT as u16).rev().collect(),
            open: None,
            last: Vec::new(),
        }
    }

    /// Whether the open envelope has these addresses and takes one more frame.
    pub fn fits(
        &self,
        addresses: &Addresses,
        segments: usize,
        inline: usize,
        offload: &Offload,
    ) -> bool {
        let slot = segments == 0 || !self.free.is_empty();
        self.open.as_ref().is_some_and(|open| {
            slot && open.addresses == *addresses && open.builder.room_for(segments, inline, offload)
        })
    }

    /// Whether there is anything that the guest was passed, or is about to be, and has not said
    /// done of.
    pub fn is_out(&self) -> bool {
        self.open.is_some() || !self.last.is_empty()
    }

    /// The envelope that the guest has to say done of before a frame that the sender at port
    /// `from` sends now may come to it another way, if there is one (rule 6).
    pub fn not_done(&self, from: u32) -> Option<u32> {
        self.last.iter().find(|(port, _)| *port == from).map(|(_, sequence)| *sequence)
    }

    /// Whether the guest has said done of an envelope, and of all before it.
    pub fn is_done(&self, sequence: u32) -> bool {
        self.window.is_done(sequence)
    }

    /// Opens an envelope for frames of the sender at port `from`; `None` if as much is out as may
    /// be.
    pub fn open(&mut self, from: u32, addresses: Addresses) -> Option<()> {
        let sequence = self.window.open().filter(|_| !self.free.is_empty())?;
        let head = DeliverHead {
            epoch: self.window.epoch(),
            sequence,
            nonce: self.window.nonce(sequence),
            tagged: false,
            want_done: false,
        };
        let mut builder = EnvelopeBuilder::deliver(addresses, head, None);
        builder.mark(Mechanism::Transitive);
        self.open = Some(Open { builder, from, addresses, sequence });
        Some(())
    }

    /// Frames in the open envelope, if there is one.
    pub fn frames_open(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.builder.frames())
    }

    /// Puts a frame that is all in the envelope into it.
    pub fn push_inline(&mut self, head: FrameHead, bytes: &[u8]) -> Result<(), EnvelopeFull> {
        self.open.as_mut().ok_or(EnvelopeFull)?.builder.push_inline(head, bytes)
    }

    /// Puts a frame into the envelope whose pieces were passed on. If it does not fit it is given
    /// back.
    pub fn push_granted(
        &mut self,
        head: FrameHead,
        segments: &[Segment],
        out: Out,
        now: Instant,
    ) -> Result<(), Out> {
        let (Some(open), Some(number)) = (&mut self.open, self.free.last().copied()) else {
            return Err(out);
        };
        if open.builder.push_granted(head, segments).is_err() {
            return Err(out);
        }
        // A sender waits for it.
        open.builder.want_done();
        self.free.pop();
        self.outs[usize::from(number)] = Some(out);
        self.window.keep(open.sequence, number, head.total.into(), now);
        Ok(())
    }

    /// Finishes the open envelope. If `push` does not take it, its frames are `lost`.
    pub fn seal(&mut self, push: impl FnOnce(&[u8]) -> bool, mut lost: impl FnMut(Out)) -> bool {
        let Some(mut open) = self.open.take().filter(|open| open.builder.frames() > 0) else {
            return true;
        };
        if push(open.builder.finish()) {
            self.window.sent();
            match self.last.iter_mut().find(|(port, _)| *port == open.from) {
                Some((_, sequence)) => *sequence = open.sequence,
                None => self.last.push((open.from, open.sequence)),
            }
            return true;
        }
        while let Some(number) = self.window.unsent(open.sequence) {
            Passed::free(&mut self.outs, &mut self.free, number, &mut lost);
        }
        false
    }

    /// The guest's done. `false` if it is about what was never sent.
    pub fn finish(&mut self, done: &Done, mut finished: impl FnMut(Out)) -> bool {
        match self.window.check(done) {
            Ok(()) => {
                let Passed { window, outs, free, last, .. } = self;
                window.finish(done, |number| Passed::free(outs, free, number, &mut finished));
                last.retain(|(_, sequence)| !window.is_done(*sequence));
                true
            }
            // Of an earlier connection.
            Err(BadDone::OtherEpoch) => true,
            Err(BadDone::NeverSent | BadDone::WrongNonce) => false,
        }
    }

    /// What was passed on before `deadline` and whose sender still waits. It stays out: the
    /// envelope that names it may still be read, and its references not be used before.
    pub fn expire(&mut self, deadline: Instant, mut late: impl FnMut(&mut Out)) {
        let waits = |out: &&mut Out| out.waiting.is_some() && out.since < deadline;
        self.outs.iter_mut().flatten().filter(waits).for_each(&mut late);
    }

    /// Everything that is out, when the guest's interface goes down.
    pub fn clear(&mut self, mut finished: impl FnMut(Out)) {
        self.open = None;
        self.outs.iter_mut().filter_map(Option::take).for_each(&mut finished);
    }

    fn free(
        outs: &mut [Option<Out>],
        free: &mut Vec<u16>,
        number: u16,
        finished: &mut impl FnMut(Out),
    ) {
        if let Some(out) = outs.get_mut(usize::from(number)).and_then(Option::take) {
            free.push(number);
            finished(out);
        }
    }
}

/// References of ours that pass something on, or can.
#[derive(Default)]
pub(crate) struct Refs {
    free: Vec<Gref>,
    /// Withdrawn, with somebody still inside.
    busy: Vec<Gref>,
}

impl Refs {
    /// A reference that is not in use.
    pub fn take(&mut self, host: &impl Hypervisor) -> Result<Gref, MechanismError> {
        self.free.pop().map_or_else(|| host.reserve(), Ok)
    }

    /// Nobody may use it any more. It is taken again when nobody does.
    pub fn give_back(&mut self, host: &impl Hypervisor, gref: Gref) {
        match host.withdraw(gref) {
            Ok(()) => self.free.push(gref),
            Err(Pinned(())) => self.busy.push(gref),
        }
    }

    /// Tries those again that somebody was inside of.
    pub fn retry(&mut self, host: &impl Hypervisor) {
        for gref in std::mem::take(&mut self.busy) {
            self.give_back(host, gref);
        }
    }
}
