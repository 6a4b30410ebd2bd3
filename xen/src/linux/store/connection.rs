//! Requests and answers, one at a time, and events in between.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use thiserror::Error;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

use super::events::Events;
use super::transport::Transport;
use crate::wire::{
    Assembler, Decimal, Errno, Event, Kind, MESSAGE_MAX, Request, WireError, check_path,
};

/// Why a request was not done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// The store said so.
    Said(Errno),
    /// It is not one that can be sent.
    Unsent(StoreError),
    /// It was not answered, nor will another be.
    Lost(Fault),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> StoreError {
        match refusal {
            Refusal::Said(errno) => errno.into(),
            Refusal::Unsent(error) => error,
            Refusal::Lost(_) => StoreError::Unreachable,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal::Lost(fault)
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Refusal {
        Refusal::Unsent(error.into())
    }
}

/// Why the connection is not to be believed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    /// No answer in time.
    #[error("the store did not answer in time")]
    Silent,
    /// The other end is closed.
    #[error("the store closed the connection")]
    Closed,
    /// Reading, writing or waiting failed.
    #[error("the connection to the store failed: {0}")]
    Io(ErrorKind),
    /// What came is no answer to what was asked, or no message at all.
    #[error("the store said what makes no sense")]
    Nonsense,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error.kind())
    }
}

pub(super) struct Connection {
    transport: Rc<Transport>,
    /// What relative paths are put below, where the store does not do it itself.
    home: Option<String>,
    timeout: Duration,
    assembler: Box<Assembler>,
    events: Events,
    last_id: u32,
    /// The request whose answer is to come.
    awaited: Option<(u32, Kind)>,
    answer: Option<Result<Vec<u8>, Errno>>,
    fault: Option<Fault>,
}

