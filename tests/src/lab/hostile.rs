//! A guest without a frontend: it shakes hands like one, and then writes what it likes.

use std::sync::atomic::Ordering;

use xenvelope_grant::netif::{RxRequest, RxResponse, TxFlags, TxRequest, TxResponse};
use xenvelope_grant::ring::{Back, Front, RingLayout};
use xenvelope_grant::seam::{
    Access, Buffer, Events, Granter, Host as _, ReceiveArea, Share, Shared,
};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_grant::{DomId, Gref, Peer, Words};
use xenvelope_hypervisor_sim::machine::{Domain, GrantedBuffer, PageArea, Port, SharedPages};
use xenvelope_switch::channel::{LAYOUT, RING_PAGES, Slot};
use xenvelope_switch::table::TableReader;
use xenvelope_switch::{MAX_ENVELOPE, MacAddress};

use super::Lab;

/// The layout of netif's transmit ring.
pub const TX_LAYOUT: RingLayout = RingLayout::one_page::<TxRequest, TxResponse>();
/// The layout of netif's receive ring.
pub const RX_LAYOUT: RingLayout = RingLayout::one_page::<RxRequest, RxResponse>();

/// The guest.
pub struct HostileGuest {
    /// The domain, for granting.
    pub domain: Domain,
    /// Its address.
    pub mac: MacAddress,
    /// Its own directory in the store.
    pub front: Directory,
    /// The backend's.
    pub back: Directory,
    /// The ring of envelopes to the driver domain.
    pub send: Front<SharedPages, Slot, ()>,
    /// The ring of envelopes from the driver domain.
    pub receive: Back<SharedPages, Slot, ()>,
    /// netif's transmit ring.
    pub tx: Front<SharedPages, TxRequest, TxResponse>,
    /// netif's receive ring.
    pub rx: Front<SharedPages, RxRequest, RxResponse>,
    /// The pages behind it.
    pub area: PageArea,
    /// The ring by which it posts buffers to its queue of the card, if it was offered one, and
    /// the pages behind it.
    pub queue: Option<(Front<SharedPages, RxRequest, RxResponse>, PageArea)>,
    /// The port to the driver domain.
    pub port: Port,
    /// Its forwarding table, which it may ignore.
    pub table: Option<TableReader<SharedPages>>,
    /// What it granted for netif, until the test ends.
    granted: Vec<GrantedBuffer>,
}

/// Puts up to so many receive buffers into netif's ring, unpublished: the pages of `area`, each
/// in the slot of its number.
pub(super) fn push_buffers(
    rx: &mut Front<SharedPages, RxRequest, RxResponse>,
    area: &mut PageArea,
    count: u32,
) {
    for _ in 0..count {
        let page = rx.next_index() % 256;
        if rx.free() == 0 {
            break;
        }
        let Ok(gref) = area.open(page as usize) else { break };
        let _ = rx.push(&RxRequest { id: page as u16, pad: 0, gref: gref.0 });
    }
}

impl HostileGuest {
    /// Makes the guest and connects it. The guests of the lab go on meanwhile.
    ///
    /// # Panics
    /// If the driver domain does not connect it.
    pub fn connect(lab: &mut Lab, mac: MacAddress) -> HostileGuest {
        HostileGuest::connect_with(lab, mac, &[])
    }

    /// The same for one that says more of itself.
    ///
    /// # Panics
    /// As [`HostileGuest::connect`].
    pub fn connect_with(lab: &mut Lab, mac: MacAddress, keys: &[(&str, u64)]) -> HostileGuest {
        let domain = lab.machine.create_domain("hostile", 4096);
        super::make_vif(&lab.dom0, domain.domid(), mac);
        let guest = HostileGuest::shake_hands(lab, domain, mac, keys);
        lab.steps(10);
        guest
    }

    /// The handshake from Initialising on, by a domain that may have been connected before.
    ///
    /// # Panics
    /// As [`HostileGuest::connect`].
    pub fn shake_hands(
        lab: &mut Lab,
        domain: Domain,
        mac: MacAddress,
        more: &[(&str, u64)],
    ) -> HostileGuest {
        let guest = domain.domid();
        let front = Directory::new(&format!("/local/domain/{guest}/device/vif/0")).expect("path");
        let back = Directory::new(&format!("/local/domain/0/backend/vif/{guest}/0")).expect("path");
        lab.run_until("the backend's InitWait", |_| back.state(&domain) == XenbusState::InitWait);
        let backend = DomId::DOM0;
        let export = |pages| domain.export(backend, pages, Access::Write).expect("memory");
        let (tx, rx, send, receive) =
            (export(1), export(1), export(RING_PAGES), export(RING_PAGES));
        let port = domain.listen(backend).expect("a port");
        let area = domain.receive_area(backend, 256).expect("memory");
        let reader = Some(backend);
        let mut keys = Transaction::new();
        keys.write(&front, key::TX_RING_REF, tx.refs()[0].0, reader)
            .write(&front, key::RX_RING_REF, rx.refs()[0].0, reader)
            .write(&front, key::EVENT_CHANNEL, domain.id(&port).0, reader)
            .write(&front, key::REQUEST_RX_COPY, 1, reader)
            .write(&front, key::FEATURE_SG, 1, reader)
            .write(&front, key::FEATURE_ENVELOPE, 1, reader)
            .refs(&front, key::ENVELOPE_TX_RING_REF, send.refs(), reader)
            .refs(&front, key::ENVELOPE_RX_RING_REF, receive.refs(), reader)
            .state(&front, XenbusState::Connected, reader);
        let queue = back.feature(&domain, key::FEATURE_NIC_QUEUE).then(|| {
            let ring = export(1);
            keys.write(&front, key::NIC_QUEUE_RING_REF, ring.refs()[0].0, reader);
            let area = domain.receive_area(backend, 256).expect("memory");
            (Front::new(ring, RX_LAYOUT), area)
        });
        for (name, value) in more {
            keys.write(&front, name, value, reader);
        }
        let (tx, rx) = (Front::new(tx, TX_LAYOUT), Front::new(rx, RX_LAYOUT));
        let send = Front::new(send, LAYOUT);
        let receive = Front::<_, Slot, ()>::new(receive, LAYOUT).into_words();
        keys.commit(&domain).expect("its own directory");
        lab.run_until("the backend's Connected", |_| back.state(&domain) == XenbusState::Connected);
        let pages = back.number(&domain, key::FORWARDING_TABLE_PAGES).unwrap_or(0) as usize;
        let refs = back.refs::<16>(&domain, key::FORWARDING_TABLE_REF, pages).expect("references");
        let words = domain.import(backend, &refs, Access::Read).expect("the table");
        let table = TableReader::attach(words).ok();
        let receive = Back::attach(receive, LAYOUT);
        let granted = Vec::new();
        let mut guest = HostileGuest {
            domain,
            mac,
            front,
            back,
            send,
            receive,
            tx,
            rx,
            area,
            queue,
            port,
            table,
            granted,
        };
        guest.post_buffers(200);
        guest
    }

