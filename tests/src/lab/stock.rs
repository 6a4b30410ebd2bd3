//! A guest with a netfront as Linux has it, driven by hand: no envelopes, any number of queues,
//! split event channels or not, any features.

mod queue;

use std::collections::{BTreeSet, VecDeque};

use xenvelope_grant::DomId;
use xenvelope_grant::Peer;
use xenvelope_grant::netif::{EXTRA_TYPE_GSO, ExtraInfo, RSP_NULL, RxFlags, TxFlags, TxRequest};
use xenvelope_grant::ring::Front;
use xenvelope_grant::seam::{
    Access, Buffer, Change, Events, Granter, Host as _, Instant, PortId, Share, Shared, Store as _,
};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_hypervisor_sim::machine::{Domain, Port};
use xenvelope_switch::MacAddress;

pub use queue::StockQueue;

use super::Lab;
use super::hostile::{RX_LAYOUT, TX_LAYOUT, push_buffers};

/// What Linux' netfront says of itself.
pub const LINUX: [(&str, u64); 6] = [
    (key::REQUEST_RX_COPY, 1),
    (key::FEATURE_RX_NOTIFY, 1),
    (key::FEATURE_SG, 1),
    (key::FEATURE_GSO_TCPV4, 1),
    (key::FEATURE_GSO_TCPV6, 1),
    (key::FEATURE_IPV6_CSUM_OFFLOAD, 1),
];

/// How a frontend connects.
#[derive(Clone, Debug)]
pub struct StockPlan {
    /// How many queues it has.
    pub queues: usize,
    /// Each ring has an event channel of its own.
    pub split: bool,
    /// Its other keys.
    pub keys: Vec<(&'static str, u64)>,
    /// Receive buffers of each queue.
    pub buffers: u32,
}

impl Default for StockPlan {
    fn default() -> Self {
        StockPlan { queues: 1, split: false, keys: LINUX.to_vec(), buffers: 256 }
    }
}

/// A frame that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Came {
    /// By which queue.
    pub queue: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Flags of its first response.
    pub flags: RxFlags,
    /// GSO size and kind.
    pub gso: Option<(u16, u8)>,
}

/// The guest.
pub struct StockGuest {
    /// The domain.
    pub domain: Domain,
    /// Its address.
    pub mac: MacAddress,
    /// Its own directory.
    pub front: Directory,
    /// The backend's.
    pub back: Directory,
    /// Its queues.
    pub queues: Vec<StockQueue>,
}

