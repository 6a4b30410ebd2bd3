//! Dones that found no envelope to ride on.

use xenvelope_grant::seam::{Hypervisor, Instant, NicPort};
use xenvelope_switch::envelope::EnvelopeBuilder;
use xenvelope_switch::window::WINDOW;

use crate::interface::Frontend;
use crate::peers::Path;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Sends a done to each peer that may be waiting for buffers and got none on an envelope.
    pub(super) fn send_dones(&mut self, now: Instant) -> bool {
        let mut sent = false;
        let mut index = 0;
        while index < self.dones_due.len() {
            let peer = self.dones_due[index];
            let delay = self.config.done_delay;
            let Some(state) = self.peers.get(peer) else {
                self.dones_due.swap_remove(index);
                continue;
            };
            let due = state.done_wanted
                || state.receive.unacknowledged() >= WINDOW / 8
                || state.receive.waiting_since().is_some_and(|since| now.since(since) >= delay);
            if state.receive.waiting_since().is_none() {
                self.dones_due.swap_remove(index);
                continue;
            }
            let (epoch, done, to) = (state.send.epoch(), state.to_tell(), state.done_to);
            // What is still being copied is not done.
            if !due || done.is_none() {
                index += 1;
                continue;
            }
            if let (Some(done), Some(addresses)) = (done, to)
                && let Some(entry) = self.lookup(addresses.destination, addresses.vid())
                && let Some(Path::Envelope(channel)) = self.path_of(&entry)
            {
                let mut builder = EnvelopeBuilder::done(addresses, epoch, done);
                if !(self.room(channel) && self.push(channel, builder.finish())) {
                    index += 1;
                    continue;
                }
                self.counters.dones_sent += 1;
                sent = true;
            }
            if let Some(state) = self.peers.get(peer) {
                state.told();
            }
            self.dones_due.swap_remove(index);
        }
        sent
    }
}
