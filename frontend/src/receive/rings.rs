//! The driver domain's receive rings: netif's, and that of our queue of the card.

use xenvelope_grant::seam::Hypervisor;

use crate::interface::DriverDomain;
use crate::netfront::Receiver;

/// Which of the driver domain's receive rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReceiveRing {
    /// netif's.
    Netif,
    /// That of our queue of the card.
    NicQueue,
}

impl<H: Hypervisor> DriverDomain<H> {
    /// Both receive rings, or the one that there is.
    pub fn receivers(&mut self) -> impl Iterator<Item = &mut Receiver<H, H::Pages>> {
        core::iter::once(&mut self.receive).chain(&mut self.nic_queue)
    }

    /// One of them.
    pub fn receiver(&self, ring: ReceiveRing) -> Option<&Receiver<H, H::Pages>> {
        match ring {
            ReceiveRing::Netif => Some(&self.receive),
            ReceiveRing::NicQueue => self.nic_queue.as_ref(),
        }
    }

    /// The same, to be changed.
    pub fn receiver_mut(&mut self, ring: ReceiveRing) -> Option<&mut Receiver<H, H::Pages>> {
        match ring {
            ReceiveRing::Netif => Some(&mut self.receive),
            ReceiveRing::NicQueue => self.nic_queue.as_mut(),
        }
    }
}
