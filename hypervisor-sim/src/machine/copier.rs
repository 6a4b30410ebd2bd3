//! The batched grant copy (`GNTTABOP_copy`).

use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::seam::{
    Access, CallFailed, Copier, CopyBatch, CopyOp, CopyTicket, End, Submitted,
};
use xenvelope_grant::{DomId, GrantError, PAGE_SIZE, Status};

use super::access::{Denied, PageExtent, within_page};
use super::buffer::FrameBuffer;
use super::counters::add;
use super::domain::{Domain, DomainState};
use super::grants::CopyPin;
use super::read_lock;
use crate::memory::PageRef;

/// One end of an operation after its claim.
enum Claimed<D: Deref<Target = DomainState>> {
    /// A page of the caller's.
    Local { page: u64, offset: usize },
    /// A pinned entry.
    Foreign { pin: CopyPin<D>, offset: usize },
}

impl<D: Deref<Target = DomainState>> Claimed<D> {
    #[inline]
    fn offset(&self) -> usize {
        match self {
            Claimed::Local { offset, .. } | Claimed::Foreign { offset, .. } => *offset,
        }
    }

    /// The page, of an end that is within one.
    #[inline]
    fn check<'s>(&'s self, caller: &'s DomainState, length: usize) -> Result<PageRef<'s>, Denied> {
        match self {
            Claimed::Local { page, offset } => {
                caller.space.check_within(PageExtent::whole(*page), *offset, length)
            }
            Claimed::Foreign { pin, offset } => pin.check(*offset, length),
        }
    }
}

/// An operation that has passed all checks that can be made beforehand, its grants pinned.
pub(super) struct ClaimedCopy<D: Deref<Target = DomainState>> {
    source: Claimed<D>,
    target: Claimed<D>,
    length: usize,
}

impl<D: Deref<Target = DomainState>> ClaimedCopy<D> {
    /// The order of the checks is Xen's (`gnttab_copy_one`, `xen/common/grant_table.c`): domains,
    /// then the source's entry, the target's entry, the ends of the pages; the ends of the
    /// sub-pages follow in [`ClaimedCopy::carry_out`]. `None`: there is nothing to copy.
    // Always: what it gives is large, and is not moved about when all of it is in one place.
    #[inline(always)]
    pub(super) fn new(
        domain_of: impl Fn(DomId) -> Option<D>,
        caller: &DomainState,
        op: &CopyOp,
        buffers: &[FrameBuffer],
    ) -> Result<Option<ClaimedCopy<D>>, GrantError> {
        if op.len == 0 {
            return Ok(None);
        }
        if matches!((op.src, op.dst), (End::Local { .. }, End::Local { .. })) {
            // Linux's gntdev refuses it too: it is what memcpy is for.
            return Err(GrantError::General);
        }
        let owner = |end| owner(&domain_of, caller.id, end);
        let owners = (owner(op.src)?, owner(op.dst)?);
        let claim = |owner, end, access| claim(&domain_of, caller, owner, end, buffers, access);
        let source = claim(owners.0, op.src, Access::Read)?;
        let target = claim(owners.1, op.dst, Access::Write)?;
        let length = usize::from(op.len);
        within_page(source.offset(), length)?;
        within_page(target.offset(), length)?;
        Ok(Some(ClaimedCopy { source, target, length }))
    }

    /// Copies.
    #[inline]
    pub(super) fn carry_out(&self, caller: &DomainState) -> Result<(), GrantError> {
        let from = self.source.check(caller, self.length)?;
        let to = self.target.check(caller, self.length)?;
        from.copy_to(self.source.offset(), to, self.target.offset(), self.length);
        Ok(())
    }
}

impl Copier for Domain {
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [FrameBuffer]) -> Result<(), CallFailed> {
        let caller = &*self.state;
        self.hypercall();
        add(&caller.counters.copy_calls, 1);
        // Held for the whole batch: no domain ends in the middle of a copy (XSA-236).
        let table = read_lock(&self.machine.domains);
        if !caller.space.is_alive() || self.machine.fail_copy_calls.load(Relaxed) {
            return Err(CallFailed);
        }
        let mut bytes = 0;
        for op in ops.iter_mut() {
            let done = match ClaimedCopy::new(|domid| table.get(domid), caller, op, buffers) {
                Ok(Some(claimed)) => claimed.carry_out(caller),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            op.status = match done {
                Ok(()) => {
                    bytes += u64::from(op.len);
                    Status::OKAY
                }
                Err(error) => error.status(),
            };
        }
        add(&caller.counters.copy_ops, ops.len() as u64);
        add(&caller.counters.copied_bytes, bytes);
        Ok(())
    }

    fn submit(&self, batch: &mut CopyBatch<FrameBuffer>) -> Submitted {
        match self.machine.engine.get() {
            Some(engine) => engine.submit(self, batch),
            None => Submitted::Finished(self.copy(&mut batch.ops, &mut batch.buffers)),
        }
    }

    fn finished(
        &self,
        ticket: CopyTicket,
        batch: &mut CopyBatch<FrameBuffer>,
    ) -> Option<Result<(), CallFailed>> {
        self.state.copies.finished(ticket, batch)
    }

    fn abandon(&self, ticket: CopyTicket) {
        self.state.copies.abandon(ticket);
    }
}

/// The domain that an end names; `None` for the caller's own buffers.
#[inline]
fn owner<D>(
    domain_of: &impl Fn(DomId) -> Option<D>,
    caller: DomId,
    end: End,
) -> Result<Option<D>, GrantError> {
    let domid = match end {
        End::Local { .. } => return Ok(None),
        End::Foreign { dom: DomId::SELF, .. } | End::Keyed { dom: DomId::SELF, .. } => caller,
        End::Foreign { dom, .. } | End::Keyed { dom, .. } => dom,
    };
    domain_of(domid).map(Some).ok_or(GrantError::BadDomain)
}

#[inline(always)]
fn claim<D: Deref<Target = DomainState>>(
    domain_of: &impl Fn(DomId) -> Option<D>,
    caller: &DomainState,
    owner: Option<D>,
    end: End,
    buffers: &[FrameBuffer],
    access: Access,
) -> Result<Claimed<D>, GrantError> {
    match (end, owner) {
        (End::Local { buffer, offset }, _) => {
            let run = buffers.get(usize::from(buffer)).ok_or(GrantError::BadPage)?.run();
            let offset = offset as usize;
            let page = offset / PAGE_SIZE;
            if page >= run.pages() || !caller.guest.owns(run) {
                return Err(GrantError::BadPage);
            }
            let page = (run.first() + page) as u64;
            Ok(Claimed::Local { page, offset: offset % PAGE_SIZE })
        }
        (End::Foreign { gref, offset, .. }, Some(owner)) => {
            let pin = CopyPin::new(domain_of, owner, gref, caller.id, access)?;
            Ok(Claimed::Foreign { pin, offset: usize::from(offset) })
        }
        // A key lets nobody write.
        (End::Keyed { gref, offset, key, .. }, Some(owner)) if access == Access::Read => {
            let pin = CopyPin::keyed(owner, gref, key)?;
            Ok(Claimed::Foreign { pin, offset: usize::from(offset) })
        }
        (End::Keyed { .. }, Some(_)) => Err(GrantError::General),
        (End::Foreign { .. } | End::Keyed { .. }, None) => Err(GrantError::BadDomain),
    }
}
