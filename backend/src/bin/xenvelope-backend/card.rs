//! What the loop says to the card. It is said often, and the loop must not wait: only changes go
//! on, to the control thread.

use std::cell::RefCell;
use std::collections::HashMap;

use crossbeam_channel::Sender;
use xenvelope_backend::PfControl;
use xenvelope_backend::uplink::NoQueue;
use xenvelope_switch::MacAddress;

use crate::control::Order;

/// The loop's end.
pub struct CardAgent {
    orders: Option<Sender<Order>>,
    /// What was said last of each address. Addresses are the toolstack's, so they are few.
    said: RefCell<HashMap<MacAddress, bool>>,
    anti_spoof: bool,
}

impl CardAgent {
    /// An agent for the card whose orders go to `orders`, if there is a card.
    pub fn new(orders: Option<Sender<Order>>, anti_spoof: bool) -> CardAgent {
        CardAgent { orders, said: RefCell::default(), anti_spoof }
    }
}

impl PfControl for CardAgent {
    /// Linux lets no program post pages of its own to a card's queue.
    type Queue = NoQueue;

    /// The VLAN is not told: Linux' drivers take PF addresses without one (`ndo_dflt_fdb_add`).
    fn reach(&self, mac: MacAddress, _: u16, behind_us: bool) {
        let Some(orders) = &self.orders else { return };
        if self.said.borrow_mut().insert(mac, behind_us) != Some(behind_us) {
            // If the control thread has ended, the program is ending.
            let _ = orders.send(Order::Reach { mac, behind_us });
        }
    }

    fn anti_spoof(&self) -> bool {
        self.anti_spoof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_said() {
        let (orders, said) = crossbeam_channel::unbounded();
        let agent = CardAgent::new(Some(orders), false);
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        for behind_us in [true, true, false, false, true] {
            agent.reach(mac, 0, behind_us);
        }
        let said: Vec<bool> = said
            .try_iter()
            .filter_map(|order| match order {
                Order::Reach { behind_us, .. } => Some(behind_us),
                Order::Vfs(_) => None,
            })
            .collect();
        assert_eq!(said, [true, false, true]);
    }
}
