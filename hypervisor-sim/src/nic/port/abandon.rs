//! What is lost with a port's link.

use super::Port;
use crate::nic::counters::DropReason;
use crate::nic::described::Described;
use crate::nic::descriptor::{CONTEXT, DESCRIPTOR_BYTES, Descriptor};
use crate::nic::load::{HEAD_BYTES, Load};

impl Port {
    /// Whether [`Port::update_link`] would take the link away from an owner.
    pub(in crate::nic) fn loses_link(&self) -> bool {
        self.is_up() && self.owner.is_some() && !self.plugged
    }

    /// Counts the frames in the transmit ring that the card has not taken, as sent by the driver
    /// and lost with the link. Looking at them is the simulator's doing, not the card's: no bytes
    /// cross the bus.
    pub(in crate::nic) fn abandon_ring(&mut self) {
        let tail = self.registers.tx_tail(self.epoch).filter(|_| self.owner.is_some());
        let Some(tail) = tail else {
            return;
        };
        self.registers.set_tx_accounted(self.epoch, tail);
        let plausible = tail.wrapping_sub(self.tx_done) <= self.sizes.tx
            && tail.wrapping_sub(self.tx_fetched) <= self.sizes.tx;
        while plausible && self.tx_fetched != tail {
            let mut bytes = [0; DESCRIPTOR_BYTES];
            if self.read(self.tx_address(self.tx_fetched), &mut bytes).is_err() {
                break;
            }
            self.tx_cache.push_back(Descriptor(bytes));
            self.tx_fetched = self.tx_fetched.wrapping_add(1);
        }
        while let Some(frame) = Described::parse(&self.tx_cache) {
            let load = self.peek(frame.descriptors);
            self.tx_cache.drain(..frame.descriptors);
            self.counters.count_tx(load);
            self.counters.drop_frame(DropReason::LinkDown, load);
        }
    }

    /// What the frame of the next `descriptors` descriptors is worth.
    fn peek(&self, descriptors: usize) -> Load {
        let mut head = [0; HEAD_BYTES];
        let mut known = 0;
        let pieces = self.tx_cache.iter().take(descriptors);
        for piece in pieces.filter(|piece| piece.flags() & CONTEXT == 0) {
            let part = piece.length().min(HEAD_BYTES - known);
            if self.read(piece.address(), &mut head[known..known + part]).is_err() {
                return Load::Frame;
            }
            known += part;
        }
        Load::of(&head[..known])
    }
}
