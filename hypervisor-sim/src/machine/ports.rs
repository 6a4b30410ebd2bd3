//! Event channel ports, and who is at the other end.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{EventError, Events, Instant, PortId};

use super::counters::add;
use super::domain::{Domain, DomainState};
use super::events::{EventQueue, PORTS};
use super::{Machine, lock, read_lock};

/// A port of a domain's. Dropping it closes it.
pub struct Port {
    domain: Domain,
    end: Arc<PortEnd>,
}

/// What a port is connected to. Changed only under the machine's `ports` lock; the lock here is
/// for `notify`, which reads it and must not send to a port that has just been given away.
struct PortEnd {
    id: u32,
    link: Mutex<Link>,
}

enum Link {
    /// Open for that domain to connect to (`ECS_UNBOUND`).
    Unbound(DomId),
    /// `ECS_INTERDOMAIN`.
    Connected { domid: DomId, queue: Arc<EventQueue>, remote: Weak<PortEnd>, port: u32 },
    /// Closed, or a device's.
    Closed,
}

/// The ports of one domain.
pub(crate) struct PortTable {
    ends: Vec<Option<Arc<PortEnd>>>,
    free: Vec<u32>,
}

impl PortTable {
    pub(crate) fn new() -> PortTable {
        // Port 0 is never valid.
        PortTable { ends: vec![None], free: Vec::new() }
    }

    fn allocate(&mut self, link: Link) -> Result<Arc<PortEnd>, EventError> {
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.ends.len() < PORTS => {
                self.ends.push(None);
                (self.ends.len() - 1) as u32
            }
            None => return Err(EventError::NoPort),
        };
        let end = Arc::new(PortEnd { id, link: Mutex::new(link) });
        self.ends[id as usize] = Some(Arc::clone(&end));
        Ok(end)
    }

    fn get(&self, port: u32) -> Option<Arc<PortEnd>> {
        self.ends.get(port as usize)?.clone()
    }

    /// Frees the port's number, if it has not been freed already.
    fn free(&mut self, end: &Arc<PortEnd>) -> bool {
        let slot = &mut self.ends[end.id as usize];
        if !slot.as_ref().is_some_and(|there| Arc::ptr_eq(there, end)) {
            return false;
        }
        *slot = None;
        self.free.push(end.id);
        true
    }
}

/// Closes a port. The other end falls back to unbound, open for the same domain to connect to
/// again (`evtchn_close`, `xen/common/event_channel.c`). The machine's `ports` lock is held.
fn close(state: &DomainState, end: &Arc<PortEnd>) {
    let link = std::mem::replace(&mut *lock(&end.link), Link::Closed);
    if let Link::Connected { remote, .. } = link
        && let Some(remote) = remote.upgrade()
    {
        *lock(&remote.link) = Link::Unbound(state.id);
    }
    if lock(&state.ports).free(end) {
        state.queue.clear(end.id);
    }
}

/// Closes all ports of a domain that ends. Whoever was connected gets an event, as Linux's drivers
/// arrange with `IOCTL_GNTDEV_SET_UNMAP_NOTIFY`.
pub(crate) fn close_all(machine: &Machine, state: &DomainState) {
    let _control = lock(&machine.ports);
    let ends: Vec<_> = lock(&state.ports).ends.iter().flatten().cloned().collect();
    for end in &ends {
        if let Link::Connected { queue, port, .. } = &*lock(&end.link) {
            queue.raise(*port);
        }
        close(state, end);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _control = lock(&self.domain.machine.ports);
        close(&self.domain.state, &self.end);
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.end.id).finish()
    }
}

/// A port for a device of a domain.
pub(super) fn open_device(state: &DomainState) -> Result<u32, EventError> {
    if !state.space.is_alive() {
        return Err(EventError::NoDomain);
    }
    // Unbound for a domain that cannot be: nobody can connect to it.
    lock(&state.ports).allocate(Link::Unbound(DomId::SELF)).map(|end| end.id)
}

/// Frees a port of [`open_device`].
pub(super) fn close_device(state: &DomainState, port: u32) {
    let end = lock(&state.ports).get(port);
    if let Some(end) = end {
        close(state, &end);
    }
}

