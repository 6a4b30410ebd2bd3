//! The batched grant copy: operations as the kernel wants them. Here, since it takes addresses.

use std::fs::File;
use std::io;

use xenvelope_grant::seam::{Buffer as _, CopyOp, End};
use xenvelope_grant::{GrantError, PAGE_SIZE, Status};
use zerocopy::{FromZeros, IntoBytes};

use super::ioctl;
use crate::gntdev::{DEST_GREF, ForeignEnd, GrantCopySegment, SOURCE_GREF};
use crate::linux::buffer::Buffer;

/// The status of an operation that the kernel would refuse the whole call for.
const REFUSED: Status = GrantError::BadCopyArg.status();

/// Segments of a call, kept from one to the next so that none allocates.
#[derive(Default)]
pub(in crate::linux) struct Copies(Vec<GrantCopySegment>);

impl Copies {
    /// Carries out all operations with one call of the kernel's, which makes a hypercall for
    /// every 16. The local ends are in `buffers`. If it fails, no status says anything.
    pub fn run(
        &mut self,
        device: &File,
        ops: &mut [CopyOp],
        buffers: &mut [Buffer],
    ) -> io::Result<()> {
        self.prepare(ops, buffers);
        if self.0.is_empty() {
            return Ok(());
        }
        // SAFETY: `prepare` has just made all segments, and their local ends lie in `buffers`,
        // which are borrowed exclusively.
        unsafe { ioctl::grant_copy(device, &mut self.0) }?;
        let done = ops.iter_mut().filter(|op| op.status == Status::PENDING);
        for (op, segment) in done.zip(&self.0) {
            op.status = Status(segment.status);
        }
        Ok(())
    }

    /// Makes a segment of each operation that the kernel would not fail all of them for.
    fn prepare(&mut self, ops: &mut [CopyOp], buffers: &[Buffer]) {
        self.0.clear();
        for op in ops {
            op.status = match segment(op, buffers) {
                Some(segment) => {
                    self.0.push(segment);
                    Status::PENDING
                }
                None => REFUSED,
            };
        }
    }
}

fn segment(op: &CopyOp, buffers: &[Buffer]) -> Option<GrantCopySegment> {
    if op.len == 0 {
        return None;
    }
    let (source, from_foreign) = end(op.src, op.len, buffers)?;
    let (dest, to_foreign) = end(op.dst, op.len, buffers)?;
    let mut flags = 0;
    if from_foreign {
        flags |= SOURCE_GREF;
    }
    if to_foreign {
        flags |= DEST_GREF;
    }
    let status = Status::PENDING.0;
    (flags != 0).then_some(GrantCopySegment {
        source,
        dest,
        len: op.len,
        flags,
        status,
        ..GrantCopySegment::new_zeroed()
    })
}

/// One end as the kernel wants it, and whether it is another domain's; `None` if the kernel would
/// refuse the call for it.
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
        // Xen has no grants with keys.
        End::Keyed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use xenvelope_grant::seam::Granter as _;
    use xenvelope_grant::{DomId, Gref};

    use super::*;
    use crate::linux::tests::without_xen;

    const fn foreign(offset: u16) -> End {
        End::Foreign { dom: DomId(3), gref: Gref(7), offset }
    }

    const fn local(buffer: u16, offset: u32) -> End {
        End::Local { buffer, offset }
    }

    #[test]
    fn what_the_kernel_would_refuse_the_call_for_is_not_in_it() {
        let (xen, _store) = without_xen();
        let mut buffers = [xen.take(None, 3 * PAGE_SIZE).unwrap()];
        let mut refused = [
            CopyOp::new(foreign(0), local(1, 0), 1),
            CopyOp::new(foreign(0), local(0, 0), 0),
            CopyOp::new(foreign(1), local(0, 0), 4096),
            CopyOp::new(foreign(0), local(0, 1), 4096),
            CopyOp::new(foreign(0), local(0, 3 * 4096), 1),
            CopyOp::new(foreign(0), local(0, 3 * 4096), 0),
            CopyOp::new(foreign(0), local(0, u32::MAX), u16::MAX),
            CopyOp::new(local(0, 0), local(0, 4096), 1),
        ];
        let mut copies = Copies::default();
        copies.run(&xen.inner.gntdev, &mut refused, &mut buffers).expect("nothing is called");
        assert!(refused.iter().all(|op| op.status == REFUSED), "{refused:?}");

        let op = CopyOp::new(foreign(96), local(0, 4096), 4000);
        let mut mixed = [refused[0], op];
        copies.prepare(&mut mixed, &buffers);
        assert_eq!((mixed[0].status, mixed[1].status), (REFUSED, Status::PENDING));
        let [segment] = &copies.0[..] else { panic!("{:?}", copies.0) };
        assert_eq!(segment.dest, buffers[0].pages().address(4096).to_ne_bytes());
        assert_eq!(segment.source, [7, 0, 0, 0, 96, 0, 3, 0]);
        assert_eq!((segment.flags, segment.len), (SOURCE_GREF, 4000));
        // The call fails: this is not gntdev. What is refused stays so.
        assert!(copies.run(&xen.inner.gntdev, &mut mixed, &mut buffers).is_err());
    }
}
