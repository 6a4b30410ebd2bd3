//! A guest's queue of the card in the driver domain's hands: the seam's [`GuestQueue`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xenvelope_grant::seam::{Filled, GuestQueue, PortId, Unfilled};
use xenvelope_grant::{DomId, Gref, PAGE_SIZE};

use super::attach::AttachError;
use super::{CardError, Dma, Interrupt, Nic, QueuePort, Seat, Translation};
use crate::machine::{DevicePages, Domain, DriverWindow, ForeignPages, MachineWindow};

/// What has been posted and has not come back.
#[derive(Clone, Copy, Debug)]
enum Posted {
    /// The card has it. Where it is mapped.
    WithCard(u64),
    /// It is mapped, but the card did not take it: its link went in this moment.
    Lost(u64),
    /// It could not be mapped.
    Refused,
}

/// A receive queue whose buffers are pages that a guest granted to the driver domain.
///
/// Where something translates the card's addresses, it reaches the guest's pages through the
/// driver domain's mappings, and no others. Where nothing does, it is given machine addresses: of
/// pages that the driver domain has mapped, and has thereby checked and keeps where they are.
pub struct GrantedQueue {
    // First: the card lets go before the pages are unmapped.
    port: QueuePort<DevicePages>,
    foreign: Arc<ForeignPages>,
    translation: Translation,
    posted: Mutex<VecDeque<Posted>>,
}

impl Nic {
    /// Opens a queue for pages of `guest`, with its ring in the driver domain's memory.
    pub fn open_queue(
        self: &Arc<Self>,
        queue: usize,
        driver: &Domain,
        guest: DomId,
    ) -> Result<GrantedQueue, AttachError> {
        let interrupt: Arc<dyn Interrupt> = Arc::new(driver.device_port()?);
        let foreign = driver.foreign_pages(guest).ok_or(CardError::NoSuchGuest)?;
        let foreign = Arc::new(foreign);
        let translation = self.config().translation;
        let (dma, base): (Arc<dyn Dma>, u64) = match translation {
            Translation::None => {
                (Arc::new(MachineWindow::new(driver.clone())), driver.machine_base())
            }
            _ => (Arc::new(DriverWindow::new(Arc::clone(&foreign))), 0),
        };
        let domain = xenvelope_grant::seam::Host::domid(driver);
        let rings = driver.device_pages(self.config().ring_bytes())?;
        let port = self.attach_queue(queue, Seat { domain, dma, rings, interrupt, base })?;
        Ok(GrantedQueue { port, foreign, translation, posted: Mutex::default() })
    }
}

impl GrantedQueue {
    fn posted(&self) -> MutexGuard<'_, VecDeque<Posted>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the card is told of a mapped page.
    fn card_address(&self, mapped: u64) -> u64 {
        match self.translation {
            // It is mapped, so it has a place.
            Translation::None => self.foreign.machine_address(mapped).unwrap_or(mapped),
            _ => mapped,
        }
    }
}

impl GuestQueue for GrantedQueue {
    fn room(&self) -> usize {
        self.port.room()
    }

    fn post(&self, pages: &[Gref]) {
        let mut posted = self.posted();
        let first = posted.len();
        self.foreign.map(pages, |mapped| {
            posted.push_back(mapped.map_or(Posted::Refused, Posted::WithCard));
        });
        let new = posted.range(first..).filter_map(|page| match page {
            Posted::WithCard(mapped) => Some((self.card_address(*mapped), PAGE_SIZE as u32)),
            _ => None,
        });
        let taken = self.port.post(new);
        let mut with_card = 0;
        for page in posted.range_mut(first..) {
            if let Posted::WithCard(mapped) = *page {
                with_card += 1;
                if with_card > taken {
                    *page = Posted::Lost(mapped);
                }
            }
        }
    }

    fn filled(&self, out: &mut [Result<Filled, Unfilled>]) -> usize {
        let mut posted = self.posted();
        let mut unmap = [0; 64];
        let (mut done, mut count) = (0, 0);
        let limit = out.len().min(unmap.len());
        while done < limit {
            let (result, mapped) = match posted.front() {
                None => break,
                Some(Posted::Refused) => (Err(Unfilled::NotGranted), None),
                Some(Posted::Lost(mapped)) => (Err(Unfilled::NoLink), Some(*mapped)),
                Some(Posted::WithCard(mapped)) => match self.port.reap() {
                    None => break,
                    Some(result) => (result, Some(*mapped)),
                },
            };
            posted.pop_front();
            out[done] = result;
            done += 1;
            if let Some(mapped) = mapped {
                unmap[count] = mapped;
                count += 1;
            }
        }
        self.foreign.unmap(&unmap[..count]);
        done
    }

    fn interrupt(&self) -> PortId {
        self.port.interrupt()
    }

    fn unmask(&self) {
        self.port.unmask();
    }
}

impl fmt::Debug for GrantedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedQueue").field("port", &self.port).finish_non_exhaustive()
    }
}
