//! Requests, for those that send them and for those that answer.

use xenvelope_grant::DomId;

use super::{Kind, Permissions, VALUE_MAX, WireError, check_path, encode, number, string};

/// A request of a split driver, or of a tool that looks at the store. (Those of the toolstack that
/// makes domains are not here.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their fields are paths, and what the variant says")]
pub enum Request<'a> {
    /// The names of a node's children.
    Directory { path: &'a str },
    /// The same from an offset in bytes on, for lists that do not fit a message.
    DirectoryPart { path: &'a str, offset: u32 },
    /// A node's value.
    Read { path: &'a str },
    /// Writes a node, and makes those above it.
    Write { path: &'a str, value: &'a [u8] },
    /// Makes a node, and those above it.
    MakeDirectory { path: &'a str },
    /// Removes a node and all below it.
    Remove { path: &'a str },
    /// Sets a watch.
    Watch { path: &'a str, token: &'a str },
    /// Ends a watch: both must be as they were.
    Unwatch { path: &'a str, token: &'a str },
    /// Begins a transaction.
    TransactionStart,
    /// Ends the transaction of the header.
    TransactionEnd { commit: bool },
    /// A node's permissions.
    GetPermissions { path: &'a str },
    /// Sets them.
    SetPermissions { path: &'a str, permissions: Permissions<'a> },
    /// Ends all watches and transactions.
    ResetWatches,
    /// Where a domain's part of the store is.
    GetDomainPath { domid: DomId },
    /// Whether the store talks with a domain.
    IsDomainIntroduced { domid: DomId },
}

impl<'a> Request<'a> {
    /// The kind of its message, which is also that of its answer.
    pub const fn kind(&self) -> Kind {
        match self {
            Request::Directory { .. } => Kind::Directory,
            Request::DirectoryPart { .. } => Kind::DirectoryPart,
            Request::Read { .. } => Kind::Read,
            Request::Write { .. } => Kind::Write,
            Request::MakeDirectory { .. } => Kind::MakeDirectory,
            Request::Remove { .. } => Kind::Remove,
            Request::Watch { .. } => Kind::Watch,
            Request::Unwatch { .. } => Kind::Unwatch,
            Request::TransactionStart => Kind::TransactionStart,
            Request::TransactionEnd { .. } => Kind::TransactionEnd,
            Request::GetPermissions { .. } => Kind::GetPermissions,
            Request::SetPermissions { .. } => Kind::SetPermissions,
            Request::ResetWatches => Kind::ResetWatches,
            Request::GetDomainPath { .. } => Kind::GetDomainPath,
            Request::IsDomainIntroduced { .. } => Kind::IsDomainIntroduced,
        }
    }

    /// Builds the message in `out` and says how long it is.
    pub fn encode(&self, id: u32, transaction: u32, out: &mut [u8]) -> Result<usize, WireError> {
        let mut say = |parts: &[&[u8]]| encode(out, self.kind(), id, transaction, parts);
        match *self {
            Request::Directory { path }
            | Request::Read { path }
            | Request::MakeDirectory { path }
            | Request::Remove { path }
            | Request::GetPermissions { path } => {
                check_path(path)?;
                say(&[path.as_bytes(), b"\0"])
            }
            Request::DirectoryPart { path, offset } => {
                check_path(path)?;
                say(&[path.as_bytes(), b"\0", Decimal::new(offset).as_str().as_bytes(), b"\0"])
            }
            Request::Write { path, value } => {
                check_path(path)?;
                if value.len() > VALUE_MAX {
                    return Err(WireError::TooLong);
                }
                say(&[path.as_bytes(), b"\0", value])
            }
            Request::Watch { path, token } | Request::Unwatch { path, token } => {
                check_path(path)?;
                if token.contains('\0') {
                    return Err(WireError::Text);
                }
                say(&[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])
            }
            Request::TransactionStart | Request::ResetWatches => say(&[b"\0"]),
            // Linux compares the whole payload (`xenbus_write_transaction`), so the nul matters.
            Request::TransactionEnd { commit: true } => say(&[b"T\0"]),
            Request::TransactionEnd { commit: false } => say(&[b"F\0"]),
            Request::GetDomainPath { domid } | Request::IsDomainIntroduced { domid } => {
                say(&[Decimal::new(u32::from(domid.0)).as_str().as_bytes(), b"\0"])
            }
            Request::SetPermissions { path, permissions } => {
                check_path(path)?;
                say(&[path.as_bytes(), b"\0", permissions.as_bytes()])
            }
        }
    }

    /// Reads a request, as a server does. What may follow the last string is ignored.
    pub fn parse(kind: u32, payload: &'a [u8]) -> Result<Request<'a>, WireError> {
        let unexpected = WireError::Kind(kind);
        let kind = Kind::from_number(kind).ok_or(unexpected)?;
        match kind {
            Kind::TransactionStart => return Ok(Request::TransactionStart),
            Kind::ResetWatches => return Ok(Request::ResetWatches),
            Kind::TransactionEnd => {
                return match string(payload)?.0 {
                    "T" => Ok(Request::TransactionEnd { commit: true }),
                    "F" => Ok(Request::TransactionEnd { commit: false }),
                    _ => Err(WireError::Text),
                };
            }
            Kind::GetDomainPath => {
                return Ok(Request::GetDomainPath { domid: DomId(number(string(payload)?.0)?) });
            }
            Kind::IsDomainIntroduced => {
                let domid = DomId(number(string(payload)?.0)?);
                return Ok(Request::IsDomainIntroduced { domid });
            }
            // What is not served must not be taken for a path that is malformed.
            Kind::Control
            | Kind::Introduce
            | Kind::Release
            | Kind::WatchEvent
            | Kind::Error
            | Kind::Resume
            | Kind::SetTarget => return Err(unexpected),
            _ => {}
        }
        let (path, rest) = string(payload)?;
        check_path(path)?;
        Ok(match kind {
            Kind::Directory => Request::Directory { path },
            Kind::DirectoryPart => {
                Request::DirectoryPart { path, offset: number(string(rest)?.0)? }
            }
            Kind::Read => Request::Read { path },
            Kind::Write if rest.len() > VALUE_MAX => return Err(WireError::TooLong),
            Kind::Write => Request::Write { path, value: rest },
            Kind::MakeDirectory => Request::MakeDirectory { path },
            Kind::Remove => Request::Remove { path },
            Kind::Watch => Request::Watch { path, token: string(rest)?.0 },
            Kind::Unwatch => Request::Unwatch { path, token: string(rest)?.0 },
            Kind::GetPermissions => Request::GetPermissions { path },
            Kind::SetPermissions => {
                Request::SetPermissions { path, permissions: Permissions::parse(rest)? }
            }
            _ => return Err(unexpected),
        })
    }
}

/// A number in decimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    /// Of that number.
    pub const fn new(mut number: u32) -> Decimal {
        let mut decimal = Decimal { digits: [b'0'; 10], start: 10 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}