impl StockGuest {
    /// A guest whose interface the toolstack has made, and whose driver has not begun.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn new(lab: &Lab, mac: MacAddress) -> StockGuest {
        let domain = lab.machine.create_domain("stock", 8192);
        let guest = domain.domid();
        super::make_vif(&lab.dom0, guest, mac);
        let front = Directory::new(&format!("/local/domain/{guest}/device/vif/0")).expect("path");
        let back = Directory::new(&format!("/local/domain/0/backend/vif/{guest}/0")).expect("path");
        StockGuest { domain, mac, front, back, queues: Vec::new() }
    }

    /// A guest that is connected.
    ///
    /// # Panics
    /// If it is not.
    pub fn connect(lab: &mut Lab, mac: MacAddress, plan: &StockPlan) -> StockGuest {
        let mut guest = StockGuest::new(lab, mac);
        guest.shake_hands(lab, plan);
        guest
    }

    /// The handshake from Initialising on.
    ///
    /// # Panics
    /// If it does not come to its end.
    pub fn shake_hands(&mut self, lab: &mut Lab, plan: &StockPlan) {
        lab.run_until("the backend's InitWait", |_| self.backend() == XenbusState::InitWait);
        self.say_connected(plan);
        lab.run_until("the backend's Connected", |_| self.backend() == XenbusState::Connected);
        self.post_all(plan.buffers);
    }

    /// Makes rings and ports, and says Connected.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn say_connected(&mut self, plan: &StockPlan) {
        let (backend, reader) = (DomId::DOM0, Some(DomId::DOM0));
        let mut keys = Transaction::new();
        for (name, value) in &plan.keys {
            keys.write(&self.front, name, value, reader);
        }
        if plan.queues != 1 {
            keys.write(&self.front, key::MULTI_QUEUE_NUM_QUEUES, plan.queues, reader);
        }
        self.queues.clear();
        for index in 0..plan.queues {
            let export = || self.domain.export(backend, 1, Access::Write).expect("memory");
            let (tx, rx) = (export(), export());
            let directory = match plan.queues {
                1 => self.front,
                _ => self.front.child(format!("queue-{index}")).expect("a path"),
            };
            let ports: Vec<Port> = (0..if plan.split { 2 } else { 1 })
                .map(|_| self.domain.listen(backend).expect("a port"))
                .collect();
            let names: &[&str] = match plan.split {
                true => &[key::EVENT_CHANNEL_TX, key::EVENT_CHANNEL_RX],
                false => &[key::EVENT_CHANNEL],
            };
            keys.write(&directory, key::TX_RING_REF, tx.refs()[0].0, reader).write(
                &directory,
                key::RX_RING_REF,
                rx.refs()[0].0,
                reader,
            );
            for (name, port) in names.iter().zip(&ports) {
                keys.write(&directory, name, self.domain.id(port).0, reader);
            }
            self.queues.push(StockQueue {
                tx: Front::new(tx, TX_LAYOUT),
                rx: Front::new(rx, RX_LAYOUT),
                area: self.domain.receive_area(backend, 256).expect("memory"),
                ports,
                sent: VecDeque::new(),
                refused: 0,
                refusing: false,
            });
        }
        keys.state(&self.front, XenbusState::Connected, reader);
        keys.commit(&self.domain).expect("its own directory");
    }

    /// Says how far it is.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn say(&self, state: XenbusState) {
        let mut keys = Transaction::new();
        keys.state(&self.front, state, Some(DomId::DOM0));
        keys.commit(&self.domain).expect("its own directory");
    }

    /// What the backend says.
    pub fn backend(&self) -> XenbusState {
        self.back.state(&self.domain)
    }

    /// What libxl does to remove the device: waits for Closed then.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn remove(&self, dom0: &Domain) {
        let mut keys = Transaction::new();
        let reader = Some(self.domain.domid());
        keys.write(&self.back, key::ONLINE, 0, reader).state(
            &self.back,
            XenbusState::Closing,
            reader,
        );
        keys.commit(dom0).expect("the toolstack may write");
    }

    /// Writes or removes a key of the backend's directory, as toolstack or script.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn set(&self, dom0: &Domain, name: &str, value: Option<&str>) {
        let path = self.back.child(name).expect("a path");
        let (path, reader) = (path.path(), Some(self.domain.domid()));
        let change = match value {
            Some(value) => Change::Write { path, value, reader },
            None => Change::Remove { path },
        };
        dom0.commit(&[change]).expect("the toolstack may write");
    }

    /// Posts up to so many receive buffers in each queue. With `feature-rx-notify` it tells.
    pub fn post_all(&mut self, count: u32) {
        for queue in 0..self.queues.len() {
            self.post(queue, count);
        }
    }

    /// Posts up to so many receive buffers in one queue.
    pub fn post(&mut self, queue: usize, count: u32) {
        let queue = &mut self.queues[queue];
        push_buffers(&mut queue.rx, &mut queue.area, count);
        if queue.rx.publish()
            && let Some(port) = queue.ports.last()
        {
            self.domain.notify(port);
        }
    }

    /// Sends a frame by a queue. With `gso`, its size and kind.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn send(&mut self, queue: usize, frame: &[u8], flags: TxFlags, gso: Option<(u16, u8)>) {
        let mut buffer = self.domain.take(None, frame.len()).expect("memory");
        buffer.stack_bytes_mut()[..frame.len()].copy_from_slice(frame);
        let peer = Peer { domid: DomId::DOM0, incarnation: 0 };
        let out = self.domain.grant(buffer, peer, 0..frame.len(), Access::Read).expect("refs");
        let segments = self.domain.segments(&out).to_vec();
        let queue = &mut self.queues[queue];
        for (index, segment) in segments.iter().enumerate() {
            let mut flags = if index == 0 { flags } else { TxFlags::empty() };
            flags.set(TxFlags::MORE_DATA, index + 1 < segments.len());
            flags.set(TxFlags::EXTRA_INFO, index == 0 && gso.is_some());
            let id = (queue.tx.next_index() % 256) as u16;
            let size = if index == 0 { frame.len() as u16 } else { segment.len };
            let (gref, offset, flags) = (segment.gref.0, segment.offset, flags.bits());
            let request = TxRequest { gref, offset, flags, id, size };
            queue.tx.push(&request).expect("room in the ring");
            queue.sent.push_back((Some(id), None));
            if let (0, Some((gso_size, gso_type))) = (index, gso) {
                let kind = EXTRA_TYPE_GSO;
                let info = ExtraInfo { kind, gso_size, gso_type, ..ExtraInfo::default() };
                queue.tx.push(&info.to_tx()).expect("room in the ring");
                queue.sent.push_back((None, None));
            }
        }
        queue.sent.back_mut().expect("a slot").1 = Some(out);
        if queue.tx.publish() {
            self.domain.notify(&queue.ports[0]);
        }
    }

    /// Whether a queue takes a frame of one page.
    pub fn has_room(&self, queue: usize) -> bool {
        self.queues[queue].tx.free() > 0
    }

    /// Takes answers, which come in the order of the requests.
    ///
    /// # Panics
    /// If they do not.
    pub fn reap(&mut self) {
        for queue in &mut self.queues {
            for _ in 0..queue.tx.pending().expect("a possible index") {
                let response = queue.tx.pop();
                let (id, out) = queue.sent.pop_front().expect("a request");
                match id {
                    Some(id) => {
                        assert_eq!(response.id, id, "answers come in order");
                        queue.refusing |= response.status < 0;
                    }
                    None => assert_eq!(response.status, RSP_NULL),
                }
                // The grant is with the frame's last slot.
                if out.is_some() {
                    queue.refused += usize::from(std::mem::take(&mut queue.refusing));
                }
            }
        }
    }

    /// Slots that are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.queues.iter().map(|queue| queue.sent.len()).sum()
    }

    /// What has come, and the answers to what was sent. Buffers are not posted again.
    ///
    /// # Panics
    /// If responses are not at their requests' places.
    pub fn take(&mut self) -> Vec<Came> {
        self.reap();
        let mut frames = Vec::new();
        for index in 0..self.queues.len() {
            let queue = &mut self.queues[index];
            let mut left = queue.rx.pending().expect("a possible index");
            while left > 0 {
                let mut came =
                    Came { queue: index, bytes: vec![], flags: RxFlags::empty(), gso: None };
                let (mut more, mut first, mut whole) = (true, true, true);
                while more {
                    let (flags, bytes) = queue.slot();
                    left -= 1;
                    more = flags.contains(RxFlags::MORE_DATA);
                    whole &= bytes.is_some();
                    came.bytes.extend(bytes.unwrap_or_default());
                    if first && flags.contains(RxFlags::EXTRA_INFO) {
                        let info = queue.extra();
                        left -= 1;
                        came.gso = Some((info.gso_size, info.gso_type));
                    }
                    if first {
                        came.flags = flags;
                    }
                    first = false;
                }
                if whole {
                    frames.push(came);
                }
            }
        }
        frames
    }

    /// The ports that have fired, and may fire again.
    pub fn fired(&self) -> BTreeSet<PortId> {
        let mut fired = [PortId(0); 64];
        let count = self.domain.wait(&mut fired, Instant(0));
        for port in self.queues.iter().flat_map(|queue| &queue.ports) {
            self.domain.unmask(port);
        }
        fired[..count].iter().copied().collect()
    }

    /// The port that tells of a queue's received frames.
    pub fn rx_port(&self, queue: usize) -> PortId {
        self.domain.id(self.queues[queue].ports.last().expect("a port"))
    }

    /// Asks for an event at the next frame of each queue.
    pub fn ask(&mut self) {
        for queue in &mut self.queues {
            let _ = queue.rx.pending_or_ask();
        }
    }
}
