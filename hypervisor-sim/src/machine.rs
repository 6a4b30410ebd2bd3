//! The simulated host: domains with memory of their own, grants that are enforced, event channels
//! and the store.
//!
//! | module | what |
//! |---|---|
//! | `access` | one address space and one check, for grants and for devices |
//! | `grant_check`, `grants` | the hypervisor's side of grant tables |
//! | `guest`, `pool`, `buffer` | the guest kernel's side: free pages, references, buffers |
//! | `granter`, `area`, `copier`, `share` | the seam's traits for memory |
//! | `events`, `ports` | event channels |
//! | `engine` | the copy engine |
//! | `devices`, `foreign` | what an assigned device has of its domain, and of others |
//! | `descriptors` | what the system under the simulator has for a domain |
//! | `store` | xenstore |
//! | `costs`, `counters` | what it takes |

mod access;
mod area;
mod buffer;
mod copier;
mod costs;
mod counters;
mod descriptors;
mod devices;
mod domain;
mod engine;
mod events;
mod foreign;
pub mod grant_check;
mod granter;
mod grants;
mod guest;
mod options;
mod pool;
mod ports;
mod share;
mod store;

#[cfg(test)]
mod tests;

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use xenvelope_grant::{DomId, Gref, PAGE_SIZE, Words};

pub use access::{DmaFault, PageExtent};
pub use area::PageArea;
pub use buffer::FrameBuffer;
pub use costs::{Costs, spin_ns};
pub use counters::CounterSnapshot;
pub use devices::DevicePages;
pub use domain::{DeviceWindow, Domain};
pub use engine::EngineCosts;
pub use foreign::{DriverWindow, ForeignPages, MachineWindow};
pub use granter::GrantedBuffer;
pub use options::{Backing, CreateError, DomainOptions, GrantVersion};
pub use ports::{DevicePort, Port};
pub use share::SharedPages;

use domain::DomainState;
use engine::CopyEngine;
pub(crate) use store::Session as StoreSession;
use store::StoreTree;

/// Locks, also after another thread has panicked: what the simulator keeps is whole between any
/// two statements that matter, and one test's panic must not become another's.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`].
pub(crate) fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// The domains that exist, by id.
#[derive(Default)]
pub(crate) struct DomainTable {
    slots: Vec<Option<Arc<DomainState>>>,
}

impl DomainTable {
    pub(crate) fn get(&self, id: DomId) -> Option<&DomainState> {
        self.slots.get(usize::from(id.0))?.as_deref()
    }

    pub(crate) fn shared(&self, id: DomId) -> Option<Arc<DomainState>> {
        self.slots.get(usize::from(id.0))?.clone()
    }
}

/// A page that a domain can read, for tests that look for bytes where they must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageSnapshot {
    /// Whose page it is.
    pub owner: DomId,
    /// Its frame number in the owner.
    pub frame: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A whole host.
pub struct Machine {
    pub(crate) costs: Costs,
    pub(crate) started: Instant,
    pub(crate) domains: RwLock<DomainTable>,
    /// Held while ports are opened, connected and closed.
    pub(crate) ports: Mutex<()>,
    pub(crate) store: Mutex<StoreTree>,
    pub(crate) fail_copy_calls: AtomicBool,
    pub(crate) engine: OnceLock<CopyEngine>,
    incarnations: AtomicU64,
    /// What [`Machine::random`] begins with.
    seed: u64,
    drawn: AtomicU64,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("costs", &self.costs).finish_non_exhaustive()
    }
}

impl Machine {
    /// A host without any domain.
    pub fn new(costs: Costs) -> Arc<Machine> {
        Machine::drawing(costs, RandomState::new().hash_one(0))
    }

    /// As [`Machine::new`], but what drivers draw follows from `seed`: a run by a clock that does
    /// not move by itself is the same each time.
    pub fn drawing(costs: Costs, seed: u64) -> Arc<Machine> {
        Arc::new(Machine {
            costs,
            started: Instant::now(),
            domains: RwLock::default(),
            ports: Mutex::default(),
            store: Mutex::new(StoreTree::new()),
            fail_copy_calls: AtomicBool::new(false),
            engine: OnceLock::new(),
            incarnations: AtomicU64::new(1),
            seed,
            drawn: AtomicU64::new(0),
        })
    }

    /// What operations cost.
    pub fn costs(&self) -> Costs {
        self.costs
    }

    /// A new domain with the lowest free id.
    ///
    /// # Panics
    /// If the system has no memory for it, or `pages` is 0.
    pub fn create_domain(self: &Arc<Self>, name: &str, pages: usize) -> Domain {
        self.create(&DomainOptions::new(name, pages)).expect("a domain of that size")
    }

    /// A new domain with a given id, which may have been another's.
    ///
    /// # Panics
    /// If the id is in use, or as [`Machine::create_domain`].
    pub fn create_domain_with_id(
        self: &Arc<Self>,
        name: &str,
        domid: DomId,
        pages: usize,
    ) -> Domain {
        let options = DomainOptions { domid: Some(domid), ..DomainOptions::new(name, pages) };
        self.create(&options).expect("a free id and a domain of that size")
    }

