//! The connection to the driver domain: xenbus states and keys, as netif has them, and ours
//! beside them.

use xenvelope_grant::DomId;
use xenvelope_grant::Peer;
use xenvelope_grant::ring::{Back, Front};
use xenvelope_grant::seam::{Access, Hypervisor, Instant, NicPort, Shared, Store};
use xenvelope_grant::xenbus::{Directory, PATH_MAX, Transaction, XenbusState, key};
use xenvelope_switch::MacAddress;
use xenvelope_switch::channel::{EnvelopeChannel, LAYOUT, RING_PAGES, Slot};
use xenvelope_switch::table::TableReader;

use crate::interface::{DriverDomain, Frontend, FrontendError, Link, Table};
use crate::netfront::{PAGES, Receiver, Transmitter};

/// Watch token of the backend's directory.
const WATCH_BACKEND: u32 = 0x0ba0;
/// Store events that are looked at in one turn.
const EVENTS: usize = 64;
/// Most pages of a forwarding table.
const TABLE_PAGES_MAX: usize = 16;

/// The two directories of the device.
pub(crate) struct Control {
    pub front: Directory,
    pub back: Directory,
    pub backend: DomId,
}

impl Control {
    /// Finds the device that the toolstack made for us, and watches its backend.
    pub fn open<S: Store>(store: &S, handle: u32) -> Result<(Control, MacAddress), FrontendError> {
        let front = Directory::new("device/vif")?.child(handle)?;
        let backend = front.domid(store, key::BACKEND_ID)?;
        let back = Directory::new(&front.text(store, key::BACKEND)?)?;
        let mac = front.text(store, key::MAC)?.parse().map_err(|_| FrontendError::Mac)?;
        store.watch(back.path(), WATCH_BACKEND)?;
        Ok((Control { front, back, backend }, mac))
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Follows the backend's state. Whether anything changed.
    pub(crate) fn poll_store(&mut self, now: Instant) -> bool {
        let (mut state, mut direct) = (false, false);
        let mut path = [0; PATH_MAX];
        // A batch: whoever writes the store without end must not keep us from frames.
        for _ in 0..EVENTS {
            let Some(event) = self.host.next(&mut path) else { break };
            if event.token == WATCH_BACKEND {
                let below = self.control.back.below(event.path);
                let about_direct = below.is_some_and(|name| name.starts_with(key::DIRECT));
                state |= !about_direct;
                direct |= about_direct || below.is_none();
            }
        }
        if state && self.follow(now).is_err() {
            self.fail();
        }
        if direct && self.config.envelopes {
            self.poll_direct();
        }
        state || direct
    }

    fn follow(&mut self, now: Instant) -> Result<(), FrontendError> {
        let theirs = self.control.back.state(&self.host);
        let ours = self.control.front.state(&self.host);
        match theirs {
            // A frontend connects only from Initialising, as Linux's netfront.
            XenbusState::InitWait if ours == XenbusState::Initialising => self.connect()?,
            XenbusState::Connected if self.driver.is_some() && self.link == Link::Down => {
                self.attach_table(now)?;
                self.link = Link::Up;
            }
            // Asked to begin anew, we wait for InitWait: what the backend says of an earlier life
            // changes nothing.
            XenbusState::Closing | XenbusState::Closed if ours == XenbusState::Initialising => {
                self.disconnect();
                self.close_direct(|_| false);
            }
            XenbusState::Closing if ours != XenbusState::Closed => {
                self.disconnect();
                self.close_direct(|_| false);
                self.tell_state(XenbusState::Closed)?;
            }
            XenbusState::Closed | XenbusState::Unknown
                if self.driver.is_some() || ours == XenbusState::Closing =>
            {
                self.disconnect();
                self.close_direct(|_| false);
                self.tell_state(XenbusState::Closed)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes rings and port, and tells the backend.
    fn connect(&mut self) -> Result<(), FrontendError> {
        // Nothing of an earlier life is left.
        self.disconnect();
        self.close_direct(|_| false);
        self.vf_told = false;
        let backend = self.control.backend;
        let envelopes =
            self.config.envelopes && self.control.back.feature(&self.host, key::FEATURE_ENVELOPE);
        let tx = self.host.export(backend, 1, Access::Write)?;
        let rx = self.host.export(backend, 1, Access::Write)?;
        let port = self.host.listen(backend)?;
        let area = self.host.receive_area(backend, PAGES)?;
        let (front, reader) = (self.control.front, Some(backend));
        let mut keys = Transaction::new();
        keys.write(&front, key::TX_RING_REF, first_ref(&tx), reader)
            .write(&front, key::RX_RING_REF, first_ref(&rx), reader)
            .write(&front, key::EVENT_CHANNEL, self.host.id(&port).0, reader)
            .write(&front, key::REQUEST_RX_COPY, 1, reader)
            .write(&front, key::FEATURE_RX_NOTIFY, 1, reader)
            .write(&front, key::FEATURE_SG, 1, reader)
            .write(&front, key::FEATURE_GSO_TCPV4, 1, reader);
        let channel = if envelopes {
            let send = self.host.export(backend, RING_PAGES, Access::Write)?;
            let receive = self.host.export(backend, RING_PAGES, Access::Write)?;
            keys.write(&front, key::FEATURE_ENVELOPE, 1, reader)
                .refs(&front, key::ENVELOPE_TX_RING_REF, send.refs(), reader)
                .refs(&front, key::ENVELOPE_RX_RING_REF, receive.refs(), reader);
            let send = Front::new(send, LAYOUT);
            let receive = Front::<_, Slot, ()>::new(receive, LAYOUT).into_words();
            Some(EnvelopeChannel::new(send, Back::attach(receive, LAYOUT)))
        } else {
            None
        };
        let to = Peer { domid: backend, incarnation: 0 };
        let mut receive = Receiver::new(rx, area);
        let kick = receive.post();
        self.driver = Some(DriverDomain {
            transmit: Transmitter::new(tx, to),
            receive,
            backlog: Default::default(),
            envelopes: channel,
            port,
            kick,
        });
        keys.state(&front, XenbusState::Connected, reader).commit(&self.host)?;
        self.link = Link::Down;
        Ok(())
    }

    /// Maps the forwarding table that the manager keeps for us, if it does.
    fn attach_table(&mut self, now: Instant) -> Result<(), FrontendError> {
        let back = self.control.back;
        let Ok(pages) = back.number(&self.host, key::FORWARDING_TABLE_PAGES) else {
            return Ok(());
        };
        if !self.config.envelopes || pages == 0 || pages > TABLE_PAGES_MAX as u64 {
            return Ok(());
        }
        let refs =
            back.refs::<TABLE_PAGES_MAX>(&self.host, key::FORWARDING_TABLE_REF, pages as usize)?;
        let words = self.host.import(self.control.backend, &refs, Access::Read)?;
        let reader = TableReader::attach(words)?;
        let heartbeat = reader.heartbeat();
        self.table = Some(Table { reader, heartbeat, beat_at: now, fresh: true });
        Ok(())
    }

    /// Tells the manager whether the VF has a link: routes and the card's filters follow it.
    pub(crate) fn tell_vf(&mut self) {
        let up = self.vf_up();
        let mut keys = Transaction::new();
        keys.write(&self.control.front, key::VF_LINK, u8::from(up), Some(self.control.backend));
        if keys.commit(&self.host).is_ok() {
            self.vf_told = up;
        }
    }

    /// Says goodbye: the backend takes everything down and answers Closed.
    pub fn close(&mut self) -> Result<(), FrontendError> {
        self.tell_state(XenbusState::Closing)
    }

    /// The driver domain broke the protocol: the connection ends, and it is told.
    pub(crate) fn fail(&mut self) {
        self.disconnect();
        // If the store does not take it either, there is nobody to tell.
        let _ = self.tell_state(XenbusState::Closing);
    }

    fn tell_state(&self, state: XenbusState) -> Result<(), FrontendError> {
        let mut keys = Transaction::new();
        keys.state(&self.control.front, state, Some(self.control.backend)).commit(&self.host)?;
        Ok(())
    }
}

fn first_ref(pages: &impl Shared) -> u32 {
    pages.refs().first().map_or(0, |gref| gref.0)
}
