//! What a frame needs before it can be delivered: another tag, a checksum, a queue.

use xenvelope_grant::seam::{Buffer, End, Hypervisor, NicPort, Offload};
use xenvelope_switch::EthernetHeader;

use super::{Frame, HEADERS, SLOT, SLOT_START, Sources};
use crate::counters::DropReason;
use crate::driver_domain::Backend;
use crate::netback;
use crate::uplink::PfControl;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Another VLAN tag than the frame came with: its beginning, once more, with the new header.
    pub(super) fn retag(
        &mut self,
        tci: Option<u16>,
        frame: &Frame<'_>,
        sources: &mut Sources,
    ) -> Result<usize, DropReason> {
        let slot = self.round.slot().ok_or(DropReason::NoBuffer)?;
        let new = EthernetHeader { tci, ..frame.header };
        let first = sources.first_mut().ok_or(DropReason::Malformed)?;
        let (old_len, new_len) = (frame.header.len(), new.len());
        let rest = first.len.checked_sub(old_len).ok_or(DropReason::Malformed)?;
        let mut bytes = [0; SLOT - SLOT_START];
        new.write(&mut bytes);
        let (scratch, end) = (&mut self.round.buffers[0], new_len + rest);
        scratch
            .get(frame.slot + old_len, bytes.get_mut(new_len..end).ok_or(DropReason::CannotTake)?);
        scratch.put(slot, &bytes[..end]);
        first.end = End::Local { buffer: 0, offset: slot as u32 };
        first.len = end;
        Ok(frame.total - old_len + new_len)
    }

    /// The guest takes no blank checksums of this kind: the frame once more, with its own. Only a
    /// frame that is all in our memory can be summed, since a guest may rewrite the rest: longer
    /// ones are dropped. Who takes no blank checksums takes no GSO either.
    pub(super) fn fill_checksum(
        &mut self,
        sources: &mut Sources,
        total: usize,
        offload: Offload,
    ) -> Result<Offload, DropReason> {
        let end = match sources[..] {
            [source] if source.len == total && offload.gso_size == 0 => source.end,
            _ => return Err(DropReason::CannotTake),
        };
        let End::Local { buffer, offset } = end else { return Err(DropReason::CannotTake) };
        let mut bytes = [0; SLOT - SLOT_START];
        let bytes = bytes.get_mut(..total).ok_or(DropReason::CannotTake)?;
        self.round.buffers[usize::from(buffer)].get(offset as usize, bytes);
        if !netback::fill_checksum(bytes) {
            return Err(DropReason::CannotTake);
        }
        // In a slot of its own: the frame may go to others too, as it is.
        let slot = self.round.slot().ok_or(DropReason::NoBuffer)?;
        self.round.buffers[0].put(slot, bytes);
        sources[0].end = End::Local { buffer: 0, offset: slot as u32 };
        Ok(Offload { needs_checksum: false, checksum_valid: true, ..offload })
    }

    /// Which of a guest's queues a frame goes to.
    pub(super) fn queue_of(&self, frame: &Frame<'_>, queues: usize) -> usize {
        if frame.by_address {
            return self.round.flows.by_address(&frame.header, queues);
        }
        let mut bytes = [0; HEADERS];
        let seen = frame.sources.first().map_or(0, |source| source.len.min(HEADERS));
        self.round.buffers[0].get(frame.slot, &mut bytes[..seen]);
        self.round.flows.by_packet(&bytes[..seen], queues)
    }
}
