//! Taking grants back for which no done has come (rule 3).

use core::time::Duration;

use xenvelope_grant::seam::{Hypervisor, Instant, NicPort};

use crate::interface::Frontend;

/// How many times longer than others the driver domain may take to say done. What is granted to it
/// bears no tag: if a reference were used again while an envelope that names it waits in its
/// channel, the newer frame's bytes would be delivered. The channel itself loses nothing, so there
/// is hardly anything to take back.
const PATIENCE: u32 = 20;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Takes back what no done came for, and tries again what was pinned.
    pub(crate) fn expire(&mut self, now: Instant) {
        let Self { host, peers, counters, config, control, driver, table, last_peer, .. } = self;
        let before = |timeout: Duration| Instant(now.0.saturating_sub(timeout.as_nanos() as u64));
        let deadline = before(config.done_timeout);
        let patient_deadline = before(config.done_timeout.saturating_mul(PATIENCE));
        for (key, peer) in peers.iter_mut() {
            let still_there = |(mac, vid)| {
                let table = table.as_ref().filter(|table| table.fresh);
                table
                    .and_then(|table| table.reader.lookup(mac, vid))
                    .is_some_and(|entry| entry.peer == key)
            };
            let is_driver_domain = key.domid == control.backend;
            let gone = if is_driver_domain {
                // Who it is does not hang on the table. When that is not believed the driver domain
                // is only slow, and will read what is in its channel.
                driver.is_none()
            } else {
                !last_peer.iter().any(|(address, of)| *of == key && still_there(*address))
            };
            if gone {
                counters.timed_out += peer.send.outstanding() as u64;
                peer.take_back_all(host, counters);
                // What is kept granted to it, where granting is not for the moment, goes too.
                host.forget(key);
            }
            let deadline = if is_driver_domain { patient_deadline } else { deadline };
            while let Some(out) = peer.send.expired(deadline) {
                counters.timed_out += 1;
                peer.take_back(host, out, counters);
            }
            peer.retry_pinned(host);
        }
        peers.forget_idle(host, now);
        last_peer.retain(|_, peer| peers.get(*peer).is_some());
        self.settled = None;
    }
}
