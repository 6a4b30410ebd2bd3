//! netif's front half: what every driver domain understands.
//!
//! Transmit: a frame is granted to the driver domain, read-only, one slot for each page that it
//! touches. Receive: pages of an area are let to the driver domain one by one, in ring order, so
//! that a frame that fills consecutive slots lies in one piece.
//!
//! The driver domain is not trusted: an id that is not out, an index that runs ahead, a length
//! that does not fit a page end the connection ([`NetifError`]), and a page is used again only
//! after its grant has been taken back (XSA-396, XSA-405).

mod offloads;
mod receive;
mod transmit;

pub use offloads::NetifOffloads;
pub use receive::{NetifReceived, NoFrame, PAGES, Place, Receiver};
pub use transmit::{Finished, NotSent, Transmitter};

use thiserror::Error;
use xenvelope_grant::ring::RingError;

/// The driver domain broke netif; the connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NetifError {
    /// A ring index ran ahead.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A response names an id that is not out.
    #[error("the driver domain answered a request that was never made: id {0}")]
    UnknownId(u16),
    /// A received fragment does not lie in its page.
    #[error("the driver domain put a fragment outside its page: offset {offset}, length {length}")]
    OutsidePage {
        /// Where it begins.
        offset: u16,
        /// How long it says it is.
        length: i16,
    },
    /// More fragments than a frame can have.
    #[error("the driver domain chained more fragments than a frame can have")]
    TooManyFragments,
}
