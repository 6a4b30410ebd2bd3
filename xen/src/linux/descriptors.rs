//! Waiting for file descriptors in the same wait as for events.

use std::os::fd::BorrowedFd;

use xenvelope_grant::seam::PortId;

/// A domain whose [`wait`](xenvelope_grant::seam::Events::wait) ends for file descriptors too: what
/// is behind them belongs to the kernel under us.
pub trait Descriptors {
    /// Has a wait end when `fd` is readable, until [`Descriptors::unwatch_fd`]. It is reported
    /// once, and again after [`Descriptors::unmask_device`]. `None` if there are too many already.
    fn watch_fd(&self, fd: BorrowedFd<'_>) -> Option<PortId>;
    /// Whether a descriptor has ended a wait and was not unmasked since.
    fn has_fired(&self, id: PortId) -> bool;
    /// Lets a descriptor end a wait again.
    fn unmask_device(&self, id: PortId);
    /// Does not wait for a descriptor any longer.
    fn unwatch_fd(&self, id: PortId);
}
