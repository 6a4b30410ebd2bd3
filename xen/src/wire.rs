//! The wire of xenstore (`xen/include/public/io/xs_wire.h`, `docs/misc/xenstore.txt`).
//!
//! A message is a [`Header`] and up to [`PAYLOAD_MAX`] bytes. The same bytes go over
//! `/dev/xen/xenbus`, over xenstored's socket and through the ring page of a kernel, so this knows
//! nothing of any of them and does not allocate: [`Request`] for both sides, [`Assembler`] for
//! bytes that come in pieces, [`encode`] for whatever goes out.

mod assembler;
mod errno;
mod path;
mod permission;
mod reply;
mod request;

use thiserror::Error;
use xenvelope_grant::seam::StoreError;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use assembler::{Assembler, Message};
pub use errno::Errno;
pub use path::check_path;
pub use permission::{Access, Permission, Permissions, PermissionsText};
pub use reply::{
    DirectoryPart, Event, encode_error, encode_event, encode_transaction, names, transaction,
};
pub use request::{Decimal, Request};

/// `XENSTORE_PAYLOAD_MAX`. Who exceeds it is disconnected; who believes a longer length of the
/// other side overruns his buffer (XSA-72).
pub const PAYLOAD_MAX: usize = 4096;
/// `XENSTORE_ABS_PATH_MAX`.
pub const ABSOLUTE_PATH_MAX: usize = 3072;
/// `XENSTORE_REL_PATH_MAX`.
pub const RELATIVE_PATH_MAX: usize = 2048;
/// Longest value that xenstored stores for a guest by default.
pub const VALUE_MAX: usize = 2048;
/// Bytes of a [`Header`].
pub const HEADER: usize = core::mem::size_of::<Header>();
/// The longest message.
pub const MESSAGE_MAX: usize = HEADER + PAYLOAD_MAX;

/// `struct xsd_sockmsg`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct Header {
    /// `type`: a [`Kind`], if it is one.
    pub kind: U32,
    /// `req_id`: echoed by the answer.
    pub request: U32,
    /// `tx_id`: the transaction, or 0.
    pub transaction: U32,
    /// `len`: how many bytes follow.
    pub length: U32,
}

const _: () = assert!(HEADER == 16);

impl Header {
    /// A header of that kind, with the same ids: how every request is answered.
    pub const fn answer(&self, kind: Kind, length: u32) -> Header {
        Header {
            kind: U32::new(kind as u32),
            request: self.request,
            transaction: self.transaction,
            length: U32::new(length),
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// `enum xsd_sockmsg_type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// The kind of that number.
            pub const fn from_number(number: u32) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// For the administrator of xenstored.
    Control = 0,
    /// The names of a node's children.
    Directory = 1,
    /// A node's value.
    Read = 2,
    /// A node's permissions.
    GetPermissions = 3,
    /// Sets a watch.
    Watch = 4,
    /// Ends a watch.
    Unwatch = 5,
    /// Begins a transaction.
    TransactionStart = 6,
    /// Ends a transaction, one way or the other.
    TransactionEnd = 7,
    /// A domain is there.
    Introduce = 8,
    /// A domain is gone.
    Release = 9,
    /// Where a domain's part of the store is.
    GetDomainPath = 10,
    /// Writes a node.
    Write = 11,
    /// Makes a node.
    MakeDirectory = 12,
    /// Removes a node and all below it.
    Remove = 13,
    /// Sets a node's permissions.
    SetPermissions = 14,
    /// Only from the store: a watch fired.
    WatchEvent = 15,
    /// Only from the store: the request failed.
    Error = 16,
    /// Whether the store talks with a domain.
    IsDomainIntroduced = 17,
    /// `@releaseDomain` may fire again for a domain.
    Resume = 18,
    /// Gives a device model its guest's rights.
    SetTarget = 19,
    /// Ends all watches and transactions of the caller.
    ResetWatches = 21,
    /// A part of a list of children that is too long for one message.
    DirectoryPart = 22,
}

/// Why something is not on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WireError {
    /// It does not fit a message, or the space given.
    #[error("too long for a message of xenstore")]
    TooLong,
    /// The header announces more than [`PAYLOAD_MAX`] bytes (XSA-72).
    #[error("the message claims {0} bytes")]
    Overlong(u32),
    /// Not a path that xenstore takes.
    #[error("not a path of the store")]
    Path,
    /// A string with a nul in it, without one at its end, or not UTF-8; a number that is none.
    #[error("malformed text in a message of xenstore")]
    Text,
    /// A kind of message that is not expected here.
    #[error("a message of kind {0} is not expected")]
    Kind(u32),
}

impl From<WireError> for StoreError {
    fn from(error: WireError) -> StoreError {
        match error {
            WireError::TooLong => StoreError::TooLong,
            WireError::Path | WireError::Text => StoreError::Malformed,
            WireError::Overlong(_) | WireError::Kind(_) => StoreError::Unreachable,
        }
    }
}

/// Builds a message in `out` and says how long it is. The payload is `parts`, one after the other.
pub fn encode(
    out: &mut [u8],
    kind: Kind,
    request: u32,
    transaction: u32,
    parts: &[&[u8]],
) -> Result<usize, WireError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > PAYLOAD_MAX {
        return Err(WireError::TooLong);
    }
    let (head, mut rest) = out
        .get_mut(..HEADER + length)
        .and_then(|out| out.split_at_mut_checked(HEADER))
        .ok_or(WireError::TooLong)?;
    let header = Header {
        kind: U32::new(kind as u32),
        request: U32::new(request),
        transaction: U32::new(transaction),
        // Not above PAYLOAD_MAX.
        length: U32::new(length as u32),
    };
    head.copy_from_slice(header.as_bytes());
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    Ok(HEADER + length)
}

/// The string before the first nul, and what follows that.
fn string(bytes: &[u8]) -> Result<(&str, &[u8]), WireError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(WireError::Text)?;
    let text = core::str::from_utf8(&bytes[..end]).map_err(|_| WireError::Text)?;
    Ok((text, &bytes[end + 1..]))
}

/// A decimal number, without sign.
fn number<T: core::str::FromStr>(text: &str) -> Result<T, WireError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().map_err(|_| WireError::Text) } else { Err(WireError::Text) }
}
