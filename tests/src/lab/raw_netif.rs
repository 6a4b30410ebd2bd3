//! A stock guest that writes its transmit requests by hand, and can rewrite what it has granted.

use std::sync::atomic::Ordering;

use xenvelope_grant::netif::{ExtraInfo, TxFlags, TxRequest, TxResponse};
use xenvelope_grant::seam::{Access, Events as _, Share as _, Shared as _};
use xenvelope_grant::xenbus::XenbusState;
use xenvelope_grant::{DomId, Gref, Words as _};
use xenvelope_hypervisor_sim::machine::SharedPages;
use xenvelope_switch::MacAddress;

use super::{Lab, StockGuest, StockPlan};

/// The guest.
pub struct RawGuest {
    /// The connection, of one queue.
    pub stock: StockGuest,
    pages: Vec<SharedPages>,
}

impl RawGuest {
    /// A guest that is connected.
    pub fn connect(lab: &mut Lab, mac: MacAddress) -> RawGuest {
        let stock = StockGuest::connect(lab, mac, &StockPlan::default());
        RawGuest { stock, pages: Vec::new() }
    }

    /// A page that begins with these bytes, which the driver domain may read.
    ///
    /// # Panics
    /// If there is no memory, or they do not fit.
    pub fn page(&mut self, bytes: &[u8]) -> Gref {
        let pages = self.stock.domain.export(DomId::DOM0, 1, Access::Read).expect("memory");
        let gref = pages.refs()[0];
        write(&pages, bytes);
        self.pages.push(pages);
        gref
    }

    /// What rewrites the beginning of the page that was made last, at any time.
    ///
    /// # Panics
    /// If there is none.
    pub fn rewriter(&mut self) -> impl Fn(&[u8]) + use<> {
        let page = self.pages.pop().expect("a page");
        move |bytes| write(&page, bytes)
    }

    /// Puts a slot in.
    ///
    /// # Panics
    /// If the ring is full.
    pub fn push(&mut self, slot: TxRequest) {
        self.stock.queues[0].tx.push(&slot).expect("room in the ring");
    }

    /// Writes a slot behind the last one that was put in, which is never published.
    pub fn write_ahead(&mut self, slot: TxRequest) {
        let tx = &self.stock.queues[0].tx;
        // `netif_tx_request_t`: 256 of 12 bytes, after 64 bytes of indices.
        let at = 64 + tx.next_index() as usize % 256 * 12;
        tx.words().store_u32(at, slot.gref, Ordering::Relaxed);
        for (place, value) in [(4, slot.offset), (6, slot.flags), (8, slot.id), (10, slot.size)] {
            tx.words().store_u16(at + place, value, Ordering::Relaxed);
        }
    }

    /// Puts an extra info in.
    ///
    /// # Panics
    /// If the ring is full.
    pub fn push_extra(&mut self, info: ExtraInfo) {
        self.push(info.to_tx());
    }

    /// A frame in pieces `(reference, offset, size)`: the first slot says `total`, whatever the
    /// others add up to. Ids count up from `id`.
    ///
    /// # Panics
    /// If the ring is full.
    pub fn chain(&mut self, id: u16, total: u16, pieces: &[(Gref, u16, u16)]) {
        for (index, (gref, offset, size)) in pieces.iter().enumerate() {
            let mut flags = TxFlags::empty();
            flags.set(TxFlags::MORE_DATA, index + 1 < pieces.len());
            let size = if index == 0 { total } else { *size };
            let (gref, offset, flags) = (gref.0, *offset, flags.bits());
            self.push(TxRequest { gref, offset, flags, id: id + index as u16, size });
        }
    }

    /// Publishes what was put in, and tells.
    pub fn publish(&mut self) {
        let _ = self.stock.queues[0].tx.publish();
        self.knock();
    }

    /// Sends an event by each of its ports.
    pub fn knock(&self) {
        for port in self.stock.queues.iter().flat_map(|queue| &queue.ports) {
            self.stock.domain.notify(port);
        }
    }

    /// The answers that have come.
    ///
    /// # Panics
    /// If the index cannot be.
    pub fn answers(&mut self) -> Vec<TxResponse> {
        let tx = &mut self.stock.queues[0].tx;
        (0..tx.pending().expect("a possible index")).map(|_| tx.pop()).collect()
    }

    /// Whether the driver domain has closed its interface.
    pub fn is_closed(&self) -> bool {
        matches!(self.stock.backend(), XenbusState::Closing | XenbusState::Closed)
    }

    /// Its id.
    pub fn domid(&self) -> DomId {
        use xenvelope_grant::seam::Host as _;
        self.stock.domain.domid()
    }

    /// Publishes this index as that of its requests, without any request.
    pub fn claim(words: &SharedPages, index: u32) {
        words.store_u32(0, index, Ordering::SeqCst);
    }
}

fn write(page: &SharedPages, bytes: &[u8]) {
    let mut whole = bytes.to_vec();
    whole.resize(bytes.len().next_multiple_of(4), 0);
    page.copy_in(0, &whole);
}
