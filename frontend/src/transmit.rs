//! A frame's way out.
//!
//! Frames are staged by the stack and leave at [`Frontend::flush`], so that frames to the same
//! peer share an envelope and a batch costs one event. The steps of one frame: route; wait if
//! its flow is changing routes; then inline it, grant it and put it in the open envelope, or
//! hand it to the VF or to netif.

mod dones;
mod envelope;
mod in_place;
mod order;
mod paths;
mod room;
mod run;

pub(crate) use envelope::OpenEnvelope;
pub(crate) use order::SentByDefault;
pub(crate) use run::Run;

use core::ops::Range;

use xenvelope_grant::seam::{
    Buffer, Direction, Hypervisor, Instant, NicPort, Offload, Sight, Travel, Way,
};
use xenvelope_switch::{EthernetHeader, MAX_FRAME};

use crate::counters::DropReason;
use crate::interface::{Frontend, OUTBOX};
use crate::peers::{Path, Staged};
use crate::route::Route;

/// Where in a buffer what follows the Ethernet header lies. Before it is room for the header of
/// a tagged frame, and for an envelope's tag, which takes the header's place: the header travels
/// in the envelope.
pub const PAYLOAD_AT: usize = 32;
/// Where in a buffer an untagged frame begins.
pub const FRAME_AT: usize = PAYLOAD_AT - 14;

/// The header of a frame that can be sent: not shorter than its header, not longer than 64 KiB.
fn header_of<B: Buffer>(staged: &Staged<B>) -> Option<EthernetHeader> {
    let bytes = staged.buffer.stack_bytes().get(staged.frame.clone())?;
    let header = EthernetHeader::parse(bytes).ok()?;
    (bytes.len() <= MAX_FRAME && bytes.len() > header.len()).then_some(header)
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Whether the stack may stage another frame.
    pub fn can_send(&self) -> bool {
        self.outbox.len() < OUTBOX
    }

    /// A buffer for a frame of `len` bytes, which belongs at [`FRAME_AT`].
    pub fn buffer(&mut self, len: usize) -> Option<H::Buf> {
        self.warm.take(FRAME_AT + len).or_else(|| self.host.take(None, FRAME_AT + len).ok())
    }

    /// Stages a frame. It leaves at the next [`Frontend::flush`].
    pub fn send(&mut self, buffer: H::Buf, frame: Range<usize>, offload: Offload) {
        self.counters.sent.frames += 1;
        self.counters.sent.bytes += frame.len() as u64;
        self.outbox.push_back(Staged { buffer, frame, offload });
    }

    /// Sends everything that was staged or held and may go, the dones that are due, and one
    /// event to each side that asked for it. Whether anything left.
    pub fn flush(&mut self, now: Instant) -> bool {
        let mut busy = !self.outbox.is_empty() || self.open.is_some();
        if self.now != now {
            self.now = now;
            self.check_table(now);
        }
        self.reap();
        if !self.vf_up() {
            self.reroute_vf_backlog(now);
        }
        self.release_held(now);
        loop {
            self.follow_run();
            let Some(staged) = self.outbox.pop_front() else { break };
            self.send_one(staged, now);
        }
        self.run = None;
        self.seal(now);
        busy |= self.send_dones(now);
        self.publish();
        self.in_turn = false;
        busy
    }

    fn dispatch(
        &mut self,
        staged: Staged<H::Buf>,
        header: &EthernetHeader,
        route: Route,
        now: Instant,
    ) {
        match (route.path, route.entry) {
            (Path::Envelope(channel), Some(entry)) => {
                let run = self.run_to(header, entry, channel);
                self.envelope(staged, header.ether_type, &run, now);
            }
            (Path::VfFrame, _) => {
                self.show(&staged, || Travel { way: Way::Nic, enclosed: None });
                self.by_vf(staged);
            }
            _ => {
                self.show(&staged, || Travel { way: Way::DriverDomain, enclosed: None });
                self.by_netif(staged, header);
            }
        }
    }

    /// Lets a frame be seen that is about to take its way.
    #[inline]
    fn show(&self, staged: &Staged<H::Buf>, travel: impl FnOnce() -> Travel) {
        self.host.observe(|| Sight::Frame {
            direction: Direction::Out,
            travel: travel(),
            bytes: staged.buffer.stack_bytes().get(staged.frame.clone()).unwrap_or_default(),
        });
    }

    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        self.counters.drop_frames(reason, 1);
    }
}
