//! One client's socket: bytes in, answers and events out.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;
use xenvelope_xen::wire::{
    Assembler, Errno, Event, MESSAGE_MAX, Message, encode, encode_error, encode_event,
};

use crate::machine::StoreSession;

/// While so many bytes wait for the client it is neither read from nor told of anything: eight
/// messages of the longest kind.
pub(super) const MOST_WAITING: usize = 8 * MESSAGE_MAX;

/// How often a client is read from before the others have their turn.
const ROUNDS: usize = 16;

/// The connection is to be closed.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) struct Connection {
    stream: UnixStream,
    session: StoreSession,
    assembler: Box<Assembler>,
    /// What was read and not yet looked at.
    input: Vec<u8>,
    /// What was not yet sent.
    output: Vec<u8>,
}

impl Connection {
    /// None, if the system does not let us have it without blocking.
    pub(super) fn new(stream: UnixStream, session: StoreSession) -> Option<Connection> {
        stream.set_nonblocking(true).ok()?;
        let (input, output) = (Vec::new(), Vec::new());
        Some(Connection { stream, session, assembler: Box::default(), input, output })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What its socket must be ready for.
    pub(super) fn waits_for(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, self.may_read());
        flags.set(PollFlags::POLLOUT, !self.output.is_empty());
        flags
    }

    fn has_room(&self) -> bool {
        self.output.len() < MOST_WAITING
    }

    fn may_read(&self) -> bool {
        self.input.is_empty() && self.has_room()
    }

    /// Whether there is something to do for it now.
    pub(super) fn wants_turn(&self) -> bool {
        !self.input.is_empty() && self.has_room()
    }

    /// Whether it has a transaction open.
    pub(super) fn is_midway(&self) -> bool {
        self.session.is_midway()
    }

    /// Does what can be done without waiting.
    pub(super) fn serve(&mut self) -> Result<(), Closed> {
        self.session.give_up_stale();
        for _ in 0..ROUNDS {
            self.answer()?;
            self.tell();
            self.flush()?;
            if self.may_read() {
                if !self.read()? {
                    return Ok(());
                }
            } else if !self.wants_turn() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers what was read, as far as there is room for answers.
    fn answer(&mut self) -> Result<(), Closed> {
        let mut rest = &self.input[..];
        while !rest.is_empty() && self.output.len() < MOST_WAITING {
            // Of what follows a message that is too long nothing can be told apart.
            let Some(message) = self.assembler.push(&mut rest).map_err(|_| Closed)? else {
                break;
            };
            reply(&mut self.session, &message, &mut self.output);
        }
        let looked_at = self.input.len() - rest.len();
        self.input.drain(..looked_at);
        Ok(())
    }

    /// Tells what its watches have to tell.
    fn tell(&mut self) {
        let mut message = [0; MESSAGE_MAX];
        while self.output.len() < MOST_WAITING {
            let Some((path, token)) = self.session.next_event() else { return };
            // A path and a token that together do not fit a message are not sent, as xenstored
            // does it.
            if let Ok(length) = encode_event(&mut message, Event { path: &path, token }) {
                self.output.extend_from_slice(&message[..length]);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.stream.write(&self.output[sent..]) {
                Ok(0) => return Err(Closed),
                Ok(length) => sent += length,
                Err(error) if may_come_again(&error) => break,
                Err(_) => return Err(Closed),
            }
        }
        self.output.drain(..sent);
        Ok(())
    }

    /// Reads once. False if there is nothing.
    fn read(&mut self) -> Result<bool, Closed> {
        let mut bytes = [0; MESSAGE_MAX];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Closed),
            Ok(length) => {
                self.input.extend_from_slice(&bytes[..length]);
                Ok(true)
            }
            Err(error) if may_come_again(&error) => Ok(false),
            Err(_) => Err(Closed),
        }
    }
}

fn may_come_again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Answers one message.
fn reply(session: &mut StoreSession, message: &Message<'_>, output: &mut Vec<u8>) {
    let header = &message.header;
    let (request, transaction) = (header.request.get(), header.transaction.get());
    let mut out = [0; MESSAGE_MAX];
    let answer = session.answer(header.kind.get(), transaction, message.payload);
    let length = match (answer, message.kind()) {
        (Ok(payload), Some(kind)) => encode(&mut out, kind, request, transaction, &[&payload]),
        (Ok(_), None) => encode_error(&mut out, header, Errno::NoSys),
        (Err(errno), _) => encode_error(&mut out, header, errno),
    };
    // No payload is longer than a message may be: they are looked at where they are made.
    let length = length.or_else(|_| encode_error(&mut out, header, Errno::TooBig));
    output.extend_from_slice(&out[..length.unwrap_or(0)]);
}
