//! Dones that found no envelope to ride on.

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{Hypervisor, Instant, Mechanism, NicPort};
use xenvelope_switch::envelope::{Addresses, EnvelopeBuilder};
use xenvelope_switch::table::CHANNEL_DRIVER_DOMAIN;

use crate::interface::Frontend;
use crate::peers::Path;

/// Granted frames of one peer after which it is told that they are done. Few, so that it uses the
/// same buffers again while they are warm; many, so that they share the cost of being told.
const TELL_AFTER: u32 = 64;
/// Bytes of one peer's that were copied, after which it is told: an eighth of what it sends, by
/// default, before it waits (`Config::peer_bytes`).
const TELL_AFTER_BYTES: usize = 512 * 1024;

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
                || state.receive.unacknowledged() >= TELL_AFTER
                || state.untold >= TELL_AFTER_BYTES
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
                && let Some(channel) = self.way_of_done(peer, &addresses)
            {
                let mut builder = EnvelopeBuilder::done(addresses, epoch, done);
                if self.is_driver_domain(peer) {
                    // The addresses are those of the frames that it passed on: it is meant itself.
                    builder.mark(Mechanism::Transitive);
                }
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

    /// The channel by which a done reaches a peer. Where frames to it go as they are now, the driver
    /// domain's: what it sent in envelopes before is still to be told of, and it holds frames back
    /// until it is.
    fn way_of_done(&self, peer: Peer, addresses: &Addresses) -> Option<u16> {
        let connected = self.driver.as_ref().is_some_and(|driver| driver.envelopes.is_some());
        let by_driver_domain = connected.then_some(CHANNEL_DRIVER_DOMAIN);
        if self.is_driver_domain(peer) {
            return by_driver_domain;
        }
        let entry = self.lookup(addresses.destination, addresses.vid())?;
        match self.path_of(&entry)? {
            Path::Envelope(channel) => Some(channel),
            Path::Netif | Path::VfFrame => by_driver_domain,
        }
    }
}
