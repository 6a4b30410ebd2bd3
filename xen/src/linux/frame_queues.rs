//! The frames and buffers that a port of the kernel's holds, on their way in and out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;

use xenvelope_grant::seam::{Arrival, Buffer, NicError, Offload, Unsent};

/// What a port holds at most.
#[derive(Clone, Copy)]
pub(super) struct Most {
    /// Buffers for frames to come.
    pub posted: usize,
    /// Bytes of each behind its headroom.
    pub room: usize,
    /// Frames that wait for the kernel to take them.
    pub leaving: usize,
}

/// A frame on its way out.
pub(super) struct Leaving<B> {
    buffer: B,
    frame: Range<usize>,
    pub offload: Offload,
}

impl<B: Buffer> Leaving<B> {
    pub fn bytes(&self) -> &[u8] {
        &self.buffer.stack_bytes()[self.frame.clone()]
    }
}

/// Four queues: a buffer is posted and arrives with a frame, or its frame is leaving and was sent.
pub(super) struct FrameQueues<B> {
    most: Most,
    /// With the headroom of the frame to come.
    pub posted: RefCell<VecDeque<(B, usize)>>,
    /// Read, and not handed out yet.
    pub arrived: RefCell<VecDeque<Arrival<B>>>,
    pub leaving: RefCell<VecDeque<Leaving<B>>>,
    sent: RefCell<VecDeque<B>>,
    lost: Cell<u64>,
}

impl<B: Buffer> FrameQueues<B> {
    /// With as much memory as they ever need: nothing is allocated for a frame.
    pub fn new(most: Most) -> FrameQueues<B> {
        FrameQueues {
            most,
            posted: RefCell::new(VecDeque::with_capacity(most.posted)),
            arrived: RefCell::new(VecDeque::with_capacity(most.posted)),
            leaving: RefCell::new(VecDeque::with_capacity(most.leaving)),
            // Those of one kick may be there still when the next takes as many.
            sent: RefCell::new(VecDeque::with_capacity(2 * most.leaving)),
            lost: Cell::new(0),
        }
    }

    /// Has a frame wait for the next kick.
    pub fn send(&self, buffer: B, frame: Range<usize>, offload: Offload) -> Result<(), Unsent<B>> {
        let mut leaving = self.leaving.borrow_mut();
        if leaving.len() >= self.most.leaving {
            return Err(Unsent { cause: NicError::Full, buffer });
        }
        leaving.push_back(Leaving { buffer, frame, offload });
        Ok(())
    }

    /// The first `count` of those that were leaving have left, or are lost as on a wire.
    pub fn gone(&self, count: usize) {
        let mut leaving = self.leaving.borrow_mut();
        self.sent.borrow_mut().extend(leaving.drain(..count).map(|gone| gone.buffer));
    }

    /// Counts frames that are lost without anybody being told, as on a wire.
    pub fn lose(&self, frames: usize) {
        self.lost.set(self.lost.get() + frames as u64);
    }

    /// How many were.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// As `NicPort::completed`.
    pub fn completed(&self) -> Option<B> {
        self.sent.borrow_mut().pop_front()
    }

    /// As `NicPort::in_flight`.
    pub fn in_flight(&self) -> usize {
        self.leaving.borrow().len() + self.sent.borrow().len()
    }

    /// As `NicPort::wanted`.
    pub fn wanted(&self) -> (usize, usize) {
        (self.most.posted - self.posted.borrow().len(), self.most.room)
    }

    /// As `NicPort::post`.
    pub fn post(&self, buffer: B, headroom: usize) -> Result<(), B> {
        let mut posted = self.posted.borrow_mut();
        if posted.len() >= self.most.posted || buffer.capacity() < headroom + self.most.room {
            return Err(buffer);
        }
        posted.push_back((buffer, headroom));
        Ok(())
    }

    /// The next frame that came in. If there is none, `fetch` may bring some first.
    pub fn receive(&self, fetch: impl FnOnce()) -> Option<Arrival<B>> {
        if self.arrived.borrow().is_empty() {
            fetch();
        }
        self.arrived.borrow_mut().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use xenvelope_grant::seam::Granter as _;

    use super::*;
    use crate::linux::tests::without_xen;

    #[test]
    fn what_is_too_much_comes_back() {
        let (xen, _store) = without_xen();
        let queues = FrameQueues::new(Most { posted: 2, room: 100, leaving: 2 });
        let buffer = || xen.take(None, 200).unwrap();
        assert_eq!(queues.wanted(), (2, 100));
        let capacity = buffer().capacity();
        assert!(queues.post(buffer(), capacity - 99).is_err());
        assert!(queues.post(buffer(), capacity - 100).is_ok() && queues.post(buffer(), 0).is_ok());
        assert!(queues.post(buffer(), 0).is_err());
        assert_eq!(queues.wanted(), (0, 100));

        let send = || {
            let sent = queues.send(buffer(), 0..10, Offload::default());
            sent.map_err(|unsent| unsent.cause)
        };
        assert_eq!([send(), send(), send()], [Ok(()), Ok(()), Err(NicError::Full)]);
        // One has left, and is in flight until its buffer is taken.
        queues.gone(1);
        assert_eq!([send(), send()], [Ok(()), Err(NicError::Full)]);
        assert_eq!(queues.in_flight(), 3);
        assert!(queues.completed().is_some() && queues.completed().is_none());
        assert_eq!(queues.in_flight(), 2);
    }

    #[test]
    fn it_is_fetched_only_when_there_is_nothing() {
        let (xen, _store) = without_xen();
        let queues = FrameQueues::new(Most { posted: 2, room: 100, leaving: 2 });
        let two = || {
            for start in [1, 2] {
                let (buffer, offload) = (xen.take(None, 200).unwrap(), Offload::default());
                let arrival = Arrival { buffer, frame: start..9, offload };
                queues.arrived.borrow_mut().push_back(arrival);
            }
        };
        assert_eq!(queues.receive(two).unwrap().frame, 1..9);
        assert_eq!(queues.receive(|| panic!("there is one")).unwrap().frame, 2..9);
        assert!(queues.receive(|| ()).is_none());
    }
}
