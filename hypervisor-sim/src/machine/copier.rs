//! The batched grant copy (`GNTTABOP_copy`).

use std::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::seam::{Access, CallFailed, Copier, CopyOp, End};
use xenvelope_grant::{DomId, GrantError, PAGE_SIZE, Status};

use super::access::{Denied, PageExtent, within_page};
use super::buffer::FrameBuffer;
use super::counters::add;
use super::domain::{Domain, DomainState};
use super::grants::CopyPin;
use super::{DomainTable, read_lock};
use crate::memory::PageRef;

/// One end of an operation after its claim.
enum Claimed<'t> {
    /// A page of the caller's.
    Local { page: u64, offset: usize },
    /// A pinned entry.
    Foreign { pin: CopyPin<'t>, offset: usize },
}

impl Claimed<'_> {
    fn offset(&self) -> usize {
        match self {
            Claimed::Local { offset, .. } | Claimed::Foreign { offset, .. } => *offset,
        }
    }

    fn check<'s>(&'s self, caller: &'s DomainState, length: usize) -> Result<PageRef<'s>, Denied> {
        match self {
            Claimed::Local { page, offset } => {
                caller.space.check(PageExtent::whole(*page), *offset, length)
            }
            Claimed::Foreign { pin, offset } => pin.check(*offset, length),
        }
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
            op.status = match copy_one(&table, caller, op, buffers) {
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
}

/// The order of the checks is Xen's (`gnttab_copy_one`, `xen/common/grant_table.c`): domains,
/// then the source's entry, the target's entry, the ends of the pages, the ends of the sub-pages.
fn copy_one(
    table: &DomainTable,
    caller: &DomainState,
    op: &CopyOp,
    buffers: &[FrameBuffer],
) -> Result<(), GrantError> {
    if op.len == 0 {
        return Ok(());
    }
    if matches!((op.src, op.dst), (End::Local { .. }, End::Local { .. })) {
        // Linux's gntdev refuses it too: it is what memcpy is for.
        return Err(GrantError::General);
    }
    let owners = (owner(table, caller, op.src)?, owner(table, caller, op.dst)?);
    let source = claim(table, caller, owners.0, op.src, buffers, Access::Read)?;
    let target = claim(table, caller, owners.1, op.dst, buffers, Access::Write)?;
    let length = usize::from(op.len);
    within_page(source.offset(), length)?;
    within_page(target.offset(), length)?;
    let from = source.check(caller, length)?;
    let to = target.check(caller, length)?;
    from.copy_to(source.offset(), to, target.offset(), length);
    Ok(())
}

/// The domain that an end names; `None` for the caller's own buffers.
fn owner<'t>(
    table: &'t DomainTable,
    caller: &'t DomainState,
    end: End,
) -> Result<Option<&'t DomainState>, GrantError> {
    match end {
        End::Local { .. } => Ok(None),
        End::Foreign { dom: DomId::SELF, .. } | End::Keyed { dom: DomId::SELF, .. } => {
            Ok(Some(caller))
        }
        End::Foreign { dom, .. } | End::Keyed { dom, .. } => {
            table.get(dom).map(Some).ok_or(GrantError::BadDomain)
        }
    }
}

fn claim<'t>(
    table: &'t DomainTable,
    caller: &DomainState,
    owner: Option<&'t DomainState>,
    end: End,
    buffers: &[FrameBuffer],
    access: Access,
) -> Result<Claimed<'t>, GrantError> {
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
            let pin = CopyPin::new(table, owner, gref, caller.id, access)?;
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
