//! Frames that the stack builds where they leave from.
//!
//! Small frames are most of what there is, and follow each other to the same peer. Such a one is
//! built in the open envelope: it takes no buffer, waits in no queue, and is copied once, with the
//! envelope. Which peer that is has been found out of the frame before ([`Run`]), and the frame's
//! header is compared when it has been built.

use xenvelope_grant::seam::{Buffer, Direction, Hypervisor, Instant, NicPort, Offload, Sight};
use xenvelope_switch::envelope::FrameHead;

use super::FRAME_AT;
use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::peers::Staged;

/// What became of a frame that was built in the open envelope.
enum Built<B> {
    /// It is in.
    In,
    /// It goes elsewhere: a copy of it.
    Elsewhere(B),
    /// It goes elsewhere, and there is no buffer for it.
    Lost,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Has the stack build a frame of `length` bytes, Ethernet header included, in the place that
    /// suits it, and sends it: it leaves at the next [`Frontend::flush`], in the order of these calls
    /// and those of [`Frontend::send`]. `build` must write all bytes; it finds some that were there
    /// before. None, and it is not called, if there is no buffer or no room.
    ///
    /// After a [`Frontend::poll`] and before the flush that follows it, by which way it goes is
    /// decided at once: that is the time for it. At others it is staged.
    pub fn send_built<R>(
        &mut self,
        length: usize,
        offload: Offload,
        build: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let plain = !offload.needs_checksum && offload.gso_type == 0;
        if plain && self.has_room_in_place(length) {
            return self.build_in_place(length, offload, build);
        }
        if !self.can_send() {
            return None;
        }
        let mut buffer = self.buffer(length)?;
        let frame = FRAME_AT..FRAME_AT + length;
        let result = build(buffer.stack_bytes_mut().get_mut(frame.clone())?);
        self.counters.sent.frames += 1;
        self.counters.sent.bytes += length as u64;
        self.send_in_turn(Staged { buffer, frame, offload });
        Some(result)
    }

    /// Whether a frame of that length may be built in the open envelope, or one that is opened for
    /// it.
    #[inline]
    fn has_room_in_place(&mut self, length: usize) -> bool {
        let Some(run) = &self.run else { return false };
        let (shortest, longest) = run.built;
        if length < shortest || length > longest || !(self.in_turn && self.outbox.is_empty()) {
            return false;
        }
        let open = self.open.as_ref().is_some_and(|open| open.run.number == run.number);
        open && self.builder.has_room_in_place(length) || self.open_next()
    }

    /// Opens the run's next envelope.
    fn open_next(&mut self) -> bool {
        self.seal(self.now);
        // What was sealed may have been the last of its run.
        self.run.is_some_and(|run| self.open_envelope(&run).is_ok())
    }

    #[inline]
    fn build_in_place<R>(
        &mut self,
        length: usize,
        offload: Offload,
        build: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let Self { builder, counters, warm, host, run: Some(run), .. } = self else { return None };
        let (built, result) = builder.build_inline(length, |bytes| {
            let result = build(bytes);
            let Some(ether_type) = run.type_of(bytes) else {
                let buffer = warm.take(FRAME_AT + length);
                let buffer = buffer.or_else(|| host.take(None, FRAME_AT + length).ok());
                let elsewhere = buffer.map_or(Built::Lost, |mut buffer| {
                    buffer.put(FRAME_AT, bytes);
                    Built::Elsewhere(buffer)
                });
                return (None, (elsewhere, result));
            };
            host.observe(|| Sight::Frame {
                direction: Direction::Out,
                travel: run.travel(true),
                bytes,
            });
            // At most what fits into an envelope.
            let total = (length - run.header_len()) as u16;
            (Some(FrameHead { ether_type, total, offload }), (Built::In, result))
        })?;
        counters.sent.frames += 1;
        counters.sent.bytes += length as u64;
        match built {
            Built::In => {
                counters.inlined_frames += 1;
                counters.inlined_bytes += length as u64;
            }
            Built::Elsewhere(buffer) => {
                let frame = FRAME_AT..FRAME_AT + length;
                self.send_in_turn(Staged { buffer, frame, offload });
            }
            Built::Lost => self.drop_one(DropReason::NoBuffer),
        }
        Some(result)
    }

    /// Sends a frame after all that were staged.
    fn send_in_turn(&mut self, staged: Staged<H::Buf>) {
        if self.in_turn && self.outbox.is_empty() {
            self.send_one(staged, self.now);
        } else {
            self.outbox.push_back(staged);
        }
    }

    /// Frames that are built from here on do not go where the one before went because that one did:
    /// what was found out of it may have changed.
    #[inline]
    pub(crate) fn end_run(&mut self, now: Instant) {
        self.run = None;
        if self.open.is_some() {
            self.seal(now);
        }
    }
}
