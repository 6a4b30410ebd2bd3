//! Between the frontend and a stack that takes and gives many frames with one call: a TAP.

use xenvelope_grant::seam::{Hypervisor, NicPort, StackPort};

use crate::interface::Frontend;
use crate::transmit::FRAME_AT;

/// Frames each way in one turn, and bytes after which there are no more of them. Not all that is
/// there: what has been taken is on its way while the next is. With a whole window in one turn the
/// two ends of a connection took turns, and each was idle half of the time.
const FRAMES: usize = 64;
const BYTES: usize = 512 << 10;

/// What became of frames that were handed to the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// Frames that the stack took.
    pub taken: usize,
    /// Frames that it did not take: it is down, or has no room. They are lost as on a wire.
    pub refused: usize,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Hands received frames to the stack. Nothing if there are none.
    ///
    /// Before [`Frontend::take_from_stack`]: the stack answers while it takes, and its answers
    /// leave in the same turn.
    pub fn give_to_stack(&mut self, stack: &impl StackPort<Buf = H::Buf>) -> Option<Given> {
        if self.received() == 0 {
            return None;
        }
        let mut bytes = 0;
        let frames = self.frames().take_while(|(frame, _)| {
            let room = bytes < BYTES;
            bytes += frame.len();
            room
        });
        let (taken, refused) = stack.exchange(frames);
        self.taken(taken + refused);
        Some(Given { taken, refused })
    }

    /// Stages frames that the stack has sent, for the next [`Frontend::flush`]. Whether there were
    /// any.
    pub fn take_from_stack(&mut self, stack: &impl StackPort<Buf = H::Buf>) -> bool {
        stack.refill(self.host(), FRAME_AT);
        let (mut taken, mut bytes) = (0, 0);
        // What is not read, since there is no room or nothing to read it into, ends no wait.
        while taken < FRAMES
            && bytes < BYTES
            && self.can_send()
            && let Some(arrival) = stack.receive()
        {
            taken += 1;
            bytes += arrival.frame.len();
            self.send(arrival.buffer, arrival.frame, arrival.offload);
        }
        taken > 0
    }
}
