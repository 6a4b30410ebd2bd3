//! The connection to the driver domain: xenbus states and keys, as netif has them, and ours
//! beside them.
//!
//! The store is looked at as it is now, whatever an event was about: states of a former life that
//! are told late change nothing. It is looked at now and then without an event too, as long as
//! there is no connection.

mod device;
mod handshake;
mod table;

use xenvelope_grant::Peer;
use xenvelope_grant::ring::{Back, Front};
use xenvelope_grant::seam::{Access, Hypervisor, Instant, NicPort, Pinned, Shared};
use xenvelope_grant::xenbus::{PATH_MAX, Transaction, XenbusState, key};
use xenvelope_switch::channel::{EnvelopeChannel, LAYOUT, RING_PAGES, Slot};

use crate::counters::DropReason;
use crate::interface::{DriverDomain, Frontend, FrontendError, Link};
use crate::netfront::{NetifOffloads, NoFrame, PAGES, Receiver, Transmitter};
use device::{Device, WATCH_BACKEND, WATCH_FRONTEND};
use handshake::{Act, Handshake, LOOK_AGAIN, Step};

pub(crate) use device::Control;
pub(crate) use table::TableRefs;

/// Store events that are looked at in one turn.
const EVENTS: usize = 64;
/// Steps of the handshake in one turn.
const STEPS: usize = 8;
/// Shared pages (rings) that a backend may keep mapped after the connection has ended, before it
/// gets new ones: those of four connections.
const LINGERING: usize = 16;
/// Frames that it may keep in use after it has answered them: beyond, the connection ends, and
/// there is none before it lets go.
pub(crate) const PINNED: usize = 512;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Follows the store. Whether anything changed.
    pub(crate) fn poll_store(&mut self, now: Instant) -> bool {
        let (mut state, mut direct) = (false, false);
        let mut path = [0; PATH_MAX];
        // A batch: whoever writes the store without end must not keep us from frames.
        for _ in 0..EVENTS {
            let Some(event) = self.host.next(&mut path) else { break };
            match event.token {
                WATCH_BACKEND => {
                    let below = self.control.back.below(event.path);
                    let about_direct = below.is_some_and(|name| name.starts_with(key::DIRECT));
                    state |= !about_direct;
                    direct |= about_direct || below.is_none();
                }
                // Most of what is written there we write.
                WATCH_FRONTEND => {
                    let below = self.control.front.below(event.path);
                    state |= below.is_none_or(|name| [key::STATE, key::BACKEND].contains(&name));
                }
                _ => {}
            }
        }
        let busy = state || direct;
        if state || now >= self.control.look_at {
            direct |= self.follow(now);
        }
        if direct && self.config.envelopes && self.link == Link::Up {
            self.poll_direct();
        }
        busy
    }

    /// Looks at both sides' states and does what is to be done. Whether frames may flow now that
    /// could not before.
    fn follow(&mut self, now: Instant) -> bool {
        let was = self.link;
        // If the store does not answer, later.
        self.control.look_at = now + LOOK_AGAIN;
        if self.follow_states(now).is_err() {
            return false;
        }
        let Some(handshake) = &self.control.handshake else {
            self.link = Link::Closed;
            return false;
        };
        self.link = match handshake.step() {
            Step::Up => Link::Up,
            _ if !handshake.broken() => Link::Down,
            Step::Opening | Step::Asking => Link::Down,
            Step::Closing | Step::Closed | Step::Resting => Link::Closed,
        };
        self.control.look_at = handshake.look_at(now);
        if self.link == Link::Up {
            self.follow_table(now);
        }
        self.link == Link::Up && was != Link::Up
    }

    fn follow_states(&mut self, now: Instant) -> Result<(), FrontendError> {
        let ours = match self.control.device(&self.host)? {
            Device::Gone => {
                self.end();
                self.control.handshake = None;
                return Ok(());
            }
            Device::Moved => None,
            Device::There(ours) => Some(ours),
        };
        // Only the toolstack says Initialising when we are past it: it has made another device in
        // the place of ours.
        let same = self.control.handshake.as_ref().is_some_and(|handshake| {
            ours.is_some_and(|ours| {
                ours != XenbusState::Initialising || handshake.step() == Step::Opening
            })
        });
        if !same && self.control.left {
            return Ok(());
        }
        if !same {
            self.end();
            self.control.handshake = None;
            self.mac = self.control.reopen(&self.host)?;
            let Device::There(ours) = self.control.device(&self.host)? else { return Ok(()) };
            let theirs = self.control.seen(&self.host)?.theirs;
            let (handshake, act) = Handshake::new(ours, theirs, now);
            self.control.handshake = Some(handshake);
            if let Some(act) = act {
                self.act(act, now);
            }
        }
        for _ in 0..STEPS {
            let seen = self.control.seen(&self.host)?;
            let Some(handshake) = &mut self.control.handshake else { break };
            let Some(act) = handshake.advance(seen, now) else { break };
            self.act(act, now);
        }
        Ok(())
    }

    fn act(&mut self, act: Act, now: Instant) {
        match act {
            Act::Say(state) => self.tell_state(state),
            Act::Connect => {
                if self.connect().is_err() {
                    self.fail_at(now);
                }
            }
            Act::Begin => self.counters.connections += 1,
            Act::End(state) => {
                self.end();
                self.tell_state(state);
            }
        }
    }

    /// Makes rings and port, and tells the backend.
    fn connect(&mut self) -> Result<(), FrontendError> {
        // Nothing of an earlier life is left.
        self.end();
        self.control.tidy(&self.host)?;
        self.vf_told = false;
        let backend = self.control.backend;
        let kept = self.lingering.iter().filter(|(domid, _)| *domid == backend).count();
        if kept > LINGERING || self.pinned.len() > PINNED {
            return Err(FrontendError::Lingering(backend));
        }
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
            .write(&front, key::FEATURE_GSO_TCPV4, 1, reader)
            .write(&front, key::FEATURE_GSO_TCPV6, 1, reader)
            .write(&front, key::FEATURE_IPV6_CSUM_OFFLOAD, 1, reader);
        let offered = self.control.back.feature(&self.host, key::FEATURE_NIC_QUEUE);
        let nic_queue = if self.config.envelopes && offered {
            let ring = self.host.export(backend, 1, Access::Write)?;
            let area = self.host.receive_area(backend, PAGES)?;
            keys.write(&front, key::NIC_QUEUE_RING_REF, first_ref(&ring), reader);
            Some(Receiver::new(ring, area))
        } else {
            None
        };
        let channel = if envelopes {
            let send = self.host.export(backend, RING_PAGES, Access::Write)?;
            let receive = self.host.export(backend, RING_PAGES, Access::Write)?;
            keys.write(&front, key::FEATURE_ENVELOPE, 1, reader)
                .write(&front, key::FEATURE_TRANSITIVE, 1, reader)
                .refs(&front, key::ENVELOPE_TX_RING_REF, send.refs(), reader)
                .refs(&front, key::ENVELOPE_RX_RING_REF, receive.refs(), reader);
            let send = Front::new(send, LAYOUT);
            let receive = Front::<_, Slot, ()>::new(receive, LAYOUT).into_words();
            Some(EnvelopeChannel::new(send, Back::attach(receive, LAYOUT)))
        } else {
            None
        };
        let to = Peer { domid: backend, incarnation: 0 };
        let mut driver = DriverDomain {
            transmit: Transmitter::new(tx, to),
            receive: Receiver::new(rx, area),
            nic_queue,
            backlog: Default::default(),
            envelopes: channel,
            offloads: NetifOffloads::offered(&self.host, &self.control.back),
            port,
            kick: false,
        };
        let mut kick = false;
        for receiver in driver.receivers() {
            kick |= receiver.post();
        }
        driver.kick = kick;
        self.driver = Some(driver);
        keys.state(&front, XenbusState::Connected, reader).commit(&self.host)?;
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

    /// Says goodbye: the backend takes everything down and answers Closed. Nothing begins anew by
    /// itself after that.
    pub fn close(&mut self) {
        let now = self.now;
        self.end_run(now);
        self.control.left = true;
        if let Some(act) =
            self.control.handshake.as_mut().and_then(|handshake| handshake.leave(now))
        {
            self.act(act, now);
        }
        self.control.look_at = now;
    }

    /// The driver domain broke the protocol: the connection ends, it is told, and after a rest we
    /// begin anew.
    pub(crate) fn fail(&mut self) {
        self.fail_at(self.now);
    }

    /// Direct channels stay until the store is followed: who calls this may be looking at them.
    fn fail_at(&mut self, now: Instant) {
        self.disconnect();
        self.link = Link::Closed;
        let act = self.control.handshake.as_mut().and_then(|handshake| handshake.fail(now));
        if let Some(Act::Say(state)) = act {
            self.tell_state(state);
        }
        self.control.look_at = now;
    }

    /// Takes down all that the connection has.
    fn end(&mut self) {
        self.disconnect();
        self.close_direct(|_| false);
    }

    /// The driver domain broke the protocol, or closed: the connection ends, everything that was
    /// granted to it is taken back, and the other paths go on.
    pub(crate) fn disconnect(&mut self) {
        let Some(mut driver) = self.driver.take() else {
            return;
        };
        self.link = Link::Closed;
        self.table = None;
        for out in driver.transmit.abandon() {
            self.counters.drop_frames(DropReason::Refused, 1);
            if let Err(Pinned(out)) = self.host.revoke(out) {
                self.counters.pinned += 1;
                self.pinned.push(out);
            }
        }
        self.counters.drop_frames(DropReason::NoPath, driver.backlog.len() as u64);
        let lost = self.inbox.iter().filter(|received| received.in_area()).count();
        self.counters.drop_frames(DropReason::BadResponse, lost as u64);
        self.inbox.retain(|received| !received.in_area());
        let lost = self.flights.lose_area();
        self.counters.drop_frames(DropReason::BadResponse, lost as u64);
        for receiver in driver.receivers() {
            while let Ok(Some(came)) = receiver.receive(&self.host) {
                match came {
                    Err(NoFrame::Failed) => self.counters.failed_by_backend += 1,
                    _ => self.counters.drop_frames(DropReason::ChannelEnded, 1),
                }
            }
        }
        if let Some(envelopes) = &mut driver.envelopes {
            self.count_unread(envelopes);
            self.count_untaken(envelopes);
        }
        let backend = self.control.backend;
        self.take_back_pages(backend, driver.transmit.into_words());
        self.take_back_pages(backend, driver.receive.into_words());
        if let Some(queue) = driver.nic_queue {
            self.take_back_pages(backend, queue.into_words());
        }
        if let Some(envelopes) = driver.envelopes {
            let (send, receive) = envelopes.into_words();
            self.take_back_pages(backend, send);
            self.take_back_pages(backend, receive);
        }
    }

    /// What the store does not take now is said again when patience ends.
    fn tell_state(&self, state: XenbusState) {
        let mut keys = Transaction::new();
        let _ =
            keys.state(&self.control.front, state, Some(self.control.backend)).commit(&self.host);
    }
}

fn first_ref(pages: &impl Shared) -> u32 {
    pages.refs().first().map_or(0, |gref| gref.0)
}
