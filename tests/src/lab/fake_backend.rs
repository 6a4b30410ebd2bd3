//! A driver domain without a backend: it shakes hands like one, and then writes what it likes.

use std::cell::RefCell;
use std::rc::Rc;

use xenvelope_frontend::{Config, Link};
use xenvelope_grant::netif::{RxRequest, RxResponse, TxRequest, TxResponse};
use xenvelope_grant::ring::{Back, Front};
use xenvelope_grant::seam::{
    Access, Buffer as _, Copier as _, CopyOp, End, Events, Granter as _, Host as _, Instant, Share,
    Shared,
};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_grant::{DomId, Gref};
use xenvelope_hypervisor_sim::machine::{
    Costs, Domain, DomainOptions, GrantVersion, Machine, Port, SharedPages,
};
use xenvelope_switch::MAX_ENVELOPE;
use xenvelope_switch::channel::{LAYOUT, RING_PAGES, Slot};
use xenvelope_switch::table::TableWriter;

use super::hostile::{RX_LAYOUT, TX_LAYOUT, steal};
use super::{LabGuest, STEP_NS, lab_guest, mac, make_vif};

/// The driver domain, with one guest.
pub struct FakeBackend {
    /// The guest, which is served by it.
    pub guest: LabGuest,
    /// The guest's forwarding table.
    pub table: Rc<RefCell<TableWriter<SharedPages>>>,
    /// Envelopes to the guest.
    pub send: Front<SharedPages, Slot, ()>,
    /// Envelopes from the guest.
    pub receive: Back<SharedPages, Slot, ()>,
    /// netif's transmit ring.
    pub tx: Back<SharedPages, TxRequest, TxResponse>,
    /// netif's receive ring.
    pub rx: Back<SharedPages, RxRequest, RxResponse>,
    /// The port.
    pub port: Port,
    /// The driver domain.
    pub dom0: Domain,
    /// The machine.
    pub machine: std::sync::Arc<Machine>,
    /// The time.
    pub now: Instant,
    /// The guest's directory in the store.
    pub front: Directory,
    /// The driver domain's.
    pub back: Directory,
}

impl FakeBackend {
    /// A driver domain and a guest, connected, with an empty table.
    ///
    /// # Panics
    /// If they do not connect.
    pub fn new(config: Config, version: GrantVersion) -> FakeBackend {
        FakeBackend::offering(config, version, &[key::FEATURE_SG])
    }

    /// As [`FakeBackend::new`]; the driver domain offers these features of netif.
    ///
    /// # Panics
    /// If they do not connect.
    pub fn offering(config: Config, version: GrantVersion, features: &[&str]) -> FakeBackend {
        let machine = Machine::new(Costs::ideal());
        let dom0 = machine.create_domain("fake", 4096);
        let options =
            DomainOptions { grant_version: version, ..DomainOptions::new("victim", 8192) };
        let domain = machine.create(&options).expect("a domain");
        let id = domain.domid();
        make_vif(&dom0, id, mac(0));
        let front = Directory::new(&format!("/local/domain/{id}/device/vif/0")).expect("a path");
        let back = Directory::new(&format!("backend/vif/{id}/0")).expect("a path");
        let mut guest = lab_guest(domain, mac(0), config, None);
        let reader = Some(id);
        let mut keys = Transaction::new();
        for feature in features {
            keys.write(&back, feature, 1, reader);
        }
        keys.write(&back, key::FEATURE_RX_COPY, 1, reader)
            .write(&back, key::FEATURE_ENVELOPE, 1, reader)
            .write(&back, key::DIRECT, "", reader)
            .state(&back, XenbusState::InitWait, reader)
            .commit(&dom0)
            .expect("its own directory");
        let now = Instant(1_000_000);
        guest.turn(now);
        let one = |name| Gref(front.word(&dom0, name).expect("a reference"));
        let many = |name| front.refs::<RING_PAGES>(&dom0, name, RING_PAGES).expect("references");
        let import = |refs: &[Gref]| dom0.import(id, refs, Access::Write).expect("pages");
        let tx = Back::attach(import(&[one(key::TX_RING_REF)]), TX_LAYOUT);
        let rx = Back::attach(import(&[one(key::RX_RING_REF)]), RX_LAYOUT);
        let send = Front::attach(import(&many(key::ENVELOPE_RX_RING_REF)), LAYOUT);
        let receive = Back::attach(import(&many(key::ENVELOPE_TX_RING_REF)), LAYOUT);
        let port = front.word(&dom0, key::EVENT_CHANNEL).expect("a port");
        let port = dom0.connect(id, port).expect("a port");
        let pages = dom0.export(id, 1, Access::Read).expect("memory");
        let mut keys = Transaction::new();
        keys.write(&back, key::FORWARDING_TABLE_PAGES, 1, reader)
            .refs(&back, key::FORWARDING_TABLE_REF, pages.refs(), reader)
            .state(&back, XenbusState::Connected, reader)
            .commit(&dom0)
            .expect("its own directory");
        let table = TableWriter::new(pages, 7, 1).expect("a table");
        guest.turn(now);
        assert_eq!(guest.frontend.link(), Link::Up);
        let table = Rc::new(RefCell::new(table));
        FakeBackend { guest, table, send, receive, tx, rx, port, dom0, machine, now, front, back }
    }

