//! The batched grant copy, by gntdev.

use xenvelope_grant::seam::{Buffer as _, CallFailed, Copier, CopyOp, End};
use xenvelope_grant::{GrantError, PAGE_SIZE, Status};
use zerocopy::{FromZeros, IntoBytes};

use super::buffer::Buffer;
use super::host::Xen;
use super::sys;
use crate::gntdev::{DEST_GREF, ForeignEnd, GrantCopySegment, SOURCE_GREF};

/// The status of an operation that the kernel would refuse the whole call for.
const REFUSED: Status = GrantError::BadCopyArg.status();

/// One end as the kernel wants it; `None` if it would refuse the call for it.
fn end(end: End, len: u16, buffers: &[Buffer]) -> Option<([u8; 8], bool)> {
    let last = |offset: usize| offset + usize::from(len) <= PAGE_SIZE;
    match end {
        End::Local { buffer, offset } => {
            let buffer = buffers.get(usize::from(buffer))?;
            let at = offset as usize;
            let inside = at.checked_add(usize::from(len))? <= buffer.capacity();
            (inside && last(at % PAGE_SIZE))
                .then(|| (buffer.pages().address(at).to_ne_bytes(), false))
        }
        End::Foreign { dom, gref, offset } => {
            let foreign = ForeignEnd { gref: gref.0, offset, domid: dom.0 };
            let mut bytes = [0; 8];
            bytes.copy_from_slice(foreign.as_bytes());
            last(usize::from(offset)).then_some((bytes, true))
        }
    }
}

impl Copier for Xen {
    /// One call of the kernel's, which makes a hypercall for every 16 operations.
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [Buffer]) -> Result<(), CallFailed> {
        let mut segments = self.inner.segments.borrow_mut();
        segments.clear();
        for op in ops.iter_mut() {
            op.status = Status::PENDING;
            let ends = end(op.src, op.len, buffers).zip(end(op.dst, op.len, buffers));
            let Some(((source, from_foreign), (dest, to_foreign))) =
                ends.filter(|((_, source), (_, dest))| op.len > 0 && (*source || *dest))
            else {
                // The kernel would fail all for this one.
                op.status = REFUSED;
                continue;
            };
            let mut flags = 0;
            if from_foreign {
                flags |= SOURCE_GREF;
            }
            if to_foreign {
                flags |= DEST_GREF;
            }
            let status = Status::PENDING.0;
            segments.push(GrantCopySegment {
                source,
                dest,
                len: op.len,
                flags,
                status,
                ..GrantCopySegment::new_zeroed()
            });
        }
        if segments.is_empty() {
            return Ok(());
        }
        sys::grant_copy(&self.inner.gntdev, &mut segments, buffers).map_err(|error| {
            tracing::debug!(%error, "grant copy call failed");
            CallFailed
        })?;
        let done = ops.iter_mut().filter(|op| op.status == Status::PENDING);
        for (op, segment) in done.zip(segments.iter()) {
            op.status = Status(segment.status);
        }
        Ok(())
    }
}
