//! What the store says.

use super::{Decimal, Errno, Header, Kind, WireError, encode, number, string};

/// A watch fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What changed. Relative if the watch was.
    pub path: &'a str,
    /// The token of the watch.
    pub token: &'a str,
}

impl<'a> Event<'a> {
    /// From the payload of a [`Kind::WatchEvent`]. Something may follow the token.
    pub fn parse(payload: &'a [u8]) -> Result<Event<'a>, WireError> {
        let (path, rest) = string(payload)?;
        let (token, _) = string(rest)?;
        Ok(Event { path, token })
    }
}

/// The number of the transaction that was begun.
pub fn transaction(payload: &[u8]) -> Result<u32, WireError> {
    let (text, _) = string(payload)?;
    match number(text)? {
        // "no transaction" in a header.
        0 => Err(WireError::Text),
        id => Ok(id),
    }
}

/// Children's names, each with a nul after it, as one text with nuls between them.
pub fn names(payload: &[u8]) -> Result<&str, WireError> {
    let Some((last, before)) = payload.split_last() else {
        return Ok("");
    };
    let text = core::str::from_utf8(before).map_err(|_| WireError::Text)?;
    let good = *last == 0 && text.split('\0').all(|name| !name.is_empty());
    if good { Ok(text) } else { Err(WireError::Text) }
}

/// A part of a list of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryPart<'a> {
    /// The parts of one list have the same.
    pub generation: &'a str,
    /// The names in this part, each with a nul after it.
    pub names: &'a [u8],
    /// No more parts follow.
    pub last: bool,
}

impl<'a> DirectoryPart<'a> {
    /// From the payload of the answer. An empty name says that it is the last part.
    pub fn parse(payload: &'a [u8]) -> Result<DirectoryPart<'a>, WireError> {
        let (generation, rest) = string(payload)?;
        let (names, last) = match rest {
            [0] => (&rest[..0], true),
            [names @ .., 0] if names.ends_with(&[0]) => (names, true),
            // Without progress the caller would ask for ever.
            [_, .., 0] => (rest, false),
            _ => return Err(WireError::Text),
        };
        Ok(DirectoryPart { generation, names, last })
    }
}

/// Builds the answer to a request that failed.
pub fn encode_error(out: &mut [u8], to: &Header, errno: Errno) -> Result<usize, WireError> {
    let parts: [&[u8]; 2] = [errno.name().as_bytes(), b"\0"];
    encode(out, Kind::Error, to.request.get(), to.transaction.get(), &parts)
}

/// Builds a watch event.
pub fn encode_event(out: &mut [u8], event: Event<'_>) -> Result<usize, WireError> {
    let parts: [&[u8]; 4] = [event.path.as_bytes(), b"\0", event.token.as_bytes(), b"\0"];
    encode(out, Kind::WatchEvent, 0, 0, &parts)
}

/// Builds the answer to [`Kind::TransactionStart`].
pub fn encode_transaction(out: &mut [u8], to: &Header, id: u32) -> Result<usize, WireError> {
    let id = Decimal::new(id);
    let parts: [&[u8]; 2] = [id.as_str().as_bytes(), b"\0"];
    encode(out, Kind::TransactionStart, to.request.get(), to.transaction.get(), &parts)
}