    /// What the driver domain would let be granted to one peer: a page, filled, granted
    /// read-only. The reference and the granted buffer, which is granted as long as it lives.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn grant_page(&self, to: DomId, fill: &[u8]) -> GrantedBuffer {
        let mut buffer = self.domain.take(None, 4096).expect("memory");
        let bytes = buffer.stack_bytes_mut();
        bytes.fill(0);
        bytes[..fill.len()].copy_from_slice(fill);
        let peer = Peer { domid: to, incarnation: 0 };
        self.domain.grant(buffer, peer, 0..4096, Access::Read).expect("a reference")
    }

    /// Puts bytes into the next slot of the envelope ring, whatever they are, and publishes.
    pub fn push_envelope(&mut self, bytes: &[u8]) {
        let mut slot = Slot([0; MAX_ENVELOPE]);
        let length = bytes.len().min(MAX_ENVELOPE);
        slot.0[..length].copy_from_slice(&bytes[..length]);
        if self.send.free() == 0
            && let Ok(emptied) = self.send.pending()
        {
            self.send.discard(emptied);
        }
        let _ = self.send.push(&slot);
        let _ = self.send.publish();
    }

    /// The envelopes that have come.
    pub fn envelopes(&mut self) -> Vec<[u8; MAX_ENVELOPE]> {
        let count = self.receive.pending().unwrap_or(0);
        let slots = (0..count).map(|_| self.receive.pop().0).collect();
        self.receive.release_all();
        let _ = self.receive.publish();
        slots
    }

    /// Sends a frame by netif, of at most a page.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn send_netif(&mut self, frame: &[u8]) {
        let out = self.grant_page(DomId::DOM0, frame);
        let gref = self.domain.segments(&out)[0].gref.0;
        self.granted.push(out);
        let size = frame.len() as u16;
        let flags = TxFlags::empty().bits();
        let _ = self.tx.push(&TxRequest { gref, offset: 0, flags, id: 0, size });
        let _ = self.tx.publish();
    }

    /// Posts receive buffers.
    pub fn post_buffers(&mut self, count: u32) {
        push_buffers(&mut self.rx, &mut self.area, count);
        let _ = self.rx.publish();
    }

    /// What has come by netif: frames of one page.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for _ in 0..self.rx.pending().unwrap_or(0) {
            let response = self.rx.pop();
            let page = usize::from(response.id) % 256;
            let _ = self.area.close(page);
            let length = usize::try_from(response.status).unwrap_or(0);
            let at = page * 4096 + usize::from(response.offset);
            frames.extend(self.area.stack_bytes(at..at + length).map(<[u8]>::to_vec));
        }
        frames
    }

    /// Publishes an index that cannot be, in the given ring.
    pub fn overrun(words: &SharedPages, at: usize) {
        words.store_u32(at, 0x4000_0000, Ordering::SeqCst);
    }

    /// Whether the driver domain has closed its interface.
    pub fn is_closed(&self) -> bool {
        matches!(self.back.state(&self.domain), XenbusState::Closing | XenbusState::Closed)
    }

    /// Tries to copy out of a page that `owner` may have granted, `length` bytes at `offset`.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn steal(&self, owner: DomId, gref: Gref, offset: u16, length: u16) -> Option<Vec<u8>> {
        steal(&self.domain, owner, gref, offset, length)
    }
}

/// Tries to copy out of a page that `owner` may have granted to `thief`.
///
/// # Panics
/// If there is no memory.
pub fn steal(
    thief: &Domain,
    owner: DomId,
    gref: Gref,
    offset: u16,
    length: u16,
) -> Option<Vec<u8>> {
    use xenvelope_grant::seam::{Copier, CopyOp, End};
    let buffer = thief.take(None, 4096).expect("memory");
    let src = End::Foreign { dom: owner, gref, offset };
    let dst = End::Local { buffer: 0, offset: 0 };
    let mut ops = [CopyOp::new(src, dst, length)];
    let mut buffers = [buffer];
    thief.copy(&mut ops, &mut buffers).ok()?;
    ops[0].status.check().ok()?;
    Some(buffers[0].stack_bytes()[..usize::from(length)].to_vec())
}
