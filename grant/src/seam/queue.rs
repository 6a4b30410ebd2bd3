//! A receive queue of a multi-queue card: frames from the wire, straight into a guest's pages.
//!
//! The driver domain has the queue and its descriptors; the pages behind them are those that a
//! guest has granted it to receive into. So a guest needs no access to the card, and the card none
//! to more of a guest than it has posted.

use thiserror::Error;

use super::{Offload, PortId};
use crate::Gref;

/// Why a posted page comes back without a frame. Nobody but the guest that posted it has a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unfilled {
    /// The guest has not granted us the page, or not for writing.
    #[error("the page is not granted to us for writing")]
    NotGranted,
    /// The card could not write a frame into it.
    #[error("the card could not write into the page")]
    Fault,
    /// The queue lost its link before a frame came.
    #[error("the queue lost its link")]
    NoLink,
}

/// A frame that the card has put into a posted page, from the page's first byte on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filled {
    /// Its length in bytes, Ethernet header included: at most a page.
    pub length: u16,
    /// What the card says of it.
    pub offload: Offload,
}

/// A receive queue of a card that fills the pages of one guest. When it is dropped, the card and
/// we let go of all of them.
pub trait GuestQueue {
    /// How many more pages it takes.
    fn room(&self) -> usize;
    /// Gives the card pages of the guest's, in order, at most [`GuestQueue::room`] of them: they
    /// are mapped for the card with one call into the hypervisor, and are the card's until they
    /// come back by [`GuestQueue::filled`]. One that cannot be mapped comes back in its turn.
    fn post(&self, pages: &[Gref]);
    /// What has become of the oldest posted pages, in the order of posting. Says how many places
    /// of `out` were filled. The card and we have let go of these pages, with one call into the
    /// hypervisor.
    fn filled(&self, out: &mut [Result<Filled, Unfilled>]) -> usize;
    /// The event that says that frames have come.
    fn interrupt(&self) -> PortId;
    /// Lets the interrupt fire again. Look at the queue only after this.
    fn unmask(&self);
}