/// The interrupt of a device that is assigned to a domain: a port that the device raises. Dropping
/// it frees the port.
pub struct DevicePort {
    state: Arc<DomainState>,
    end: Arc<PortEnd>,
}

impl DevicePort {
    /// The port's number, as [`Events::wait`] reports it.
    pub fn id(&self) -> PortId {
        PortId(self.end.id)
    }

    /// The device wants attention. No hypercall.
    pub fn raise(&self) {
        if matches!(*lock(&self.end.link), Link::Unbound(_)) {
            self.state.queue.raise(self.end.id);
        }
    }

    /// Lets the port fire again.
    pub fn unmask(&self) {
        self.state.queue.unmask(self.end.id);
    }
}

impl Drop for DevicePort {
    fn drop(&mut self) {
        close(&self.state, &self.end);
    }
}

impl fmt::Debug for DevicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DevicePort").field(&self.end.id).finish()
    }
}

impl Domain {
    /// A port for a device that is assigned to the domain.
    pub fn device_port(&self) -> Result<DevicePort, EventError> {
        let port = open_device(&self.state)?;
        let end = lock(&self.state.ports).get(port).ok_or(EventError::NoPort)?;
        Ok(DevicePort { state: Arc::clone(&self.state), end })
    }
}

impl Events for Domain {
    type Port = Port;

    fn listen(&self, peer: DomId) -> Result<Port, EventError> {
        self.hypercall();
        let _control = lock(&self.machine.ports);
        if !self.state.space.is_alive() {
            return Err(EventError::NoDomain);
        }
        let end = lock(&self.state.ports).allocate(Link::Unbound(peer))?;
        Ok(Port { domain: self.clone(), end })
    }

    fn connect(&self, peer: DomId, remote: u32) -> Result<Port, EventError> {
        self.hypercall();
        let other = read_lock(&self.machine.domains).shared(peer).ok_or(EventError::NoDomain)?;
        let _control = lock(&self.machine.ports);
        if !self.state.space.is_alive() || !other.space.is_alive() {
            return Err(EventError::NoDomain);
        }
        let there = lock(&other.ports).get(remote).ok_or(EventError::NotOpen)?;
        if !matches!(*lock(&there.link), Link::Unbound(open_for) if open_for == self.state.id) {
            return Err(EventError::NotOpen);
        }
        let here = lock(&self.state.ports).allocate(Link::Connected {
            domid: peer,
            queue: Arc::clone(&other.queue),
            remote: Arc::downgrade(&there),
            port: remote,
        })?;
        *lock(&there.link) = Link::Connected {
            domid: self.state.id,
            queue: Arc::clone(&self.state.queue),
            remote: Arc::downgrade(&here),
            port: here.id,
        };
        // Xen does so: events may have been sent while the other end was unbound, and lost.
        self.state.queue.raise(here.id);
        Ok(Port { domain: self.clone(), end: here })
    }

    fn id(&self, port: &Port) -> PortId {
        PortId(port.end.id)
    }

    fn notify(&self, port: &Port) {
        add(&self.state.counters.hypercalls, 1);
        add(&self.state.counters.events_sent, 1);
        super::costs::spin_ns(self.machine.costs.event_ns);
        if let Link::Connected { queue, port, .. } = &*lock(&port.end.link) {
            queue.raise(*port);
        }
    }

    fn wait(&self, out: &mut [PortId], until: Instant) -> usize {
        // A deadline that the system's clock cannot express is one that never comes.
        let until = self.machine.started.checked_add(Duration::from_nanos(until.0));
        let found = self.state.queue.wait(out, until);
        add(&self.state.counters.events_received, found as u64);
        found
    }

    fn unmask(&self, port: &Port) {
        port.domain.state.queue.unmask(port.end.id);
    }
}

impl Port {
    /// The domain at the other end, if one is connected.
    pub fn peer(&self) -> Option<DomId> {
        match *lock(&self.end.link) {
            Link::Connected { domid, .. } => Some(domid),
            Link::Unbound(_) | Link::Closed => None,
        }
    }
}
