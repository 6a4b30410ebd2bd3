//! A client that says what it likes.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use xenvelope_xen::wire::{Assembler, Errno, Event, Kind, MESSAGE_MAX, encode, transaction};

/// How long an answer may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Payload(Vec<u8>),
    Error(String),
}

pub(super) struct Raw {
    pub(super) stream: UnixStream,
    assembler: Assembler,
    last_id: u32,
    events: VecDeque<(String, String)>,
    answers: VecDeque<(u32, Said)>,
}

impl Raw {
    pub(super) fn connect(path: &Path) -> Raw {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Raw {
            stream,
            assembler: Assembler::new(),
            last_id: 0,
            events: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&mut self, kind: Kind, transaction: u32, payload: &[u8]) -> Said {
        self.last_id += 1;
        let mut message = [0; MESSAGE_MAX];
        let length = encode(&mut message, kind, self.last_id, transaction, &[payload]);
        self.stream.write_all(&message[..length.expect("it fits")]).expect("it is open");
        while self.answers.is_empty() {
            assert!(self.take_in(), "closed");
        }
        let (id, said) = self.answers.pop_front().expect("an answer");
        assert_eq!(id, self.last_id, "an answer to another request");
        said
    }

    /// A request that must be done.
    pub(super) fn done(&mut self, kind: Kind, transaction: u32, payload: &[u8]) {
        let said = self.ask(kind, transaction, payload);
        let what = String::from_utf8_lossy(payload);
        assert_eq!(said, Said::Payload(b"OK\0".to_vec()), "{kind:?} {what:?}");
    }

    /// Begins a transaction.
    pub(super) fn start(&mut self) -> u32 {
        match self.ask(Kind::TransactionStart, 0, b"\0") {
            Said::Payload(id) => transaction(&id).expect("a number"),
            Said::Error(error) => panic!("refused: {error}"),
        }
    }

    /// The next event: path and token.
    pub(super) fn event(&mut self) -> (String, String) {
        while self.events.is_empty() {
            assert!(self.take_in(), "closed");
        }
        self.events.pop_front().expect("an event")
    }

    /// Reads what comes next. False: the other end is closed.
    pub(super) fn take_in(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let length = match self.stream.read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("no answer: {error}"),
        };
        let mut bytes = &bytes[..length];
        while let Some(message) = self.assembler.push(&mut bytes).expect("well-formed") {
            let payload = message.payload;
            let id = message.header.request.get();
            match message.kind() {
                Some(Kind::WatchEvent) => {
                    let event = Event::parse(payload).expect("an event");
                    self.events.push_back((event.path.to_owned(), event.token.to_owned()));
                }
                Some(Kind::Error) => {
                    let errno = Errno::parse(payload).expect("a name");
                    self.answers.push_back((id, Said::Error(errno.name().to_owned())));
                }
                _ => self.answers.push_back((id, Said::Payload(payload.to_vec()))),
            }
        }
        length != 0
    }
}
