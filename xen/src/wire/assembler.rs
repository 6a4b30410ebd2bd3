//! Messages out of bytes that come in pieces.

use zerocopy::FromBytes;

use super::{HEADER, Header, Kind, MESSAGE_MAX, PAYLOAD_MAX, WireError};

/// A message that is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// What follows.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// Its kind, if that is known.
    pub const fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.header.kind.get())
    }
}

/// Collects one message at a time.
#[derive(Clone, Debug)]
pub struct Assembler {
    bytes: [u8; MESSAGE_MAX],
    filled: usize,
    whole: bool,
}

impl Default for Assembler {
    fn default() -> Assembler {
        Assembler::new()
    }
}

impl Assembler {
    /// With nothing in it.
    pub const fn new() -> Assembler {
        Assembler { bytes: [0; MESSAGE_MAX], filled: 0, whole: false }
    }

    /// Whether a message is underway of which not all is there.
    pub const fn is_midway(&self) -> bool {
        self.filled > 0 && !self.whole
    }

    /// Takes from the front of `input` what belongs to the current message, and gives that when
    /// it is whole. `None`: all of `input` is taken, and more is needed.
    ///
    /// After [`WireError::Overlong`] nothing that follows can be told apart: the connection is
    /// lost. The error comes again at every call.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<Option<Message<'_>>, WireError> {
        if self.whole {
            (self.filled, self.whole) = (0, false);
        }
        self.fill(input, HEADER);
        let Ok((header, _)) = Header::read_from_prefix(&self.bytes[..self.filled]) else {
            return Ok(None);
        };
        let length = match usize::try_from(header.length.get()) {
            Ok(length) if length <= PAYLOAD_MAX => length,
            _ => return Err(WireError::Overlong(header.length.get())),
        };
        self.fill(input, HEADER + length);
        if self.filled < HEADER + length {
            return Ok(None);
        }
        self.whole = true;
        Ok(Some(Message { header, payload: &self.bytes[HEADER..][..length] }))
    }

    fn fill(&mut self, input: &mut &[u8], until: usize) {
        let take = until.saturating_sub(self.filled).min(input.len());
        let (now, later) = input.split_at(take);
        self.bytes[self.filled..][..take].copy_from_slice(now);
        self.filled += take;
        *input = later;
    }
}