    /// The states that both sides have written.
    pub fn states(&self) -> (XenbusState, XenbusState) {
        (self.front.state(&self.dom0), self.back.state(&self.dom0))
    }

    /// Writes the driver domain's state.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn say(&self, state: XenbusState) {
        let mut keys = Transaction::new();
        keys.state(&self.back, state, Some(self.guest.domain.domid()))
            .commit(&self.dom0)
            .expect("its own directory");
    }

    /// Names these pages as the guest's forwarding table and says Connected, as a manager does
    /// that was restarted.
    ///
    /// # Panics
    /// If the store refuses.
    pub fn name_table(&self, refs: &[Gref]) {
        let reader = Some(self.guest.domain.domid());
        let mut keys = Transaction::new();
        keys.write(&self.back, key::FORWARDING_TABLE_PAGES, refs.len(), reader)
            .refs(&self.back, key::FORWARDING_TABLE_REF, refs, reader)
            .state(&self.back, XenbusState::Connected, reader)
            .commit(&self.dom0)
            .expect("its own directory");
    }

    /// Exports an empty table, and names it.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new_table(&mut self) {
        let guest = self.guest.domain.domid();
        let pages = self.dom0.export(guest, 1, Access::Read).expect("memory");
        self.name_table(pages.refs());
        let table = TableWriter::new(pages, 8, 2).expect("a table");
        self.table = Rc::new(RefCell::new(table));
    }

    /// Puts bytes where the guest's next receive buffer is, and answers the request.
    ///
    /// # Panics
    /// If they do not fit a page.
    pub fn answer(&mut self, offset: u16, bytes: &[u8], flags: u16) {
        let request = self.rx.pop();
        let mut buffer = self.dom0.take(None, 4096).expect("memory");
        buffer.put(0, bytes);
        let dom = self.guest.domain.domid();
        let dst = End::Foreign { dom, gref: Gref(request.gref), offset };
        let src = End::Local { buffer: 0, offset: 0 };
        let mut ops = [CopyOp::new(src, dst, bytes.len() as u16)];
        self.dom0.copy(&mut ops, &mut [buffer]).expect("the call");
        ops[0].status.check().expect("the guest let it in");
        let status = bytes.len() as i16;
        let _ = self.rx.push(&RxResponse { id: request.id, offset, flags, status });
    }

    /// The guest gets a turn.
    pub fn step(&mut self) {
        self.now = Instant(self.now.0 + STEP_NS);
        self.guest.turn(self.now);
    }

    /// So many milliseconds pass.
    pub fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now = Instant(self.now.0 + 10_000_000);
            self.guest.turn(self.now);
        }
    }

    /// The envelopes that the guest has sent.
    pub fn envelopes(&mut self) -> Vec<[u8; MAX_ENVELOPE]> {
        let count = self.receive.pending().unwrap_or(0);
        let slots = (0..count).map(|_| self.receive.pop().0).collect();
        self.receive.release_all();
        let _ = self.receive.publish();
        slots
    }

    /// Sends an envelope to the guest.
    pub fn push_envelope(&mut self, bytes: &[u8]) {
        let mut slot = Slot([0; MAX_ENVELOPE]);
        let length = bytes.len().min(MAX_ENVELOPE);
        slot.0[..length].copy_from_slice(&bytes[..length]);
        if let Ok(emptied) = self.send.pending() {
            self.send.discard(emptied);
        }
        let _ = self.send.push(&slot);
        let _ = self.send.publish();
    }

    /// How many frames the guest has sent by netif. They are answered.
    pub fn netif_frames(&mut self) -> u32 {
        let count = self.tx.pending().unwrap_or(0);
        for _ in 0..count {
            let request = self.tx.pop();
            let _ = self.tx.push(&TxResponse { id: request.id, status: 0 });
        }
        let _ = self.tx.publish();
        count
    }

    /// Another domain on the machine.
    pub fn other(&self, name: &str) -> Domain {
        self.machine.create_domain(name, 64)
    }

    /// The grants of the guest to `to`.
    pub fn grants(&self, to: DomId) -> Vec<Gref> {
        self.machine
            .scan_grants(self.guest.domain.domid())
            .into_iter()
            .filter(|(_, domid, _)| *domid == to)
            .map(|(gref, ..)| gref)
            .collect()
    }

    /// What `thief` gets when it copies out of a page of the guest's.
    pub fn steal(&self, thief: &Domain, gref: Gref, offset: u16, len: u16) -> Option<Vec<u8>> {
        steal(thief, self.guest.domain.domid(), gref, offset, len)
    }
}
