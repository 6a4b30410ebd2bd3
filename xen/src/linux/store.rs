//! The seam's `Store` over xenstore: through the kernel's `/dev/xen/xenbus`, or the socket of
//! xenstored where that runs.
//!
//! A request is sent and its answer awaited; watch events that come in between wait in a queue.
//! The connection is believed until the store is silent for too long or says something that makes
//! no sense. From then on everything is [`StoreError::Unreachable`]: what became of the last
//! request is not known, and a kernel's connection cannot be reset. A program that needs the
//! store opens it anew, and looks at everything again.

mod commit;
mod connection;
mod events;
#[cfg(test)]
mod tests;
mod transport;

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use thiserror::Error;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Store, StoreError, WatchEvent};

use crate::wire::{self, DirectoryPart, Errno, Request};
pub use connection::Fault;
use connection::{Connection, Refusal};
use transport::Transport;

/// The kernel's device. Each open file is a connection of its own.
pub const DEVICE: &str = "/dev/xen/xenbus";
/// Where xenstored's socket is.
pub const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
/// The environment variable that names another socket or device, as for Xen's own tools.
pub const PATH_VARIABLE: &str = "XENSTORED_PATH";
/// How long the store may think.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The store cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open xenstore at {}", path.display())]
pub struct OpenError {
    /// Where it was looked for.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A connection to xenstore. For one thread.
pub struct XenStore {
    transport: Rc<Transport>,
    connection: RefCell<Connection>,
    #[cfg(feature = "xenstore-rs")]
    library: Option<super::xenstore_rs::Library>,
}

impl XenStore {
    /// Opens what [`PATH_VARIABLE`] names, else the kernel's device, else xenstored's socket.
    pub fn open() -> Result<XenStore, OpenError> {
        let store = match std::env::var_os(PATH_VARIABLE) {
            Some(path) => Self::open_at(Path::new(&path), TIMEOUT)?,
            None => Self::open_at(Path::new(DEVICE), TIMEOUT).or_else(|error| {
                let mut sockets = SOCKETS.iter().map(Path::new);
                sockets.find_map(|path| Self::open_at(path, TIMEOUT).ok()).ok_or(error)
            })?,
        };
        #[cfg(feature = "xenstore-rs")]
        let store = store.with_library();
        Ok(store)
    }

    /// Opens a socket, or else a device.
    pub fn open_at(path: &Path, timeout: Duration) -> Result<XenStore, OpenError> {
        let failed = |source| OpenError { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.file_type().is_socket() {
            let stream = UnixStream::connect(path).map_err(failed)?;
            // Behind the socket there is no domain, and so nothing that a relative path is
            // relative to. It is where xenstored runs: in domain 0.
            return Self::over(stream, Some(DomId::DOM0), timeout).map_err(failed);
        }
        let transport = Transport::device(path).map_err(failed)?;
        Ok(Self::new(transport, None, timeout))
    }

    /// Over a socket that is connected. `home`: whose part of the store relative paths are made
    /// absolute in; without it they are sent as they are.
    pub fn over(
        stream: UnixStream,
        home: Option<DomId>,
        timeout: Duration,
    ) -> io::Result<XenStore> {
        let home = home.map(|domid| format!("/local/domain/{domid}"));
        Ok(Self::new(Transport::socket(stream)?, home, timeout))
    }

    fn new(transport: Transport, home: Option<String>, timeout: Duration) -> XenStore {
        let transport = Rc::new(transport);
        let connection = Connection::new(Rc::clone(&transport), home, timeout);
        XenStore {
            transport,
            connection: RefCell::new(connection),
            #[cfg(feature = "xenstore-rs")]
            library: None,
        }
    }

    /// Has the library do what it can. Without it (its connection failed) our codec does it.
    #[cfg(feature = "xenstore-rs")]
    fn with_library(mut self) -> XenStore {
        let domid = self.domid().ok();
        self.library = domid.and_then(|domid| super::xenstore_rs::Library::open(domid).ok());
        self
    }

    /// Readable when there is something for [`pump`](Self::pump). Events that were read along
    /// with an answer do not make it readable: ask [`has_events`](Self::has_events) before
    /// waiting for it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.transport.fd()
    }

