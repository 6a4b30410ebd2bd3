//! What a device that is assigned to a domain has of the machine: memory behind the IOMMU, and an
//! interrupt.

use std::fmt;
use std::sync::Arc;

use xenvelope_grant::seam::{NoBuffer, PortId};
use xenvelope_grant::{DomId, HasWords, PAGE_SIZE, Words};

use super::Machine;
use super::buffer::FrameBuffer;
use super::domain::Domain;
use super::guest::Guest;
use super::ports::DevicePort;
use crate::memory::{PageRun, Window};
use crate::nic::{Dma, DmaBuffer, DmaFault, DmaWords, Interrupt};

impl Dma for Machine {
    fn read(&self, of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        self.dma_read(of, address, out).map_err(|_| DmaFault { of, address })
    }
    fn write(&self, of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.dma_write(of, address, bytes).map_err(|_| DmaFault { of, address })
    }
}

impl DmaBuffer for FrameBuffer {
    fn dma_address(&self) -> u64 {
        FrameBuffer::dma_address(self)
    }
}

impl Interrupt for DevicePort {
    fn raise(&self) {
        DevicePort::raise(self);
    }
    fn id(&self) -> PortId {
        DevicePort::id(self)
    }
    fn unmask(&self) {
        DevicePort::unmask(self);
    }
}

/// Zeroed pages of a domain that its driver and its device use at once, as words: descriptor
/// rings. Dropping them gives them back, so the device is stopped first.
pub struct DevicePages {
    /// Gone only while it is being dropped.
    run: Option<PageRun>,
    words: Window,
    address: u64,
    guest: Arc<Guest>,
}

impl Domain {
    /// Pages for the rings of a device.
    pub fn device_pages(&self, bytes: usize) -> Result<DevicePages, NoBuffer> {
        let guest = &self.state.guest;
        let pages = super::pool::pages_for(bytes);
        let run = guest.take_zeroed(pages).ok_or(NoBuffer)?;
        let (words, address) = (run.window(pages), (run.first() * PAGE_SIZE) as u64);
        Ok(DevicePages { run: Some(run), words, address, guest: Arc::clone(guest) })
    }
}

impl Drop for DevicePages {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.guest.give_back(run);
        }
    }
}

impl fmt::Debug for DevicePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DevicePages").field(&self.run).finish()
    }
}

impl DmaWords for DevicePages {
    fn dma_address(&self) -> u64 {
        self.address
    }
}

impl HasWords for DevicePages {
    fn words(&self) -> &(impl Words + ?Sized) {
        &self.words
    }
}
