//! File descriptors of the system under the simulator that end a domain's wait: a TAP, behind which
//! is a network stack of that system.
//!
//! A domain that has some sleeps in `ppoll`, with a bell (an eventfd) for everybody who wakes it
//! otherwise.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use xenvelope_grant::seam::PortId;
use xenvelope_xen::linux::Descriptors;

use super::domain::Domain;
use super::events::EventBits;
use super::lock;

/// Descriptors that one domain may wait for.
const MOST: usize = 8;

/// The descriptors that one domain waits for, each with the port that it raises.
pub(crate) struct Watched {
    bell: EventFd,
    /// Says whether it has been rung.
    bits: EventBits,
    fds: Mutex<ArrayVec<(u32, OwnedFd), MOST>>,
}

impl Watched {
    pub(super) fn new(bits: EventBits) -> nix::Result<Watched> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Watched { bell: EventFd::from_value_and_flags(0, flags)?, bits, fds: Mutex::default() })
    }

    /// Ends the sleep of whoever is in [`Watched::sleep`].
    pub(crate) fn ring(&self) {
        if self.bits.rung().swap(1, SeqCst) == 0 {
            // It cannot be full: it is emptied between any two.
            let _ = self.bell.write(1);
        }
    }

    /// Sleeps until the bell, until one of the descriptors is readable whose port `asked` says yes
    /// to, or until the time is over. The ports whose descriptors are readable.
    pub(crate) fn sleep(
        &self,
        asked: impl Fn(u32) -> bool,
        time: Option<Duration>,
    ) -> ArrayVec<u32, MOST> {
        let watched = lock(&self.fds);
        let mut ports = ArrayVec::<u32, MOST>::new();
        let mut fds = ArrayVec::<PollFd<'_>, { MOST + 1 }>::new();
        fds.push(PollFd::new(self.bell.as_fd(), PollFlags::POLLIN));
        for (port, fd) in watched.iter().filter(|(port, _)| asked(*port)) {
            ports.push(*port);
            fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        }
        // A signal ends the sleep too, and so does an error: the caller looks at everything again.
        let awake = ppoll(&mut fds, time.map(TimeSpec::from_duration), None).unwrap_or(0);
        if awake == 0 {
            ports.clear();
            return ports;
        }
        let mut ready = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if ready.next() == Some(true) {
            let _ = self.bell.read();
            // Who rings from here on writes again; what was done before is seen by our caller.
            self.bits.rung().store(0, SeqCst);
        }
        ports.retain(|_| ready.next() == Some(true));
        ports
    }
}

impl Descriptors for Domain {
    fn watch_fd(&self, fd: BorrowedFd<'_>) -> Option<PortId> {
        let fd = fd.try_clone_to_owned().ok()?;
        let watched = self.state.queue.watched()?;
        let port = super::ports::open_device(&self.state).ok()?;
        // Not while it sleeps, which lasts until its next event: this is for its own thread.
        let added = lock(&watched.fds).try_push((port, fd));
        if added.is_err() {
            super::ports::close_device(&self.state, port);
            return None;
        }
        Some(PortId(port))
    }

    fn has_fired(&self, id: PortId) -> bool {
        self.state.queue.is_masked(id.0)
    }

    fn unmask_device(&self, id: PortId) {
        self.state.queue.unmask(id.0);
    }

    fn unwatch_fd(&self, id: PortId) {
        let Some(watched) = self.state.queue.watched() else { return };
        let mut fds = lock(&watched.fds);
        let before = fds.len();
        fds.retain(|(port, _)| *port != id.0);
        if fds.len() < before {
            super::ports::close_device(&self.state, id.0);
        }
    }
}
