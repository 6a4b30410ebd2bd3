//! Waiting: for events, for the store, and for file descriptors of ports and of the program.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use xenvelope_grant::seam::PortId;

use super::descriptors::Descriptors;
use super::events::fired;
use super::host::{Inner, Xen};

/// Ports of file descriptors are numbered from here: Xen has no event channel with such a number
/// (`EVTCHN_FIFO_NR_CHANNELS` is 2^17).
const FIRST: u32 = 1 << 30;
/// Descriptors that one driver may wait for beside Xen's.
const MOST: usize = 8;

/// A descriptor that ends a wait.
struct Device {
    /// A duplicate: it stays what it was when the other is closed.
    fd: OwnedFd,
    id: PortId,
    masked: bool,
}

/// What a wait looks at beside Xen's own devices.
#[derive(Default)]
pub(super) struct Devices {
    watched: RefCell<ArrayVec<Device, MOST>>,
    next: std::cell::Cell<u32>,
    /// In how many looks the store is taken to have nothing to say.
    silent: std::cell::Cell<u8>,
}

/// Looks at the store that are left out when it had nothing to say: each is a system call. A wait
/// that finds it readable ends that.
const PATIENCE: u8 = 32;

impl Devices {
    /// Whether to look at the store.
    pub fn ask_store(&self) -> bool {
        let left = self.silent.get();
        self.silent.set(left.saturating_sub(1));
        left == 0
    }

    /// The store had nothing to say.
    pub fn store_is_silent(&self) {
        self.silent.set(PATIENCE);
    }

    /// Waits until something is there or `timeout` is over. Ports of devices and of Xen's that
    /// fired go into `out`.
    pub fn wait(&self, host: &Inner, timeout: Option<Duration>, out: &mut [PortId]) -> usize {
        let mut watched = self.watched.borrow_mut();
        let mut ready: ArrayVec<bool, MOST> = ArrayVec::new();
        let mut fds: ArrayVec<PollFd<'_>, { MOST + 2 }> = ArrayVec::new();
        for device in watched.iter().filter(|device| !device.masked) {
            fds.push(PollFd::new(device.fd.as_fd(), PollFlags::POLLIN));
        }
        fds.push(PollFd::new(host.evtchn.as_fd(), PollFlags::POLLIN));
        // A connection that is lost stays readable for ever, and its POLLHUP is reported whether
        // it is asked for or not.
        if host.store.is_alive() {
            fds.push(PollFd::new(host.store.fd(), PollFlags::POLLIN));
        }
        // A signal ends the wait too, and so does an error: the caller looks at everything again.
        if ppoll(&mut fds, timeout.map(TimeSpec::from_duration), None).unwrap_or(0) == 0 {
            return 0;
        }
        let mut revents =
            fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        let live = watched.iter().filter(|device| !device.masked).count();
        ready.extend(revents.by_ref().take(live));
        let event = revents.next() == Some(true);
        if revents.next() == Some(true) {
            self.silent.set(0);
        }
        drop(revents);
        drop(fds);
        let mut count = 0;
        let live = watched.iter_mut().filter(|device| !device.masked);
        for (device, ready) in live.zip(ready) {
            if ready && count < out.len() {
                device.masked = true;
                out[count] = device.id;
                count += 1;
            }
        }
        if event {
            count += fired(host, &mut out[count..]);
        }
        count
    }
}

impl Descriptors for Xen {
    fn watch_fd(&self, fd: BorrowedFd<'_>) -> Option<PortId> {
        let devices = &self.inner.devices;
        let id = PortId(FIRST + devices.next.get());
        let fd = fd.try_clone_to_owned().ok()?;
        let device = Device { fd, id, masked: false };
        devices.watched.borrow_mut().try_push(device).ok()?;
        devices.next.set(devices.next.get().wrapping_add(1) % FIRST);
        Some(id)
    }

    fn has_fired(&self, id: PortId) -> bool {
        let watched = self.inner.devices.watched.borrow();
        watched.iter().any(|device| device.id == id && device.masked)
    }

    fn unmask_device(&self, id: PortId) {
        let mut watched = self.inner.devices.watched.borrow_mut();
        if let Some(device) = watched.iter_mut().find(|device| device.id == id) {
            device.masked = false;
        }
    }

    fn unwatch_fd(&self, id: PortId) {
        self.inner.devices.watched.borrow_mut().retain(|device| device.id != id);
    }
}
