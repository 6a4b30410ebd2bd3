//! The guests: those with a frontend of ours, and those with a netfront as Linux has it.

use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_frontend::{Config, Frontend, Link};
use xenvelope_grant::netif::TxFlags;
use xenvelope_grant::seam::{Buffer as _, Host as _, Instant, Offload};
use xenvelope_grant::xenbus::{Directory, XenbusState};
use xenvelope_hypervisor_sim::machine::Domain;
use xenvelope_switch::MacAddress;

use super::deliveries::Deliveries;
use super::faults::Fault;
use super::host::SimHost;
use super::port::SimPort;
use super::shared::Shared;
use super::trace::{Actor, Note};
use crate::lab::{StockGuest, StockPlan, mac};

/// The frontend of a run.
pub type SimFrontend = Frontend<SimHost, SimPort>;

/// Longer than that between two turns, and what came meanwhile by netif may come after what came
/// by the card: `xenvelope_frontend`'s sender waits 2 ms for a receiver that is awake.
const AWAKE_NS: u64 = 1_000_000;
/// Frames that are built in one turn at most.
const TO_BUILD: usize = 64;
/// A stock guest looks at its rings so often, without an event too.
const STOCK_TICK_NS: u64 = 1_000_000;

/// A guest with a frontend of ours.
pub struct Ours {
    /// Its number.
    pub number: u8,
    /// Its domain.
    pub host: SimHost,
    /// Its interface.
    pub frontend: SimFrontend,
    /// Its VF, if it has one.
    pub vf: Option<usize>,
    /// It has something to do, or has not looked yet.
    pub awake: bool,
    /// Until then its processor does something else.
    pub asleep_until: u64,
    /// When it was last polled.
    pub polled_at: u64,
    /// Frames that it builds in its next turn: to whom, which, and how long.
    to_build: Vec<(u8, u32, usize)>,
}

impl Ours {
    /// A guest whose interface the toolstack has made.
    ///
    /// # Panics
    /// If the frontend cannot be made.
    pub fn new(number: u8, host: SimHost, config: Config, vf: Option<(usize, SimPort)>) -> Ours {
        let (vf, port) = vf.map_or((None, None), |(vf, port)| (Some(vf), Some(port)));
        let frontend = Frontend::new(host.clone(), config, port).expect("a frontend");
        let polled_at = host.shared.now().0;
        Ours {
            number,
            host,
            frontend,
            vf,
            awake: true,
            asleep_until: 0,
            polled_at,
            to_build: Vec::new(),
        }
    }

    /// Whether something wakes it now. Events that come are steps.
    pub fn wakes(&mut self) -> bool {
        let shared = self.host.shared.clone();
        let now = shared.now().0;
        let events = self.host.deliver();
        if events > 0 {
            shared.note(Note::Events(Actor::Guest(self.number), events));
            if !shared.hit(Fault::EventLate, u64::from(events)) {
                self.awake = true;
            }
        }
        let until = self.host.sleep.until.get().map_or(0, |until| until.0);
        let port_due = self.frontend.vf().and_then(SimPort::due);
        self.awake |= until <= now
            || self.host.store_due().is_some_and(|due| due <= now)
            || port_due.is_some_and(|due| due <= now)
            || shared.hit(Fault::EventSpurious, 0);
        self.awake
    }

    /// When time alone wakes it.
    pub fn due(&self) -> u64 {
        if self.awake {
            return self.asleep_until;
        }
        let times = [
            self.host.sleep.until.get().map(|until| until.0),
            self.host.store_due(),
            self.frontend.vf().and_then(SimPort::due),
        ];
        times.into_iter().flatten().min().unwrap_or(u64::MAX).max(self.asleep_until)
    }

