//! Which guest has a queue of the card.

use std::collections::BTreeSet;

use xenvelope_grant::seam::{Hypervisor, NicPort};
use xenvelope_switch::MacAddress;

use crate::driver_domain::Backend;
use crate::uplink::PfControl;

/// What a queue gets of what comes from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Steering {
    /// Frames to this address,
    pub mac: MacAddress,
    /// in this VLAN, 0 for none.
    pub vid: u16,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Whether an interface has a queue of the card.
    pub fn has_queue(&self, mac: MacAddress) -> bool {
        let of = |port| self.vifs.get(port).is_some_and(|vif| vif.mac == mac);
        self.nic_queues.iter().any(|(port, queue)| of(port) && queue.card().is_some())
    }

    /// Gives queues to the guests that can use one, first come, first served, and steers them.
    /// The ports that have one.
    ///
    /// A guest with a VF needs none: what comes from outside reaches it there.
    pub(super) fn assign_queues(&mut self) -> BTreeSet<u32> {
        let mut served = BTreeSet::new();
        for (port, queue) in &mut self.nic_queues {
            let Some(vif) = self.vifs.get(port) else { continue };
            let (guest, mac, vid) = (vif.guest, vif.mac, self.manager.vlan(vif.mac));
            let wanted = (!vif.vf).then_some(Steering { mac, vid });
            if queue.steer(wanted, || self.card.open_queue(guest, mac, vid)) {
                served.insert(*port);
            }
        }
        served
    }
}
