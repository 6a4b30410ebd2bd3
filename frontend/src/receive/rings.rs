//! The driver domain's receive rings: netif's, and that of our queue of the card.

use xenvelope_grant::seam::{Buffer, Hypervisor, NicPort, Offload, Travel, Way};
use xenvelope_switch::EthernetHeader;
use xenvelope_switch::checksum::{CHECKSUM_HEAD, locate_checksum};

use super::{Gathered, Received};
use crate::counters::DropReason;
use crate::interface::{DriverDomain, Frontend};
use crate::netfront::{NetifReceived, NoFrame, Place, Receiver};
use crate::peers::Path;

/// Which of the driver domain's receive rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReceiveRing {
    /// netif's.
    Netif,
    /// That of our queue of the card.
    NicQueue,
}

impl<H: Hypervisor> DriverDomain<H> {
    /// Both receive rings, or the one that there is.
    pub fn receivers(&mut self) -> impl Iterator<Item = &mut Receiver<H, H::Pages>> {
        core::iter::once(&mut self.receive).chain(&mut self.nic_queue)
    }

    /// One of them.
    pub fn receiver(&self, ring: ReceiveRing) -> Option<&Receiver<H, H::Pages>> {
        match ring {
            ReceiveRing::Netif => Some(&self.receive),
            ReceiveRing::NicQueue => self.nic_queue.as_ref(),
        }
    }

    /// The same, to be changed.
    pub fn receiver_mut(&mut self, ring: ReceiveRing) -> Option<&mut Receiver<H, H::Pages>> {
        match ring {
            ReceiveRing::Netif => Some(&mut self.receive),
            ReceiveRing::NicQueue => self.nic_queue.as_mut(),
        }
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Takes a receive ring's frames up to ring index `end`.
    pub(super) fn collect_ring(&mut self, ring: ReceiveRing, end: u32) -> bool {
        let mut busy = false;
        // Bounded by the ring: `end` is at most its size ahead.
        while let Some(receiver) = self.driver.as_mut().and_then(|driver| driver.receiver_mut(ring))
        {
            if end.wrapping_sub(receiver.next_index()) as i32 <= 0 {
                break;
            }
            match receiver.receive(&self.host) {
                Ok(None) => break,
                Ok(Some(Err(NoFrame::Failed))) => self.counters.failed_by_backend += 1,
                Ok(Some(Err(NoFrame::Unusable))) => self.drop_one(DropReason::BadResponse),
                Ok(Some(Ok(NetifReceived { place, mut offload, end }))) => {
                    *match ring {
                        ReceiveRing::Netif => &mut self.counters.received_by.netif_frames,
                        ReceiveRing::NicQueue => &mut self.counters.received_by.queue_frames,
                    } += 1;
                    self.counters.linearised_bytes += receiver.take_linearised();
                    let mut head = [0; CHECKSUM_HEAD];
                    let wanted = if offload.needs_checksum { head.len() } else { 18 };
                    let (received, seen) = match place {
                        Place::Area(frame) => {
                            let seen = frame.len().min(wanted);
                            if let Some(bytes) = receiver.bytes(frame.clone()) {
                                head[..seen].copy_from_slice(&bytes[..seen]);
                            }
                            place_checksum(&head[..seen], &mut offload);
                            (Received::Area { frame, offload, end, ring }, seen)
                        }
                        Place::Buffer(buffer, length) => {
                            let seen = length.min(wanted);
                            buffer.get(0, &mut head[..seen]);
                            place_checksum(&head[..seen], &mut offload);
                            (Received::Owned { buffer, frame: 0..length, offload }, seen)
                        }
                    };
                    let checked = EthernetHeader::parse(&head[..seen])
                        .map_err(|_| DropReason::BadResponse)
                        .and_then(|header| self.acceptable(&header, Path::Netif));
                    match checked {
                        Ok(()) => self.batch.gathered.push(Gathered::Frame(
                            received,
                            Travel { way: Way::DriverDomain, enclosed: None },
                        )),
                        Err(reason) => {
                            self.discard(received);
                            self.drop_one(reason);
                        }
                    }
                }
                Err(_) => {
                    self.fail();
                    return true;
                }
            }
            busy = true;
        }
        busy
    }
}

/// netif says that a transport checksum is blank, but not where it is: that follows from the
/// headers. In what is neither TCP nor UDP there is none to fill in.
fn place_checksum(head: &[u8], offload: &mut Offload) {
    if !offload.needs_checksum {
        return;
    }
    match locate_checksum(head) {
        Some((start, offset)) => {
            offload.checksum_start = start;
            offload.checksum_offset = offset;
        }
        None => {
            offload.needs_checksum = false;
            offload.checksum_valid = true;
        }
    }
}
