//! One domain: its state, and the handle to it.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};

use xenvelope_grant::seam::{Host, Instant, Sight};
use xenvelope_grant::table::{ENTRY_V2, GrantTable, STATUS_V2};
use xenvelope_grant::{DomId, PAGE_SIZE, Peer, Words};

use super::Machine;
use super::access::{AddressSpace, DmaFault};
use super::costs::spin_ns;
use super::counters::{CounterSnapshot, Counters, add};
use super::engine::CopySlots;
use super::events::EventQueue;
use super::grant_check::{GrantCheck, KEY};
use super::grants::GrantState;
use super::guest::Guest;
use super::options::{CreateError, DomainOptions, GrantVersion};
use super::ports::PortTable;
use super::share::Maptrack;
use crate::capture::GuestTap;
use crate::memory::{Backing, PageRun};

/// Everything about one domain, in one of its lives.
pub(crate) struct DomainState {
    pub(crate) id: DomId,
    pub(crate) incarnation: u64,
    pub(crate) name: String,
    pub(crate) space: AddressSpace,
    pub(crate) grants: GrantState,
    /// The guest kernel's side.
    pub(crate) guest: Arc<Guest>,
    pub(crate) queue: Arc<EventQueue>,
    pub(crate) ports: Mutex<PortTable>,
    pub(crate) maptrack: Mutex<Maptrack>,
    /// How many watch events wait in the store.
    pub(crate) watch_events: Arc<AtomicUsize>,
    pub(crate) counters: Arc<Counters>,
    /// Who looks on at what its drivers do.
    pub(crate) tap: OnceLock<GuestTap>,
    /// What the copy engine has of it.
    pub(crate) copies: CopySlots,
}

impl DomainState {
    pub(crate) fn new(
        options: &DomainOptions,
        id: DomId,
        incarnation: u64,
    ) -> Result<DomainState, CreateError> {
        if options.grant_frames == 0 || u32::try_from(options.pages).is_err() {
            return Err(CreateError::BadSize);
        }
        let memory = PageRun::map_on(options.pages, options.backing)?;
        let space = AddressSpace::new(Arc::clone(memory.memory()));
        let backing = Backing { huge: false, ..options.backing };
        // The table's frames are the hypervisor's, so they have no frame number in the domain:
        // nobody can grant them, or let a device into them.
        let window =
            |frames| Ok::<_, CreateError>(PageRun::map_on(frames, backing)?.window(frames));
        let entries = window(options.grant_frames)?;
        let status = match options.grant_version {
            GrantVersion::V1 => None,
            GrantVersion::V2 => {
                let bytes = options.grant_frames * (PAGE_SIZE / ENTRY_V2) * STATUS_V2;
                let frames = bytes.div_ceil(PAGE_SIZE);
                Some(window(frames)?)
            }
        };
        let frames = options.pages as u64;
        let mut check = GrantCheck::new(id, frames, entries.clone(), status.clone());
        // A page of keys costs nothing before the first is written.
        let keys = match options.grant_version {
            GrantVersion::V1 => None,
            GrantVersion::V2 => {
                let frames =
                    (options.grant_frames * (PAGE_SIZE / ENTRY_V2) * KEY).div_ceil(PAGE_SIZE);
                Some(window(frames)?)
            }
        };
        if let Some(keys) = &keys {
            check = check.with_keys(keys.clone());
        }
        let table = match status {
            None => GrantTable::V1 { entries },
            Some(status) => GrantTable::V2 { entries, status },
        };
        let counters = Arc::new(Counters::default());
        Ok(DomainState {
            id,
            incarnation,
            name: options.name.clone(),
            space,
            grants: GrantState::new(check),
            guest: Arc::new(Guest::new(memory, table, keys, Arc::clone(&counters))),
            queue: Arc::new(EventQueue::new(backing)?),
            ports: Mutex::new(PortTable::new()),
            maptrack: Mutex::default(),
            watch_events: Arc::default(),
            counters,
            tap: OnceLock::new(),
            copies: CopySlots::new(),
        })
    }
}

/// A domain of the machine: what its drivers run on. Clones are the same domain.
#[derive(Clone)]
pub struct Domain {
    pub(crate) machine: Arc<Machine>,
    pub(crate) state: Arc<DomainState>,
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.state.name, self.state.id)
    }
}

impl Domain {
    /// The machine that the domain is on.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The domain's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Which life of its id the domain is. Never the same twice on a machine.
    pub fn incarnation(&self) -> u64 {
        self.state.incarnation
    }

    /// Id and incarnation.
    pub fn peer(&self) -> Peer {
        Peer { domid: self.state.id, incarnation: self.state.incarnation }
    }

    /// Whether the domain still exists.
    pub fn is_alive(&self) -> bool {
        self.state.space.is_alive()
    }

    /// What the domain made the host do so far.
    pub fn counters(&self) -> CounterSnapshot {
        self.state.counters.snapshot()
    }

    /// The domain's grant table as its kernel has it, to write entries that the driver would not:
    /// transitive ones, and hostile ones. References below [`xenvelope_grant::Gref::FIRST_FREE`],
    /// and those of [`Domain::reserve_refs`], are nobody else's.
    pub fn grant_table(&self) -> &GrantTable<impl Words + use<>> {
        self.state.guest.table()
    }

    /// References that the domain's own granting will not use from now on.
    pub fn reserve_refs(
        &self,
        out: &mut [xenvelope_grant::Gref],
    ) -> Result<(), xenvelope_grant::GrantError> {
        self.state.guest.take_refs(out)
    }

    /// The domain's memory as its devices see it.
    pub fn device_window(&self) -> DeviceWindow {
        DeviceWindow::new(Arc::clone(&self.state))
    }

    /// Shows what the domain's driver does to `tap`, from now on. The first one stays.
    pub(crate) fn observe_by(&self, tap: GuestTap) {
        let _ = self.state.tap.set(tap);
    }

    /// Counts one call into the hypervisor, and spends its time.
    pub(crate) fn hypercall(&self) {
        add(&self.state.counters.hypercalls, 1);
        spin_ns(self.machine.costs.hypercall_ns);
    }
}

/// One domain's memory as a device sees that is assigned to it: what [`Machine::dma_read`] and
/// [`Machine::dma_write`] do, without looking the domain up, and bound to one life of its id: a
/// device that is still assigned to a domain that has ended reaches nothing of its successor.
#[derive(Clone)]
pub struct DeviceWindow {
    state: Arc<DomainState>,
}

impl DeviceWindow {
    pub(crate) fn new(state: Arc<DomainState>) -> DeviceWindow {
        DeviceWindow { state }
    }

    /// Whose memory it is.
    pub fn domid(&self) -> DomId {
        self.state.id
    }

    /// Reads memory.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        let space = &self.state.space;
        space.dma(address, out.len(), |page, offset, range| page.read(offset, &mut out[range]))
    }

    /// Writes memory. What came before a fault stays written.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let space = &self.state.space;
        space.dma(address, bytes.len(), |page, offset, range| page.write(offset, &bytes[range]))
    }
}

impl fmt::Debug for DeviceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceWindow({:?})", self.state.id)
    }
}

impl Host for Domain {
    fn domid(&self) -> DomId {
        self.state.id
    }

    /// A domain of the simulator is never resumed: it ends, and another one begins.
    fn epoch(&self) -> u64 {
        1
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.machine.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        self.machine.random()
    }

    fn observe<'a>(&self, sight: impl FnOnce() -> Sight<'a>) {
        if let Some(tap) = self.state.tap.get() {
            tap.see(sight());
        }
    }
}
