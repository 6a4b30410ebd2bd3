//! What a sender asks that would rather wait than lose frames: a full peer means drop, never
//! waiting behind it, so who can wait has to look first.

use xenvelope_grant::seam::{Hypervisor, NicPort};
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::CHANNEL_VF;

use crate::interface::Frontend;
use crate::peers::Path;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Whether `frames` untagged frames to `destination`, in `envelopes` envelopes at most, could
    /// leave now: neither the window nor the peer's quota is used up, fewer than
    /// [`peer_bytes`](crate::Config::peer_bytes) are on their way to it, and the channel, if they
    /// take one, has slots. Where frames do not go in envelopes it is only whether they can be staged,
    /// since what comes after has queues of its own.
    pub fn has_room(&mut self, destination: MacAddress, frames: usize, envelopes: u32) -> bool {
        let envelopes = envelopes + u32::from(self.open.is_some());
        let Some(entry) = self.lookup(destination, 0) else { return self.can_send() };
        let Some(Path::Envelope(number)) = self.path_of(&entry) else { return self.can_send() };
        if number == CHANNEL_VF {
            if !self.can_send() {
                return false;
            }
        } else {
            let Some(channel) = self.channel(number) else { return false };
            let slots = |room: Result<u32, _>| room.is_ok_and(|room| room >= envelopes);
            // Only when it does not do otherwise is the other side's line looked at.
            let fits = slots(channel.room()) || (channel.unread().is_ok() && slots(channel.room()));
            if !fits {
                return false;
            }
        }
        let (quota, bytes) = (self.config.peer_quota, self.config.peer_bytes as u64);
        let peer = self.peers.of(&self.host, entry.peer);
        peer.send.room() >= envelopes
            && peer.cost() + frames <= quota
            && (peer.send.bytes() < bytes || frames == 0)
    }
}
