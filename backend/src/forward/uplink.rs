//! Frames to and from the uplink.

use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::seam::{
    Arrival, Buffer, End, Hypervisor, Instant, NicError, NicPort, Offload, Unsent,
};
use xenvelope_switch::EthernetHeader;
use xenvelope_switch::checksum::locate_checksum;
use xenvelope_switch::envelope::{Envelope, MAX_ENVELOPE, is_envelope};

use super::{FRAMES, Frame, HEADERS, Leaving, SLOT, SLOT_START, Sources};
use crate::counters::DropReason;
use crate::driver_domain::{Backend, UPLINK};
use crate::netback::Source;
use crate::uplink::PfControl;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// A frame to the uplink: into a buffer of ours, since a card takes no grants. Its first
    /// piece is in the scratch buffer.
    pub(super) fn send_up(
        &mut self,
        sources: &[Source],
        total: usize,
        mut offload: Offload,
    ) -> Result<(), DropReason> {
        if self.uplink.is_none() {
            return Err(DropReason::NoDestination);
        }
        if offload.needs_checksum {
            let Some(Source { end: End::Local { offset, .. }, len: seen }) = sources.first() else {
                return Err(DropReason::Malformed);
            };
            let mut beginning = [0; SLOT];
            let beginning = beginning.get_mut(..*seen).ok_or(DropReason::Malformed)?;
            self.round.buffers[0].get(*offset as usize, beginning);
            let place = locate_checksum(beginning).ok_or(DropReason::CannotTake)?;
            (offload.checksum_start, offload.checksum_offset) = place;
        }
        self.copy_aside(sources, total, offload, None)
    }

    /// Moves frames from the queue in front of the uplink's ring into the ring.
    pub(super) fn drain_leaving(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        while uplink.completed().is_some() {}
        while let Some(Leaving { buffer, length, offload }) = self.round.leaving.pop_front() {
            match uplink.send(buffer, 0..length, offload) {
                Ok(()) => self.counters.uplink_out += 1,
                Err(Unsent { cause: NicError::Full, buffer }) => {
                    self.round.leaving.push_front(Leaving { buffer, length, offload });
                    break;
                }
                Err(_) => self.counters.drop_frames(DropReason::Uplink, 1),
            }
        }
    }

    /// Takes what has come by the uplink when nobody will forward it any more. How many frames.
    pub(crate) fn left_in_uplink(&self) -> u64 {
        let receive = || self.uplink.as_ref().and_then(NicPort::receive);
        std::iter::from_fn(receive).map(|arrival| carried(&arrival)).sum()
    }

    /// Frames and envelopes that came in by the uplink. Whether there were any, and whether all
    /// that there were have been taken.
    pub(super) fn take_from_uplink(&mut self, now: Instant) -> (bool, bool) {
        let mut busy = false;
        for _ in 0..FRAMES {
            // A frame needs a slot, and one more if its tag changes. What there is no slot for
            // stays with the card until the next round.
            if self.round.slots_left() < 2 {
                return (true, false);
            }
            let Some(arrival) = self.uplink.as_ref().and_then(NicPort::receive) else {
                return (busy, true);
            };
            busy = true;
            self.counters.uplink_in += 1;
            let total = arrival.frame.len();
            let seen = HEADERS.min(total);
            let mut bytes = [0; SLOT - SLOT_START];
            arrival.buffer.get(arrival.frame.start, &mut bytes[..18.min(total)]);
            if is_envelope(&bytes[..18.min(total)]) {
                // Who sent it nobody can vouch for any more, and what we pass on we vouch for:
                // guests with a VF send their envelopes to guests without one by us, not by the
                // card.
                self.counters.drop_frames(DropReason::SourceMac, carried(&arrival));
                continue;
            }
            let (Some(slot), Ok(header)) =
                (self.round.slot(), EthernetHeader::parse(&bytes[..18.min(total)]))
            else {
                self.counters.drop_frames(DropReason::Malformed, 1);
                continue;
            };
            arrival.buffer.get(arrival.frame.start, &mut bytes[..seen]);
            self.round.buffers[0].put(slot, &bytes[..seen]);
            let buffer = self.round.buffers.len() as u16;
            let mut sources = Sources::new();
            sources.push(Source { end: End::Local { buffer: 0, offset: slot as u32 }, len: seen });
            let mut at = arrival.frame.start + seen;
            while at < arrival.frame.end {
                let len = (PAGE_SIZE - at % PAGE_SIZE).min(arrival.frame.end - at);
                let end = End::Local { buffer, offset: at as u32 };
                if sources.try_push(Source { end, len }).is_err() {
                    break;
                }
                at += len;
            }
            self.round.buffers.push(arrival.buffer);
            let frame = Frame {
                header,
                slot,
                sources: &sources,
                total,
                offload: arrival.offload,
                by_address: false,
                origin: None,
            };
            self.pass_on(UPLINK, &frame, now);
        }
        (busy, false)
    }
}

/// Frames that an arrival stands for: itself, or those in an envelope.
fn carried<B: Buffer>(arrival: &Arrival<B>) -> u64 {
    let mut bytes = [0; MAX_ENVELOPE];
    let bytes = &mut bytes[..arrival.frame.len().min(MAX_ENVELOPE)];
    arrival.buffer.get(arrival.frame.start, bytes);
    if is_envelope(bytes) {
        Envelope::parse(bytes).map_or(1, |envelope| envelope.carried())
    } else {
        1
    }
}
