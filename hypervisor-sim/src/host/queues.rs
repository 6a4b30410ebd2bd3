//! Guests' queues of the card, as the driver domain's agent opens them.

use std::sync::Arc;

use xenvelope_grant::seam::{Filled, GuestQueue, PortId, Unfilled};
use xenvelope_grant::{DomId, Gref, PAGE_SIZE};
use xenvelope_switch::MacAddress;

use crate::machine::Domain;
use crate::nic::{GrantedQueue, Nic, PfControl};

/// The ports of the card that the driver domain holds, and how it serves guests by them.
pub struct HeldPorts {
    nic: Arc<Nic>,
    driver: Domain,
}

impl HeldPorts {
    /// All that `driver`, which has the PF, finds free.
    pub fn new(nic: &Arc<Nic>, driver: &Domain) -> HeldPorts {
        HeldPorts { nic: Arc::clone(nic), driver: driver.clone() }
    }

    /// Whether there are any, for frames that fit the pages that guests post.
    pub fn can_serve(&self) -> bool {
        let config = self.nic.config();
        config.kind.has_ports() && config.vfs > 0 && config.max_frame <= PAGE_SIZE
    }

    /// Opens a queue, if one is free.
    pub fn open(&self, guest: DomId, mac: MacAddress, vid: u16) -> Option<SteeredQueue> {
        let control = self.nic.pf_control();
        let port = self.nic.allocate_vf().ok()?;
        // Until now frames for it came by the PF.
        control.remove_pf_filter(mac.0, vid);
        let steered = SteeredAddress { control, port };
        // One queue gets what is for one guest; what is for all goes by the driver domain.
        steered.control.set_vf_floods(port, false).ok()?;
        steered.control.set_vf_vlan(port, vid).ok()?;
        steered.control.set_vf_mac(port, mac.0).ok()?;
        let queue = self.nic.open_queue(port, &self.driver, guest);
        let queue = queue.inspect_err(|error| tracing::warn!(%mac, %error, "no queue")).ok()?;
        Some(SteeredQueue { queue, _address: steered })
    }
}

/// The address that a port was given for its guest. Dropping it takes it back.
struct SteeredAddress {
    control: PfControl,
    port: usize,
}

impl Drop for SteeredAddress {
    fn drop(&mut self) {
        let _ = self.control.reset_vf_mac(self.port);
        let _ = self.control.set_vf_vlan(self.port, 0);
    }
}

/// A guest's queue, to which the card steers the frames for one address.
pub struct SteeredQueue {
    queue: GrantedQueue,
    _address: SteeredAddress,
}

impl GuestQueue for SteeredQueue {
    fn room(&self) -> usize {
        self.queue.room()
    }
    fn post(&self, pages: &[Gref]) {
        self.queue.post(pages);
    }
    fn filled(&self, out: &mut [Result<Filled, Unfilled>]) -> usize {
        self.queue.filled(out)
    }
    fn interrupt(&self) -> PortId {
        self.queue.interrupt()
    }
    fn unmask(&self) {
        self.queue.unmask();
    }
}
