//! Pages of another domain that a driver has mapped for its device: what Xen's IOMMU holds of a
//! driver domain's grant mappings, page by page.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

use xenvelope_grant::seam::Access;
use xenvelope_grant::{DomId, GrantError, Gref, PAGE_SIZE};

use super::access::DmaFault;
use super::domain::{DeviceWindow, Domain, DomainState};
use super::{lock, read_lock};

/// Where in the address space of a driver's device mapped pages begin: above all memory that a
/// domain can have.
const FIRST: u64 = 1 << 48;

/// One mapped page.
#[derive(Clone, Copy)]
struct Mapping {
    gref: Gref,
    frame: u64,
}

/// Pages of one other domain, mapped writable for a device of a driver's. A page that is mapped
/// cannot be revoked by its owner. Dropping it unmaps them all.
pub struct ForeignPages {
    driver: Domain,
    owner: Arc<DomainState>,
    /// By place in the address space; places are used again.
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    pages: Vec<Option<Mapping>>,
    free: Vec<usize>,
}

impl Domain {
    /// A place for pages of `owner`, of which none is mapped yet. None if there is no such domain.
    pub fn foreign_pages(&self, owner: DomId) -> Option<ForeignPages> {
        let owner = read_lock(&self.machine.domains).shared(owner)?;
        Some(ForeignPages { driver: self.clone(), owner, slots: Mutex::default() })
    }
}

impl ForeignPages {
    /// Maps pages with one call. For each, where the device finds it, or why it does not.
    pub fn map(&self, refs: &[Gref], mut each: impl FnMut(Result<u64, GrantError>)) {
        self.driver.hypercall();
        let mut slots = lock(&self.slots);
        for &gref in refs {
            let mapped = self.owner.grants.map(gref, self.driver.state.id, Access::Write);
            each(mapped.map(|frame| {
                let slot = slots.free.pop().unwrap_or_else(|| {
                    slots.pages.push(None);
                    slots.pages.len() - 1
                });
                slots.pages[slot] = Some(Mapping { gref, frame });
                FIRST + (slot * PAGE_SIZE) as u64
            }));
        }
    }

    /// Unmaps pages with one call: after this the device does not reach them. Addresses at which
    /// nothing is mapped are left alone.
    pub fn unmap(&self, addresses: &[u64]) {
        if addresses.is_empty() {
            return;
        }
        self.driver.hypercall();
        let mut slots = lock(&self.slots);
        for &address in addresses {
            let slot = slot_of(address);
            let mapping = slot.and_then(|slot| slots.pages.get_mut(slot)).and_then(Option::take);
            if let (Some(slot), Some(mapping)) = (slot, mapping) {
                self.owner.grants.release(mapping.gref, Access::Write);
                slots.free.push(slot);
            }
        }
    }

    /// Where in the machine the page at `address` lies, for a device whose addresses nobody
    /// translates. It stays there as long as it is mapped.
    pub fn machine_address(&self, address: u64) -> Option<u64> {
        let frame = self.frame_at(address)?;
        Some(machine_base(&self.owner) + frame * PAGE_SIZE as u64 + address % PAGE_SIZE as u64)
    }

    fn frame_at(&self, address: u64) -> Option<u64> {
        let slot = slot_of(address)?;
        Some(lock(&self.slots).pages.get(slot).copied().flatten()?.frame)
    }

    /// The device writes to a mapped page.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let offset = address % PAGE_SIZE as u64;
        if offset as usize + bytes.len() > PAGE_SIZE {
            return Err(DmaFault::Outside);
        }
        let frame = self.frame_at(address).ok_or(DmaFault::Outside)?;
        let window = DeviceWindow::new(Arc::clone(&self.owner));
        window.write(frame * PAGE_SIZE as u64 + offset, bytes)
    }
}

impl Drop for ForeignPages {
    fn drop(&mut self) {
        let slots = lock(&self.slots).pages.len();
        let all: Vec<u64> = (0..slots).map(|slot| FIRST + (slot * PAGE_SIZE) as u64).collect();
        self.unmap(&all);
    }
}

impl fmt::Debug for ForeignPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignPages({:?})", self.owner.id)
    }
}

fn slot_of(address: u64) -> Option<usize> {
    usize::try_from(address.checked_sub(FIRST)? / PAGE_SIZE as u64).ok()
}

/// A driver's own memory, and what it has mapped of another's, as a device of its sees them
/// through the IOMMU.
pub struct DriverWindow {
    own: DeviceWindow,
    foreign: Arc<ForeignPages>,
}

impl DriverWindow {
    /// Of the driver that mapped `foreign`.
    pub fn new(foreign: Arc<ForeignPages>) -> DriverWindow {
        DriverWindow { own: foreign.driver.device_window(), foreign }
    }

    /// Whose memory it is.
    pub fn domid(&self) -> DomId {
        self.own.domid()
    }

    /// Reads memory of the driver's own.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        self.own.read(address, out)
    }

    /// Writes memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        if address < FIRST {
            self.own.write(address, bytes)
        } else {
            self.foreign.write(address, bytes)
        }
    }
}

/// Where a domain's memory begins in the machine's: never the same for two, and never again after
/// the domain has ended.
pub(crate) fn machine_base(of: &DomainState) -> u64 {
    of.incarnation << MEMORY_BITS
}

/// A domain has less memory than this many bits can say (its pages fit 32 bits).
const MEMORY_BITS: u32 = 44;

/// All of the machine's memory, as a device sees it whose addresses nobody translates or checks.
pub struct MachineWindow(Domain);

impl MachineWindow {
    /// Of the machine that `driver` is on.
    pub fn new(driver: Domain) -> MachineWindow {
        MachineWindow(driver)
    }

    fn at(&self, address: u64) -> Result<(DeviceWindow, u64), DmaFault> {
        let domains = read_lock(&self.0.machine.domains);
        let incarnation = address >> MEMORY_BITS;
        let state = domains.slots.iter().flatten().find(|state| state.incarnation == incarnation);
        let state = Arc::clone(state.ok_or(DmaFault::Outside)?);
        Ok((DeviceWindow::new(state), address & ((1 << MEMORY_BITS) - 1)))
    }

    /// Reads memory.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        let (window, address) = self.at(address)?;
        window.read(address, out)
    }

    /// Writes memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let (window, address) = self.at(address)?;
        window.write(address, bytes)
    }
}

impl Domain {
    /// Where the domain's memory begins in the machine's.
    pub fn machine_base(&self) -> u64 {
        machine_base(&self.state)
    }
}
