//! Many frames to and from a TAP with one system call, by io_uring: a TAP has no call of its own
//! for more than one.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use nix::libc::{self, iovec};

use crate::linux::vnet::HEADER;

/// Frames one way of one call.
pub(in crate::linux) const FRAMES: usize = 64;
/// Places for both ways.
const PLACES: usize = 2 * FRAMES;

/// What one exchange needs, kept from one to the next.
pub(in crate::linux) struct Exchange {
    ring: IoUring,
    vectors: Box<[[iovec; 2]; PLACES]>,
    headers: Box<[[u8; HEADER]; PLACES]>,
    results: Box<[i32; PLACES]>,
    /// The kernel's TAP knows `RWF_NOWAIT`: since Linux 6.4.
    nowait: bool,
}

/// How many frames were to go each way.
#[derive(Clone, Copy, Default)]
pub(in crate::linux) struct Exchanged {
    pub written: usize,
    pub read: usize,
}

const NOWHERE: iovec = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

impl Exchange {
    pub fn new() -> io::Result<Exchange> {
        let ring = IoUring::new(PLACES as u32)?;
        Ok(Exchange {
            ring,
            vectors: Box::new([[NOWHERE; 2]; PLACES]),
            headers: Box::new([[0; HEADER]; PLACES]),
            results: Box::new([0; PLACES]),
            nowait: true,
        })
    }

    fn place(&mut self, index: usize, bytes: *mut u8, len: usize) {
        let header = iovec { iov_base: self.headers[index].as_mut_ptr().cast(), iov_len: HEADER };
        self.vectors[index] = [header, iovec { iov_base: bytes.cast(), iov_len: len }];
    }

    /// Writes up to [`FRAMES`] frames, each with its `virtio_net_hdr`, then reads up to as many
    /// into `targets`: what is there, without waiting. If the ring itself fails the process ends.
    pub fn run<'f, 't>(
        &mut self,
        tap: &File,
        frames: impl Iterator<Item = ([u8; HEADER], &'f [u8])>,
        targets: impl Iterator<Item = &'t mut [u8]>,
    ) -> Exchanged {
        let mut count = Exchanged::default();
        for (header, frame) in frames.take(FRAMES) {
            self.headers[count.written] = header;
            // Only read from: an `iovec` is the same for both ways.
            self.place(count.written, frame.as_ptr().cast_mut(), frame.len());
            count.written += 1;
        }
        for target in targets.take(FRAMES) {
            self.place(FRAMES + count.read, target.as_mut_ptr(), target.len());
            count.read += 1;
        }
        let reads = FRAMES..FRAMES + count.read;
        if self.nowait {
            self.carry_out(tap, 0..count.written, reads.clone(), libc::RWF_NOWAIT);
            let mut places = (0..count.written).chain(reads.clone());
            self.nowait = !places.any(|place| self.results[place] == -libc::EOPNOTSUPP);
        }
        if !self.nowait {
            // A write to a TAP that does not block has no reason to wait. A read that finds
            // nothing would, and cannot be told not to: it is made apart.
            self.carry_out(tap, 0..count.written, 0..0, 0);
            self.read_apart(tap, reads);
        }
        count
    }

    /// One frame a call, up to the first that is not there.
    fn read_apart(&mut self, tap: &File, places: Range<usize>) {
        let mut nothing = false;
        for place in places {
            let vectors = self.vectors[place].as_ptr();
            self.results[place] = if nothing {
                -libc::EAGAIN
            } else {
                // SAFETY: they name our own header and a target that the caller of `run` has
                // borrowed exclusively.
                let read = unsafe { libc::readv(tap.as_raw_fd(), vectors, 2) };
                let failed = || -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
                i32::try_from(read).ok().filter(|read| *read >= 0).unwrap_or_else(failed)
            };
            nothing = self.results[place] < 0;
        }
    }

    /// Has the kernel do what is in the places, and waits until it has.
    fn carry_out(&mut self, tap: &File, writes: Range<usize>, reads: Range<usize>, flags: i32) {
        if writes.is_empty() && reads.is_empty() {
            return;
        }
        let tap = types::Fd(tap.as_raw_fd());
        let mut queue = self.ring.submission();
        let mut push = |entry: squeue::Entry, place: usize| {
            // SAFETY: an entry names our own headers, and frames and targets that the caller of
            // `run` has borrowed, targets exclusively. It does not return before the kernel has
            // completed all of them. The queue has room for all places.
            let _ = unsafe { queue.push(&entry.user_data(place as u64)) };
        };
        for place in writes {
            let vectors = self.vectors[place].as_ptr();
            push(opcode::Writev::new(tap, vectors, 2).rw_flags(flags).build(), place);
        }
        for place in reads {
            let vectors = self.vectors[place].as_ptr();
            push(opcode::Readv::new(tap, vectors, 2).rw_flags(flags).build(), place);
        }
        let mut left = queue.len();
        drop(queue);
        while left > 0 {
            if let Err(error) = self.ring.submit_and_wait(left)
                && !matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM)
                )
            {
                // The kernel may hold addresses of the caller's that `run` has promised to give
                // back: it must not return, nor unwind.
                tracing::error!(%error, "io_uring has failed, this process ends");
                std::process::abort();
            }
            for done in self.ring.completion() {
                if let Some(result) = self.results.get_mut(done.user_data() as usize) {
                    *result = done.result();
                }
                left -= 1;
            }
        }
    }

    /// What became of frame `index` of those that were written.
    pub fn written(&self, index: usize) -> io::Result<usize> {
        result(self.results[index])
    }

    /// What was read into target `index`: how many bytes of a frame, and its `virtio_net_hdr`.
    pub fn read(&self, index: usize) -> io::Result<(usize, [u8; HEADER])> {
        let len = result(self.results[FRAMES + index])?;
        Ok((len.saturating_sub(HEADER), self.headers[FRAMES + index]))
    }
}

fn result(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
