//! Where taps put what they see: a bounded queue, and the list of interfaces.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Direction, Host};
use xenvelope_switch::MacAddress;

use super::{CardTaps, GuestTap};
use crate::machine::Domain;
use crate::nic::NicConfig;

/// Most packets that wait for the file.
pub(super) const QUEUE_PACKETS: usize = 16384;
/// Most bytes that wait for the file.
const QUEUE_BYTES: usize = 64 << 20;

/// A point at which frames are captured.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) address: Option<Ipv4Addr>,
    /// Frames that came by, captured or not.
    pub(super) seen: AtomicU64,
    /// Those of them that found the queue full, or could not be written.
    pub(super) dropped: AtomicU64,
}

/// A captured frame on its way to the file.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) interface: u32,
    /// Since 1970.
    pub(super) at: Duration,
    pub(crate) direction: Direction,
    /// Bytes that the frame had.
    pub(super) length: usize,
    /// Those of them that are kept.
    pub(crate) data: Box<[u8]>,
    pub(crate) comment: Option<String>,
}

/// What all taps of a capture share with its writer.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Sender<Packet>,
    queued_bytes: AtomicUsize,
    snaplen: usize,
    pub(super) interfaces: Mutex<Vec<Arc<Interface>>>,
    /// Names of domains, by id.
    names: RwLock<Vec<Option<Arc<str>>>>,
    started: Instant,
    /// When that was, since 1970.
    epoch: Duration,
}

impl Shared {
    /// The time now, since 1970: the monotonic clock that the simulated host has, moved.
    pub(super) fn now(&self) -> Duration {
        self.epoch + self.started.elapsed()
    }

    /// The writer has taken a packet out of the queue.
    pub(super) fn taken(&self, packet: &Packet) {
        self.queued_bytes.fetch_sub(packet.data.len(), Relaxed);
    }

    /// The interface of a number, if there is one.
    pub(super) fn interface(&self, number: usize) -> Option<Arc<Interface>> {
        let interfaces = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        interfaces.get(number).cloned()
    }

    /// What a domain is called.
    pub(super) fn name(&self, domid: DomId) -> Arc<str> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        match names.get(usize::from(domid.0)) {
            Some(Some(name)) => Arc::clone(name),
            _ if domid == DomId(0) => Arc::from("driver-domain"),
            _ => Arc::from(format!("domain {}", domid.0)),
        }
    }
}

/// Makes taps. Clones belong to the same capture.
#[derive(Clone, Debug)]
pub struct Recorder {
    pub(super) shared: Arc<Shared>,
}

impl Recorder {
    /// A recorder that keeps at most `snaplen` bytes of each frame, and the queue's other end.
    pub(crate) fn new(snaplen: usize) -> (Recorder, Receiver<Packet>) {
        let (queue, packets) = bounded(QUEUE_PACKETS);
        let shared = Shared {
            queue,
            queued_bytes: AtomicUsize::new(0),
            snaplen,
            interfaces: Mutex::default(),
            names: RwLock::default(),
            started: Instant::now(),
            // A clock that is set before 1970 is as good as one that is set to it.
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        (Recorder { shared: Arc::new(shared) }, packets)
    }

    /// A tap at a new interface.
    pub fn interface(
        &self,
        name: String,
        description: String,
        mac: Option<[u8; 6]>,
        address: Option<Ipv4Addr>,
    ) -> Tap {
        let (seen, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        let interface = Arc::new(Interface { name, description, mac, address, seen, dropped });
        let mut all = self.shared.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&interface));
        // A host has some hundred interfaces.
        let number = all.len() as u32 - 1;
        Tap { number, interface, shared: Arc::clone(&self.shared) }
    }

    /// Taps at all ports of a card, and at the wire.
    pub fn card(&self, config: &NicConfig) -> CardTaps {
        CardTaps::new(self, config)
    }

    /// Taps at a guest's stack and at its channels, from now on. `vf` is the number of its VF.
    pub fn guest(&self, domain: &Domain, mac: MacAddress, address: Ipv4Addr, vf: Option<usize>) {
        let domid = domain.domid();
        let mut names = self.shared.names.write().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(domid.0);
        if names.len() <= index {
            names.resize(index + 1, None);
        }
        names[index] = Some(Arc::from(domain.name()));
        drop(names);
        domain.observe_by(GuestTap::new(self, domain, mac, address, vf));
    }
}

/// Copies what comes by at an interface. Clones are taps at the same one.
#[derive(Clone, Debug)]
pub struct Tap {
    number: u32,
    interface: Arc<Interface>,
    shared: Arc<Shared>,
}

impl Tap {
    /// Captures a frame, Ethernet header and all, or counts it as dropped if too much waits for
    /// the file. Never waits. `comment` is asked for only if the frame is taken.
    pub fn capture(
        &self,
        direction: Direction,
        frame: &[u8],
        comment: impl FnOnce() -> Option<String>,
    ) {
        let Shared { queue, queued_bytes, snaplen, .. } = &*self.shared;
        self.interface.seen.fetch_add(1, Relaxed);
        let data = &frame[..frame.len().min(*snaplen)];
        let waiting = queued_bytes.fetch_add(data.len(), Relaxed);
        let room = waiting + data.len() <= QUEUE_BYTES && !queue.is_full();
        let taken = room
            && queue
                .try_send(Packet {
                    interface: self.number,
                    at: self.shared.now(),
                    direction,
                    length: frame.len(),
                    data: data.into(),
                    comment: comment(),
                })
                .is_ok();
        if !taken {
            queued_bytes.fetch_sub(data.len(), Relaxed);
            self.interface.dropped.fetch_add(1, Relaxed);
        }
    }

    /// What a domain is called.
    pub(super) fn name(&self, domid: DomId) -> Arc<str> {
        self.shared.name(domid)
    }
}