    /// A new domain.
    pub fn create(self: &Arc<Self>, options: &DomainOptions) -> Result<Domain, CreateError> {
        let mut domains = self.domains.write().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut domains.slots;
        let index = match options.domid {
            Some(id) => usize::from(id.0),
            None => slots.iter().position(Option::is_none).unwrap_or(slots.len()),
        };
        let id = u16::try_from(index).ok().and_then(DomId::ordinary).ok_or(CreateError::BadId)?;
        if slots.get(index).is_some_and(Option::is_some) {
            return Err(CreateError::InUse(id));
        }
        let incarnation = self.incarnations.fetch_add(1, Relaxed);
        let state = Arc::new(DomainState::new(options, id, incarnation)?);
        if slots.len() <= index {
            slots.resize(index + 1, None);
        }
        slots[index] = Some(Arc::clone(&state));
        lock(&self.store).introduce(&state);
        Ok(Domain { machine: Arc::clone(self), state })
    }

    /// Ends a domain: its grants are refused, its ports closed, its devices stopped, its watches
    /// gone. What it has mapped stays mapped until its drivers let go, and what others have mapped
    /// of it stays readable to them. Its part of the store is the toolstack's to remove.
    ///
    /// `false` if there is none.
    pub fn destroy(&self, domid: DomId) -> bool {
        let state = {
            let mut domains = self.domains.write().unwrap_or_else(PoisonError::into_inner);
            let slot = domains.slots.get_mut(usize::from(domid.0));
            let Some(state) = slot.and_then(Option::take) else {
                return false;
            };
            state.space.kill();
            // Before the id can be taken again.
            lock(&self.store).release(&state);
            state
        };
        ports::close_all(self, &state);
        state.queue.call_attention();
        true
    }

    /// The domain with that id.
    pub fn domain(self: &Arc<Self>, domid: DomId) -> Option<Domain> {
        let state = read_lock(&self.domains).shared(domid)?;
        Some(Domain { machine: Arc::clone(self), state })
    }

    /// A device that is assigned to `device_of` reads memory.
    pub fn dma_read(&self, device_of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        self.window_of(device_of)?.read(address, out)
    }

    /// A device that is assigned to `device_of` writes memory. What came before a fault stays
    /// written.
    pub fn dma_write(&self, device_of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.window_of(device_of)?.write(address, bytes)
    }

    fn window_of(&self, domid: DomId) -> Result<DeviceWindow, DmaFault> {
        let state = read_lock(&self.domains).shared(domid).ok_or(DmaFault::Gone)?;
        Ok(DeviceWindow::new(state))
    }

    /// Gives the host a copy engine, which is used from now on by those that hand batches over.
    /// It has one at most: `false` if there was one already.
    pub fn start_engine(&self, costs: EngineCosts) -> std::io::Result<bool> {
        if self.engine.get().is_some() {
            return Ok(false);
        }
        Ok(self.engine.set(CopyEngine::start(costs)?).is_ok())
    }

    /// As [`Machine::start_engine`], but nothing is copied before
    /// [`Machine::step_engine`] is called: for a host that is driven step by step, in which no
    /// thread and no clock may decide what happens.
    pub fn start_engine_by_hand(&self) -> bool {
        self.engine.set(CopyEngine::by_hand()).is_ok()
    }

    /// Has the engine of [`Machine::start_engine_by_hand`] copy the batch that was handed over
    /// first. Whether there was one.
    pub fn step_engine(&self) -> bool {
        self.engine.get().is_some_and(CopyEngine::carry_out_one)
    }

    /// From now on grant copy calls fail as a whole, or no longer do: for tests of what is
    /// believed then.
    pub fn fail_copy_calls(&self, fail: bool) {
        self.fail_copy_calls.store(fail, Relaxed);
    }

    /// The grants of a domain that are valid now: reference, grantee and flags. A debugging key
    /// prints them in Xen.
    pub fn scan_grants(&self, of: DomId) -> Vec<(Gref, DomId, u16)> {
        read_lock(&self.domains).get(of).map_or_else(Vec::new, |state| state.grants.live())
    }

    /// All pages that a domain can read: its own, as far as it has used them, and those that it
    /// has mapped from others.
    pub fn memory_snapshot(&self, domid: DomId) -> Vec<PageSnapshot> {
        let Some(state) = read_lock(&self.domains).shared(domid) else {
            return Vec::new();
        };
        let mut pages = Vec::new();
        let touched = state.guest.touched();
        if touched != 0 {
            let own = state.space.memory().window(0..touched, false);
            snapshot(&mut pages, domid, (0..touched as u64).zip(0..), &own);
        }
        for mapped in lock(&state.maptrack).mapped() {
            let frames = mapped.frames.iter().copied().zip(0..);
            snapshot(&mut pages, mapped.owner, frames, &mapped.words);
        }
        pages
    }

    /// The bytes of [`Machine::memory_snapshot`], one page after the other.
    pub fn readable_bytes(&self, domid: DomId) -> Vec<u8> {
        self.memory_snapshot(domid).into_iter().flat_map(|page| page.bytes).collect()
    }

    /// The store, one node a line: for people.
    pub fn store_tree(&self) -> String {
        lock(&self.store).print()
    }

    /// Keyed by the seed, which is the system's entropy where nobody gave one, and never the same
    /// input twice.
    pub(crate) fn random(&self) -> u64 {
        let keyed = BuildHasherDefault::<DefaultHasher>::default();
        keyed.hash_one((self.seed, self.drawn.fetch_add(1, Relaxed)))
    }
}

fn snapshot(
    out: &mut Vec<PageSnapshot>,
    owner: DomId,
    frames: impl Iterator<Item = (u64, usize)>,
    words: &impl Words,
) {
    for (frame, page) in frames {
        let mut bytes = vec![0; PAGE_SIZE];
        words.copy_out(page * PAGE_SIZE, &mut bytes);
        out.push(PageSnapshot { owner, frame, bytes });
    }
}
