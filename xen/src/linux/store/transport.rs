//! What the bytes go over.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::wire::{MESSAGE_MAX, PAYLOAD_MAX};

/// Never blocks, but in [`wait`](Transport::wait).
pub(super) enum Transport {
    Device(File),
    Socket(UnixStream),
}

impl Transport {
    pub(super) fn device(path: &Path) -> io::Result<Transport> {
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).write(true).custom_flags(nonblocking).open(path)?;
        Ok(Transport::Device(file))
    }

    pub(super) fn socket(stream: UnixStream) -> io::Result<Transport> {
        stream.set_nonblocking(true)?;
        Ok(Transport::Socket(stream))
    }

    /// The longest message that can be sent. The kernel's buffer holds a request *with* its
    /// header in `XENSTORE_PAYLOAD_MAX` bytes (`struct xenbus_file_priv`).
    pub(super) fn longest(&self) -> usize {
        match self {
            Transport::Device(_) => PAYLOAD_MAX,
            Transport::Socket(_) => MESSAGE_MAX,
        }
    }

    /// Whether a write that fails refuses the request, and leaves the connection as it was: the
    /// device then drops what it was given of the message (`xenbus_file_write`). It is how it
    /// says that a watch could not be set; there is no answer then.
    pub(super) fn refuses_by_write(&self) -> bool {
        matches!(self, Transport::Device(_))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Device(file) => file.as_fd(),
            Transport::Socket(stream) => stream.as_fd(),
        }
    }

    pub(super) fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Device(file) => (&mut &*file).read(out),
            Transport::Socket(stream) => (&mut &*stream).read(out),
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Device(file) => (&mut &*file).write(bytes),
            Transport::Socket(stream) => (&mut &*stream).write(bytes),
        }
    }

    /// Waits until there is something to read or, if `writing`, space to write. False: neither
    /// until then.
    pub(super) fn wait(&self, writing: bool, until: Instant) -> io::Result<bool> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, writing);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Rounded up, so that the last part of a millisecond is not spun through.
            let left = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd(), events)], left) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
