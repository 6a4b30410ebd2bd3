//! The domain that we are, and what all of its traits share.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Host, Instant, Store, StoreError, WatchEvent};

use super::account::Account;
use super::clock::Clock;
use super::devices::Devices;
use super::error::XenError;
use super::pool::Pool;
use super::store::XenStore;
use super::sys::Copies;

/// Where gntalloc's limit is.
const GNTALLOC_LIMIT: &str = "/sys/module/xen_gntalloc/parameters/limit";

/// How much may be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pages that gntalloc may have granted at a time, on the whole machine. Its default of 1024
    /// is raised to this if we may.
    pub gntalloc_pages: u32,
    /// Pages that one domain may possibly keep mapped after we have freed them. Beyond that it is
    /// granted nothing more until they have been forgotten, one a second.
    pub unproven_pages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { gntalloc_pages: 16384, unproven_pages: 8192 }
    }
}

/// What a [`Xen`] and everything that it gave away share.
pub(super) struct Inner {
    pub gntalloc: File,
    pub gntdev: File,
    pub evtchn: File,
    pub store: XenStore,
    domid: DomId,
    pub clock: Clock,
    pub account: Account,
    pub pool: Pool,
    pub devices: Devices,
    /// Ports that are bound.
    pub ports: RefCell<Vec<u32>>,
    /// Scratch space of a copy call.
    pub copies: RefCell<Copies>,
}

/// A domain under Linux: the whole seam. Clones are the same domain; one thread.
#[derive(Clone)]
pub struct Xen {
    pub(super) inner: Rc<Inner>,
}

fn open(path: &'static str, module: &'static str, nonblocking: bool) -> Result<File, XenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if nonblocking {
        options.custom_flags(nix::libc::O_NONBLOCK);
    }
    options.open(path).map_err(|cause| XenError::Device { path, module, cause })
}

impl Xen {
    /// Opens Xen's devices and the store.
    pub fn open(limits: Limits) -> Result<Xen, XenError> {
        let gntalloc = open("/dev/xen/gntalloc", "xen-gntalloc", false)?;
        let gntdev = open("/dev/xen/gntdev", "xen-gntdev", false)?;
        let evtchn = open("/dev/xen/evtchn", "xen-evtchn", true)?;
        raise_limit(limits.gntalloc_pages);
        let store = XenStore::open()?;
        let domid = store.domid()?;
        Ok(Self::with(gntalloc, gntdev, evtchn, store, domid, limits))
    }

    /// Over devices that are none of Xen's.
    #[cfg(test)]
    pub(super) fn over(
        gntalloc: File,
        gntdev: File,
        evtchn: File,
        store: std::os::unix::net::UnixStream,
    ) -> Xen {
        let store = XenStore::over(store, Some(DomId::DOM0), super::store::TIMEOUT)
            .expect("a socket can be made not to block");
        Self::with(gntalloc, gntdev, evtchn, store, DomId::DOM0, Limits::default())
    }

    fn with(
        gntalloc: File,
        gntdev: File,
        evtchn: File,
        store: XenStore,
        domid: DomId,
        limits: Limits,
    ) -> Xen {
        let inner = Inner {
            gntalloc,
            gntdev,
            evtchn,
            store,
            domid,
            clock: Clock::choose(),
            account: Account::new(limits.unproven_pages),
            pool: Pool::default(),
            devices: Devices::default(),
            ports: RefCell::default(),
            copies: RefCell::default(),
        };
        Xen { inner: Rc::new(inner) }
    }

    /// The connection to the store. If it [is not alive](XenStore::is_alive) any more, a new
    /// process is needed.
    pub fn store(&self) -> &XenStore {
        &self.inner.store
    }
}

/// Raises gntalloc's limit, if it is lower and we may.
fn raise_limit(pages: u32) {
    let now = std::fs::read_to_string(GNTALLOC_LIMIT)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    if now.is_some_and(|now| now >= pages) {
        return;
    }
    if let Err(error) = std::fs::write(GNTALLOC_LIMIT, pages.to_string()) {
        tracing::warn!(
            %error,
            "gntalloc keeps its limit of {} pages; write {pages} to {GNTALLOC_LIMIT} as root",
            now.unwrap_or(1024)
        );
    }
}

impl Host for Xen {
    fn domid(&self) -> DomId {
        self.inner.domid
    }

    /// One: a domain that is resumed begins with a new process.
    fn epoch(&self) -> u64 {
        1
    }

    fn now(&self) -> Instant {
        self.inner.clock.now()
    }

    /// # Panics
    /// If the kernel gives no random numbers: nothing that is secret could be made.
    fn random(&self) -> u64 {
        getrandom::u64().expect("the kernel gives random numbers")
    }
}

impl Store for Xen {
    fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        self.inner.store.read(path, out)
    }
    fn list<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        self.inner.store.list(path, out)
    }
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.inner.store.commit(changes)
    }
    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError> {
        self.inner.store.watch(path, token)
    }
    fn unwatch(&self, token: u32) {
        self.inner.store.unwatch(token);
    }
    fn next<'o>(&self, out: &'o mut [u8]) -> Option<WatchEvent<'o>> {
        let (store, devices) = (&self.inner.store, &self.inner.devices);
        if !store.has_events() && !devices.ask_store() {
            return None;
        }
        let event = store.next(out);
        if event.is_none() {
            devices.store_is_silent();
        }
        event
    }
}
