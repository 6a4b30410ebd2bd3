//! Frames that are copied from their sender's pages: where to, and whether it is what was sent.

use xenvelope_grant::seam::{Buffer, CopyOp, End, Hypervisor, Instant, NicPort};
use xenvelope_grant::{PAGE_SIZE, Peer};
use xenvelope_switch::envelope::{FrameRecord, TAG_LEN};

use super::{Copying, Enclosing, Gathered};
use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::transmit::PAYLOAD_AT;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// A frame that is to be copied from the sender's pages.
    pub(super) fn prepare_copy(
        &mut self,
        from: Peer,
        frame: &FrameRecord<'_>,
        tagged: bool,
        key: Option<u64>,
    ) -> Result<(), DropReason> {
        let total = usize::from(frame.head.total);
        let payload_at = match key {
            None => PAYLOAD_AT,
            Some(_) => aligned(frame, tagged),
        };
        let mut buffer = self.buffer_of(payload_at + total)?;
        let index =
            u16::try_from(self.batch.copies.buffers.len()).map_err(|_| DropReason::NoBuffer)?;
        // Headers that were inspected are delivered as they were inspected: what the page says
        // there is never looked at.
        buffer.put(payload_at, frame.inline);
        let mut at = payload_at + frame.inline.len();
        if tagged {
            at -= TAG_LEN;
        }
        let first = self.batch.copies.ops.len();
        for segment in frame.segments.clone() {
            let (mut offset, mut left) = (segment.offset, segment.len as usize);
            while left > 0 {
                // Neither end may cross a page.
                let piece = left.min(PAGE_SIZE - at % PAGE_SIZE);
                let (dom, gref) = (from.domid, segment.gref);
                let src = match key {
                    None => End::Foreign { dom, gref, offset },
                    Some(key) => End::Keyed { dom, gref, offset, key },
                };
                let dst = End::Local { buffer: index, offset: at as u32 };
                self.batch.copies.ops.push(CopyOp::new(src, dst, piece as u16));
                at += piece;
                left -= piece;
                offset += piece as u16;
            }
        }
        let ops = first..self.batch.copies.ops.len();
        self.note_bytes(from, at - payload_at);
        self.batch.copies.buffers.push(buffer);
        self.batch.gathered.push(Gathered::Copying(Copying {
            ops,
            envelope: self.batch.envelopes.len().saturating_sub(1),
            ether_type: frame.head.ether_type,
            total: frame.head.total,
            // Less than all.
            inline: frame.inline.len() as u16,
            offload: frame.head.offload,
            payload_at,
        }));
        Ok(())
    }

    /// Compares the tag that was copied with the envelope's. If it is another, the envelope is a
    /// forgery, or it waited for so long that its sender took the grant back and used the reference
    /// for another frame. On a path that cannot vouch only a match moves the window.
    pub(super) fn tag_matches(
        &mut self,
        frame: &Copying,
        envelope: &Enclosing,
        buffer: &H::Buf,
        accepted: &mut Option<usize>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Some(tag) = &envelope.tag else { return Ok(()) };
        self.counters.tag_bytes += TAG_LEN as u64;
        let mut copied = [0; TAG_LEN];
        buffer.get(frame.payload_at + usize::from(frame.inline) - TAG_LEN, &mut copied);
        if !tag.matches(&copied) {
            return Err(DropReason::WrongTag);
        }
        if envelope.unvouched && *accepted != Some(frame.envelope) {
            let window = &mut self.peers.of(&self.host, envelope.from).receive;
            if window.check(tag.epoch, tag.sequence).is_err() {
                return Err(DropReason::Replayed);
            }
            window.accept(tag.epoch, tag.sequence, tag.nonce, 1, now);
            *accepted = Some(frame.envelope);
        }
        Ok(())
    }
}

/// Where the payload goes so that each segment lies in its page as it does in the sender's: a key
/// is good for one operation, and an operation ends at the page's end of either side.
fn aligned(frame: &FrameRecord<'_>, tagged: bool) -> usize {
    let offset = frame.segments.clone().next().map_or(0, |segment| usize::from(segment.offset));
    // Before the segment's bytes lies what came inline; the tag is in front of the payload.
    let before = frame.inline.len();
    let at = if tagged { offset + TAG_LEN } else { offset };
    // A page further if there were no room for the Ethernet header.
    if at >= before + PAYLOAD_AT { at - before } else { at + PAGE_SIZE - before }
}
