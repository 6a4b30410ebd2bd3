//! How the thread that serves the store is woken when it waits for its sockets.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Rung from any thread.
#[derive(Debug)]
pub(super) struct Bell {
    rung: AtomicBool,
    stream: UnixStream,
}

/// A bell, and what becomes readable when it rings.
pub(super) fn new() -> io::Result<(Bell, UnixStream)> {
    let (stream, heard) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    heard.set_nonblocking(true)?;
    Ok((Bell { rung: AtomicBool::new(false), stream }, heard))
}

impl Bell {
    /// One byte at most waits, so it never blocks.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            let _ = (&self.stream).write(&[0]);
        }
    }

    /// Takes note of it. Who rings after this rings again.
    pub(super) fn hear(&self, mut heard: &UnixStream) {
        let _ = heard.read(&mut [0; 16]);
        self.rung.store(false, SeqCst);
    }
}