impl Connection {
    pub(super) fn new(
        transport: Rc<Transport>,
        home: Option<String>,
        timeout: Duration,
    ) -> Connection {
        Connection {
            transport,
            home,
            timeout,
            assembler: Box::default(),
            events: Events::default(),
            last_id: 0,
            awaited: None,
            answer: None,
            fault: None,
        }
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// From here on nothing is believed.
    pub(super) fn lose(&mut self, fault: Fault) -> Refusal {
        Refusal::Lost(*self.fault.get_or_insert(fault))
    }

    pub(super) fn next_event(&mut self) -> Option<(u32, String)> {
        self.events.next()
    }

    /// The path as it is sent.
    pub(super) fn resolve<'p>(&self, path: &'p str) -> Cow<'p, str> {
        match &self.home {
            // An empty path stays what it is: an error.
            Some(home) if !path.starts_with(['/', '@']) && !path.is_empty() => {
                Cow::Owned(format!("{home}/{path}"))
            }
            _ => Cow::Borrowed(path),
        }
    }

    /// One request and its answer's payload.
    pub(super) fn call(
        &mut self,
        request: &Request<'_>,
        transaction: u32,
    ) -> Result<Vec<u8>, Refusal> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        self.last_id = self.last_id.wrapping_add(1);
        let mut message = [0; MESSAGE_MAX];
        let length = request.encode(self.last_id, transaction, &mut message)?;
        if length > self.transport.longest() {
            return Err(WireError::TooLong.into());
        }
        let until = Instant::now() + self.timeout;
        self.awaited = Some((self.last_id, request.kind()));
        let sent = self.send(&message[..length], until);
        let answer = sent.and_then(|()| Ok(self.receive(until)?));
        self.awaited = None;
        match answer {
            Ok(answer) => answer.map_err(Refusal::Said),
            Err(Refusal::Lost(fault)) => Err(self.lose(fault)),
            Err(refusal) => Err(refusal),
        }
    }

    fn send(&mut self, mut message: &[u8], until: Instant) -> Result<(), Refusal> {
        while !message.is_empty() {
            match self.transport.write(message) {
                Ok(0) => return Err(Fault::Closed.into()),
                Ok(sent) => message = &message[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.transport.wait(true, until).map_err(Fault::from)? {
                        return Err(Fault::Silent.into());
                    }
                    // A server that waits for us to read does not read.
                    self.take_in()?;
                }
                Err(error) if self.transport.refuses_by_write() => return Err(refused(error)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::from(error).into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, until: Instant) -> Result<Result<Vec<u8>, Errno>, Fault> {
        loop {
            let came = self.take_in()?;
            if let Some(answer) = self.answer.take() {
                return Ok(answer);
            }
            // Events without end are no answer either.
            let late = Instant::now() >= until;
            if late || !came && !self.transport.wait(false, until)? {
                return Err(Fault::Silent);
            }
        }
    }

    /// Reads what is there, once. False if there is nothing.
    fn take_in(&mut self) -> Result<bool, Fault> {
        let mut bytes = [0; 4096];
        let mut bytes = match self.transport.read(&mut bytes) {
            Ok(0) => return Err(Fault::Closed),
            Ok(length) => &bytes[..length],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        while let Some(message) = self.assembler.push(&mut bytes).map_err(|_| Fault::Nonsense)? {
            // Linux leaves the ids of an event as they are in its memory (`watch_fired`).
            if message.kind() == Some(Kind::WatchEvent) {
                self.events.arrived(Event::parse(message.payload).map_err(|_| Fault::Nonsense)?);
                continue;
            }
            let (id, kind) = self.awaited.take().ok_or(Fault::Nonsense)?;
            if message.header.request.get() != id {
                return Err(Fault::Nonsense);
            }
            self.answer = Some(match message.kind() {
                Some(Kind::Error) => {
                    Err(Errno::parse(message.payload).map_err(|_| Fault::Nonsense)?)
                }
                Some(other) if other == kind => Ok(message.payload.to_vec()),
                _ => return Err(Fault::Nonsense),
            });
        }
        Ok(true)
    }

    /// Takes in what has come: so much at most that whoever makes events cannot keep us here.
    pub(super) fn pump(&mut self) {
        for _ in 0..16 {
            if self.fault.is_some() {
                // So that it does not stay readable.
                let _ = self.transport.read(&mut [0; 4096]);
                return;
            }
            match self.take_in() {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => drop(self.lose(fault)),
            }
        }
    }

    pub(super) fn domid(&mut self) -> Result<DomId, StoreError> {
        let path = self.resolve("domid");
        let value = match self.call(&Request::Read { path: &path }, 0) {
            Err(Refusal::Said(Errno::NoEnt)) => return Ok(DomId::DOM0),
            value => value?,
        };
        let text = std::str::from_utf8(&value).map_err(|_| StoreError::Malformed)?;
        text.parse().ok().and_then(DomId::ordinary).ok_or(StoreError::Malformed)
    }

    pub(super) fn watch(&mut self, path: &str, token: u32) -> Result<(), StoreError> {
        let sent = self.resolve(path);
        check_path(&sent)?;
        if !self.events.add(token, path, &sent) {
            // The same again. The device would have it twice, the socket says EEXIST.
            self.events.push(token, path.to_owned());
            return Ok(());
        }
        let text = Decimal::new(token);
        match self.call(&Request::Watch { path: &sent, token: text.as_str() }, 0) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                self.events.take_back(token, &sent);
                Err(refusal.into())
            }
        }
    }

    pub(super) fn unwatch(&mut self, token: u32) {
        let text = Decimal::new(token);
        for path in self.events.remove(token) {
            // What still comes of a watch that could not be ended is ignored.
            let _ = self.call(&Request::Unwatch { path: &path, token: text.as_str() }, 0);
        }
    }
}

/// A request that the device did not take.
fn refused(error: io::Error) -> Refusal {
    use nix::errno::Errno as Os;
    let errno = match error.raw_os_error().map(Os::from_raw) {
        Some(Os::ENOENT) => Errno::NoEnt,
        Some(Os::EACCES) => Errno::Acces,
        Some(Os::EPERM) => Errno::Perm,
        Some(Os::EINVAL | Os::EILSEQ) => Errno::Inval,
        Some(Os::E2BIG) => Errno::TooBig,
        Some(Os::ENOSPC) => Errno::NoSpc,
        Some(Os::ENOMEM) => Errno::NoMem,
        _ => return Fault::from(error).into(),
    };
    Refusal::Said(errno)
}