    /// Takes in what has come, without waiting, and not without end. When the connection is lost
    /// what comes is thrown away, but the descriptor may stay readable for ever: ask
    /// [`is_alive`](Self::is_alive).
    pub fn pump(&self) {
        self.connection.borrow_mut().pump();
    }

    /// Whether [`Store::next`] has something without looking at the descriptor.
    pub fn has_events(&self) -> bool {
        !self.connection.borrow().events().is_empty()
    }

    /// False once the connection is lost. It does not come back.
    pub fn is_alive(&self) -> bool {
        self.fault().is_none()
    }

    /// Why the connection is lost, if it is.
    pub fn fault(&self) -> Option<Fault> {
        self.connection.borrow().fault()
    }

    /// The id of the domain we are. Asked for anew each time: it changes with a migration. Domain
    /// 0 may not have the node.
    pub fn domid(&self) -> Result<DomId, StoreError> {
        self.connection.borrow_mut().domid()
    }

    fn ask(&self, request: &Request<'_>) -> Result<Vec<u8>, Refusal> {
        self.connection.borrow_mut().call(request, 0)
    }

    fn resolve<'p>(&self, path: &'p str) -> Cow<'p, str> {
        self.connection.borrow().resolve(path)
    }

    /// A list that does not fit one message, from its parts. The generation says whether they
    /// are of the same list.
    fn list_in_parts(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        const TRIES: usize = 16;
        // 32,768 domains and their commas; also what bounds the number of parts.
        const LONGEST: usize = 1 << 20;
        'again: for _ in 0..TRIES {
            let mut names = Vec::new();
            let mut generation = None;
            loop {
                let offset = u32::try_from(names.len()).map_err(|_| StoreError::TooLong)?;
                let part = match self.ask(&Request::DirectoryPart { path, offset }) {
                    // It is optional.
                    Err(Refusal::Said(Errno::NoSys)) => return Err(StoreError::TooLong),
                    part => part?,
                };
                let part = DirectoryPart::parse(&part)?;
                if generation.get_or_insert_with(|| part.generation.to_owned()) != part.generation {
                    continue 'again;
                }
                names.extend_from_slice(part.names);
                if part.last {
                    return Ok(names);
                }
                if names.len() > LONGEST {
                    return Err(StoreError::TooLong);
                }
            }
        }
        Err(StoreError::Unreachable)
    }
}

/// Puts text into the caller's space.
fn fill<'o>(text: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
    let out = out.get_mut(..text.len()).ok_or(StoreError::TooLong)?;
    out.copy_from_slice(text.as_bytes());
    std::str::from_utf8(out).map_err(|_| StoreError::Malformed)
}

impl Store for XenStore {
    fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        #[cfg(feature = "xenstore-rs")]
        if let Some(library) = &self.library {
            return fill(&library.read(path)?, out);
        }
        let value = self.ask(&Request::Read { path: &self.resolve(path) })?;
        fill(std::str::from_utf8(&value).map_err(|_| StoreError::Malformed)?, out)
    }

    fn list<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        #[cfg(feature = "xenstore-rs")]
        if let Some(library) = &self.library {
            match library.list(path) {
                // A list that is too long for one message it does not do.
                Err(StoreError::TooLong) => {}
                names => return fill(&names?, out),
            }
        }
        let path = self.resolve(path);
        let names = match self.ask(&Request::Directory { path: &path }) {
            Err(Refusal::Said(Errno::TooBig)) => self.list_in_parts(&path)?,
            names => names?,
        };
        fill(wire::names(&names)?, out)
    }

    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.connection.borrow_mut().commit(changes)
    }

    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError> {
        self.connection.borrow_mut().watch(path, token)
    }

    fn unwatch(&self, token: u32) {
        self.connection.borrow_mut().unwatch(token);
    }

    fn next<'o>(&self, out: &'o mut [u8]) -> Option<WatchEvent<'o>> {
        let mut connection = self.connection.borrow_mut();
        if connection.events().is_empty() {
            connection.pump();
        }
        let (token, path) = connection.next_event()?;
        let path = fill(&path[..path.floor_char_boundary(out.len())], out).ok()?;
        Some(WatchEvent { token, path })
    }
}