    /// One turn. Whether there was anything to do.
    pub fn turn(&mut self, deliveries: &mut Deliveries, linger: bool) -> bool {
        let Ours { number, host, frontend, to_build, .. } = self;
        let shared = host.shared.clone();
        let now = shared.now();
        if now.0 - self.polled_at > AWAKE_NS {
            deliveries.excuse(*number);
        }
        self.polled_at = now.0;
        host.sleep.until.set(None);
        let mut busy = frontend.poll(now);
        if shared.hit(Fault::SlowStack, 0) {
            busy = true;
        } else {
            while frontend.receive(|bytes, _| deliveries.got(&shared, *number, bytes)).is_some() {}
        }
        for (to, frame, length) in to_build.drain(..) {
            let write = |bytes: &mut [u8]| deliveries.write(*number, to, frame, bytes);
            // Where there is no room or no buffer it was not sent, and nobody waits for it.
            let _ = frontend.send_built(length, Offload::default(), write);
        }
        busy |= frontend.flush(now);
        if !busy || linger {
            frontend.wait(Instant::FAR_FUTURE);
            self.awake = host.sleep.until.get().is_none();
        }
        shared.note(Note::Poll(Actor::Guest(*number), busy));
        busy
    }

    /// Stages a frame. Whether there was room and a buffer.
    pub fn send(
        &mut self,
        deliveries: &mut Deliveries,
        to: u8,
        number: u32,
        length: usize,
    ) -> bool {
        if !self.frontend.can_send() {
            return false;
        }
        self.awake = true;
        // Some are staged at once, others built in the guest's turn, and what comes after them.
        if self.to_build.len() < TO_BUILD && (number % 16 < 8 || !self.to_build.is_empty()) {
            self.to_build.push((to, number, length));
            deliveries.sent(self.number, to, number);
            return true;
        }
        if !self.to_build.is_empty() {
            return false;
        }
        let Some(mut buffer) = self.frontend.buffer(length) else { return false };
        let place = FRAME_AT..FRAME_AT + length;
        deliveries.write(self.number, to, number, &mut buffer.stack_bytes_mut()[place.clone()]);
        self.frontend.send(buffer, place, Offload::default());
        deliveries.sent(self.number, to, number);
        true
    }

    /// Whether its link is up.
    pub fn is_up(&self) -> bool {
        self.frontend.link() == Link::Up
    }
}

/// How far a stock guest is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Waiting,
    Said,
    Up,
    Closed(u64),
}

/// A guest with a netfront as Linux has it.
pub struct Stock {
    /// Its number.
    pub number: u8,
    /// The netfront.
    pub guest: StockGuest,
    phase: Phase,
    /// Until then its processor does something else.
    pub asleep_until: u64,
    tick_at: u64,
    /// Frames that its stack sent.
    pub sent: u64,
    /// Frames that its stack got.
    pub delivered: u64,
    refused: u64,
    /// Frames that ended with a connection, of whose fate nobody knows.
    pub unknown: u64,
}

impl Stock {
    /// A guest whose interface the toolstack has made.
    ///
    /// # Panics
    /// If the paths are none.
    pub fn new(number: u8, domain: Domain) -> Stock {
        let id = domain.domid();
        let front = Directory::new(&format!("/local/domain/{id}/device/vif/0")).expect("a path");
        let back = Directory::new(&format!("/local/domain/0/backend/vif/{id}/0")).expect("a path");
        let mac: MacAddress = mac(usize::from(number));
        let guest = StockGuest { domain, mac, front, back, queues: Vec::new() };
        let phase = Phase::Waiting;
        Stock {
            number,
            guest,
            phase,
            asleep_until: 0,
            tick_at: 0,
            sent: 0,
            delivered: 0,
            refused: 0,
            unknown: 0,
        }
    }

    /// Whether its link is up.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether the toolstack should make its device anew.
    pub fn wants_device(&self, now: u64) -> bool {
        matches!(self.phase, Phase::Closed(since) if since + 10_000_000 <= now)
    }

    /// The toolstack has.
    pub fn has_device(&mut self) {
        self.phase = Phase::Waiting;
    }

