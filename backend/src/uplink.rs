//! The port towards the outside: the PF of a card with VFs, or any card's queue.

use xenvelope_grant::seam::{Filled, GuestQueue, PortId, Unfilled};
use xenvelope_grant::{DomId, Gref};
use xenvelope_switch::MacAddress;

/// What the driver domain asks of the card beside its own queue: the agent for VFs and for the
/// queues of a multi-queue card.
pub trait PfControl {
    /// A guest's queue of the card, in our hands.
    type Queue: GuestQueue;

    /// Frames to `mac` in `vid` (0: none) are, or are no longer, for the PF: their guest is
    /// behind the driver domain's switch. On Linux: `bridge fdb add MAC dev PF self`.
    fn reach(&self, mac: MacAddress, vid: u16, behind_us: bool);
    /// Whether the card is known to drop frames that bear a source address that is not the VF's.
    /// If not, envelopes through it need tags.
    fn anti_spoof(&self) -> bool;
    /// Whether the card passes frames from one VF on to another. If not, VFs lead to the outside
    /// only, and nothing goes between two guests by them.
    fn switches(&self) -> bool {
        true
    }
    /// Whether guests are to be offered queues of the card.
    fn has_queues(&self) -> bool {
        false
    }
    /// A queue that gets what comes from outside for `mac` in `vid` (0: none), and puts it into
    /// pages that `guest` has granted. None if all are taken. It ends when it is dropped.
    fn open_queue(&self, _guest: DomId, _mac: MacAddress, _vid: u16) -> Option<Self::Queue> {
        None
    }
}

/// No card, or one that needs no telling.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoControl;

impl PfControl for NoControl {
    type Queue = NoQueue;

    fn reach(&self, _: MacAddress, _: u16, _: bool) {}
    fn anti_spoof(&self) -> bool {
        false
    }
}

/// The queue of a card that has none for guests: there is no such value.
#[derive(Clone, Copy, Debug)]
pub enum NoQueue {}

impl GuestQueue for NoQueue {
    fn room(&self) -> usize {
        match *self {}
    }
    fn post(&self, _: &[Gref]) {
        match *self {}
    }
    fn filled(&self, _: &mut [Result<Filled, Unfilled>]) -> usize {
        match *self {}
    }
    fn interrupt(&self) -> PortId {
        match *self {}
    }
    fn unmask(&self) {
        match *self {}
    }
}
