//! The batches of one domain that the engine has.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use xenvelope_grant::Status;
use xenvelope_grant::seam::{CallFailed, CopyBatch, CopyTicket};

use super::super::buffer::FrameBuffer;
use super::super::copier::ClaimedCopy;
use super::super::counters::add;
use super::super::domain::DomainState;
use super::super::{DomainTable, lock};

/// Batches that the engine takes of one domain.
pub(crate) const SLOTS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Taken,
    Underway,
    /// As before, and nobody will ask for it.
    Abandoned,
    Finished,
}

struct Slot {
    state: State,
    batch: CopyBatch<FrameBuffer>,
    /// Of each operation, until it has been carried out; its status otherwise.
    claimed: Vec<Option<ClaimedCopy<Arc<DomainState>>>>,
}

/// The slots of a domain. Each has a lock of its own, which the engine holds while it copies.
pub(crate) struct CopySlots {
    slots: [Mutex<Slot>; SLOTS],
    /// The slots have space for operations: made for all of them when the first is used, not when
    /// there happen to be so many batches.
    has_room: AtomicBool,
}

/// Operations that a slot has space for from the start.
const ROOM: usize = 1024;

impl CopySlots {
    pub(crate) fn new() -> CopySlots {
        let slot = || Slot { state: State::Free, batch: CopyBatch::default(), claimed: Vec::new() };
        let slots = std::array::from_fn(|_| Mutex::new(slot()));
        CopySlots { slots, has_room: AtomicBool::new(false) }
    }

    fn slot(&self, ticket: CopyTicket) -> Option<&Mutex<Slot>> {
        self.slots.get(ticket.0 as usize)
    }

    /// Takes a free slot, if there is one.
    pub(super) fn free(&self) -> Option<CopyTicket> {
        self.slots.iter().zip(0..).find_map(|(slot, number)| {
            // One that the engine works on is not free.
            let mut slot = slot.try_lock().ok()?;
            (slot.state == State::Free).then(|| {
                slot.state = State::Taken;
                CopyTicket(number)
            })
        })
    }

    /// A slot that was taken is not needed.
    pub(super) fn give_back(&self, ticket: CopyTicket) {
        if let Some(slot) = self.slot(ticket) {
            lock(slot).state = State::Free;
        }
    }

    /// Pins what the operations name, and takes the batch. How many bytes are to be copied.
    pub(super) fn fill(
        &self,
        ticket: CopyTicket,
        caller: &DomainState,
        table: &DomainTable,
        batch: &mut CopyBatch<FrameBuffer>,
    ) -> u64 {
        let Some(slot) = self.slot(ticket) else { return 0 };
        if !self.has_room.swap(true, Relaxed) {
            self.slots.iter().for_each(|slot| lock(slot).claimed.reserve(ROOM));
        }
        let mut slot = lock(slot);
        let mut bytes = 0;
        for op in &mut batch.ops {
            let found = |domid| table.shared(domid);
            let claimed = ClaimedCopy::new(found, caller, op, &batch.buffers);
            op.status = match &claimed {
                Ok(Some(_)) => {
                    bytes += u64::from(op.len);
                    Status::PENDING
                }
                Ok(None) => Status::OKAY,
                Err(error) => error.status(),
            };
            slot.claimed.push(claimed.ok().flatten());
        }
        std::mem::swap(&mut slot.batch, batch);
        slot.state = State::Underway;
        bytes
    }

    /// The engine copies.
    pub(super) fn carry_out(&self, ticket: CopyTicket, caller: &DomainState) {
        let Some(slot) = self.slot(ticket) else { return };
        let mut slot = lock(slot);
        let slot = &mut *slot;
        let mut bytes = 0;
        for (op, claimed) in slot.batch.ops.iter_mut().zip(slot.claimed.drain(..)) {
            // The pins end with it, after the copy.
            let Some(claimed) = claimed else { continue };
            op.status = match claimed.carry_out(caller) {
                Ok(()) => {
                    bytes += u64::from(op.len);
                    Status::OKAY
                }
                Err(error) => error.status(),
            };
        }
        add(&caller.counters.engine_bytes, bytes);
        if slot.state == State::Abandoned {
            slot.free();
        } else {
            slot.state = State::Finished;
        }
    }

    /// Gives a batch back, if it is finished.
    pub(crate) fn finished(
        &self,
        ticket: CopyTicket,
        batch: &mut CopyBatch<FrameBuffer>,
    ) -> Option<Result<(), CallFailed>> {
        // The engine has it: it is not finished.
        let mut slot = self.slot(ticket)?.try_lock().ok()?;
        if slot.state != State::Finished {
            return None;
        }
        std::mem::swap(&mut slot.batch, batch);
        slot.free();
        Some(Ok(()))
    }

    /// Frees a batch, now or when it is finished.
    pub(crate) fn abandon(&self, ticket: CopyTicket) {
        let Some(slot) = self.slot(ticket) else { return };
        let mut slot = lock(slot);
        match slot.state {
            State::Underway => slot.state = State::Abandoned,
            State::Finished => slot.free(),
            State::Free | State::Taken | State::Abandoned => {}
        }
    }
}

impl Slot {
    /// What the batch was swapped for is what is left: its space is kept.
    fn free(&mut self) {
        self.batch.ops.clear();
        self.batch.buffers.clear();
        self.state = State::Free;
    }
}