    /// When time alone wakes it.
    pub fn due(&self) -> u64 {
        self.tick_at.max(self.asleep_until)
    }

    /// Whether something wakes it now.
    pub fn wakes(&mut self, shared: &Shared) -> bool {
        let events = self.guest.fired().len() as u32;
        shared.events_taken(u64::from(events));
        if events > 0 {
            shared.note(Note::Events(Actor::Guest(self.number), events));
            if shared.hit(Fault::EventLate, u64::from(events)) {
                return false;
            }
        }
        events > 0 || self.tick_at <= shared.now().0
    }

    /// One turn.
    pub fn turn(&mut self, shared: &Shared, deliveries: &mut Deliveries) {
        let now = shared.now().0;
        self.tick_at = now + STOCK_TICK_NS;
        let theirs = self.guest.backend();
        let before = self.phase;
        self.phase = match (self.phase, theirs) {
            (Phase::Waiting, XenbusState::InitWait) => {
                self.guest.say_connected(&StockPlan::default());
                Phase::Said
            }
            (Phase::Said, XenbusState::Connected) => {
                self.guest.post_all(256);
                Phase::Up
            }
            (Phase::Said | Phase::Up, XenbusState::Closing | XenbusState::Closed) => {
                self.end();
                self.guest.say(XenbusState::Closed);
                Phase::Closed(now)
            }
            (phase, _) => phase,
        };
        let mut busy = self.phase != before;
        if self.phase == Phase::Up && !shared.hit(Fault::SlowStack, 1) {
            let came = self.guest.take();
            busy |= !came.is_empty();
            for came in came {
                self.delivered += 1;
                deliveries.got(shared, self.number, &came.bytes);
            }
            self.guest.post_all(256);
            self.guest.ask();
        }
        shared.note(Note::Poll(Actor::Guest(self.number), busy));
    }

    fn end(&mut self) {
        self.refused = self.refused();
        self.unknown += self.guest.unanswered() as u64;
        self.guest.queues.clear();
    }

    /// Sends a frame, if there is room.
    pub fn send(
        &mut self,
        deliveries: &mut Deliveries,
        to: u8,
        number: u32,
        length: usize,
    ) -> bool {
        let slots = length.div_ceil(4096) as u32 + 2;
        if self.phase != Phase::Up || self.guest.queues[0].tx.free() < slots {
            return false;
        }
        let mut bytes = vec![0; length];
        deliveries.write(self.number, to, number, &mut bytes);
        self.guest.send(0, &bytes, TxFlags::empty(), None);
        deliveries.sent(self.number, to, number);
        self.sent += 1;
        true
    }

    /// Frames that the backend refused.
    pub fn refused(&self) -> u64 {
        self.refused + self.guest.queues.iter().map(|queue| queue.refused as u64).sum::<u64>()
    }
}

/// Who has a guest's number.
pub enum Tenant {
    /// A guest with a frontend of ours.
    Ours(Box<Ours>),
    /// A guest with a stock netfront.
    Stock(Box<Stock>),
    /// Nobody: one has ended, and another one comes.
    Gone {
        /// When the toolstack removes what is left of the one.
        clean_at: Option<u64>,
        /// When the other one begins.
        back_at: u64,
        /// The id of the one.
        domid: xenvelope_grant::DomId,
        /// The other has the same id.
        same_id: bool,
    },
}

impl Tenant {
    /// Its domain, if there is one.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Tenant::Ours(ours) => Some(&ours.host.domain),
            Tenant::Stock(stock) => Some(&stock.guest.domain),
            Tenant::Gone { .. } => None,
        }
    }

    /// Whether its link is up.
    pub fn is_up(&self) -> bool {
        match self {
            Tenant::Ours(ours) => ours.is_up(),
            Tenant::Stock(stock) => stock.is_up(),
            Tenant::Gone { .. } => false,
        }
    }
}
