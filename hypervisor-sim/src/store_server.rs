//! The host's store at a Unix socket, for Xen's own tools and libraries: what xenstored serves in
//! domain 0. `XENSTORED_PATH` tells them where it is.
//!
//! A client has domain 0's rights, so the socket is its owner's alone (mode 0600). One thread
//! serves them all. What a client can make it keep is bounded: it is not read from while it does
//! not read, and watches, transactions and nodes have their quotas.

mod bell;
mod connection;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;

use crate::machine::{Machine, StoreSession};
use bell::Bell;
use connection::Connection;

/// Most connections at a time. One more is closed at once.
pub const MOST_CONNECTIONS: usize = 64;

/// Why the store is not served. Each says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// Somebody answers there.
    #[error("{} is in use by another program: give another path for the store", .0.display())]
    InUse(PathBuf),
    /// It exists, and is no socket.
    #[error("{} exists and is no socket: give another path for the store", .0.display())]
    Exists(PathBuf),
    /// The system refused.
    #[error("cannot serve the store at {}: {source}; give another path", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A store that is served. When this is dropped it no longer is, and the socket is gone.
#[derive(Debug)]
pub struct StoreServer {
    path: PathBuf,
    /// Which file it is: device and inode.
    file: (u64, u64),
    stop: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl StoreServer {
    /// Serves the store of `machine` at `path`, until what this gives is dropped. A socket that
    /// was left there, and at which nobody answers, is replaced.
    pub fn start(machine: &Arc<Machine>, path: &Path) -> Result<StoreServer, StartError> {
        let failed = |source| StartError::System { path: path.to_owned(), source };
        make_way(path)?;
        let listener = UnixListener::bind(path).map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => StartError::InUse(path.to_owned()),
            _ => failed(source),
        })?;
        let start = || {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            let file = file_at(path)?;
            listener.set_nonblocking(true)?;
            let (bell, heard) = bell::new()?;
            let bell = Arc::new(bell);
            let stop = Arc::new(AtomicBool::new(false));
            let mut serving = Serving {
                machine: Arc::clone(machine),
                listener,
                bell: Arc::clone(&bell),
                heard,
                stop: Arc::clone(&stop),
                connections: Vec::new(),
            };
            let thread =
                thread::Builder::new().name("store".to_owned()).spawn(move || serving.run())?;
            Ok(StoreServer { path: path.to_owned(), file, stop, bell, thread: Some(thread) })
        };
        start().map_err(|source| {
            // It is ours: we have just made it.
            let _ = fs::remove_file(path);
            failed(source)
        })
    }

    /// Where it is served.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // It ends as asked; one that has panicked has ended too.
            let _ = thread.join();
        }
        // Somebody may have put another there.
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket at which nobody answers.
fn make_way(path: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(StartError::Exists(path.to_owned()))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)
            }
            // Whoever it is may be too busy, or not for us.
            _ => Err(StartError::InUse(path.to_owned())),
        },
    }
}

/// What the thread has.
struct Serving {
    machine: Arc<Machine>,
    listener: UnixListener,
    bell: Arc<Bell>,
    heard: UnixStream,
    stop: Arc<AtomicBool>,
    connections: Vec<Connection>,
}

impl Serving {
    fn run(&mut self) {
        loop {
            if self.wait().is_err() {
                tracing::warn!("the store's socket cannot be waited for and is no longer served");
                return;
            }
            if self.stop.load(SeqCst) {
                return;
            }
            // Before anybody is looked after: what rings from here on rings again.
            self.bell.hear(&self.heard);
            self.accept();
            self.connections.retain_mut(|connection| connection.serve().is_ok());
        }
    }

    fn wait(&self) -> io::Result<()> {
        let readable = PollFlags::POLLIN;
        let mut waits = Vec::with_capacity(self.connections.len() + 2);
        waits.push(PollFd::new(self.heard.as_fd(), readable));
        waits.push(PollFd::new(self.listener.as_fd(), readable));
        for connection in &self.connections {
            waits.push(PollFd::new(connection.fd(), connection.waits_for()));
        }
        let timeout = if self.connections.iter().any(Connection::wants_turn) {
            PollTimeout::ZERO
        } else if self.connections.iter().any(Connection::is_midway) {
            // To see whether a transaction is too old.
            PollTimeout::from(1000u16)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut waits, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn accept(&mut self) {
        // No more in one round than there can be.
        for _ in 0..MOST_CONNECTIONS {
            match self.listener.accept() {
                // One too many is closed by being dropped.
                Ok(_) if self.connections.len() >= MOST_CONNECTIONS => {}
                Ok((stream, _)) => {
                    let bell = Arc::clone(&self.bell);
                    let session = StoreSession::open(&self.machine, Arc::new(move || bell.ring()));
                    self.connections.extend(Connection::new(stream, session));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // No descriptor is left, say: the listener stays readable.
                    thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }
}
