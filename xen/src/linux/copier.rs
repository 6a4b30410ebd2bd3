//! The batched grant copy, by gntdev.

use xenvelope_grant::seam::{CallFailed, Copier, CopyOp};

use super::buffer::Buffer;
use super::host::Xen;

impl Copier for Xen {
    /// One call of the kernel's, which makes a hypercall for every 16 operations.
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [Buffer]) -> Result<(), CallFailed> {
        let mut copies = self.inner.copies.borrow_mut();
        copies.run(&self.inner.gntdev, ops, buffers).map_err(|error| {
            tracing::debug!(%error, "grant copy call failed");
            CallFailed
        })
    }
}
