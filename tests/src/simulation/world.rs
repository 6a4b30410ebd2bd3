//! The host of one run, and who does what next.
//!
//! Nobody sleeps and nobody runs beside another: a turn of one at a time, chosen by the seed. A
//! driver that has nothing to do says until when it wants to sleep, as on any host; an event, or
//! that time, wakes it. When all sleep, time goes on to when the first one wakes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use xenvelope_backend::{Backend, Config as BackendConfig, Member, PairRoute};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Host as _, Instant, Store as _};
use xenvelope_hypervisor_sim::host::CardAgent;
use xenvelope_hypervisor_sim::machine::{Costs, Domain, DomainOptions, Machine};
use xenvelope_hypervisor_sim::nic::{CardPort, Nic, NicConfig};
use xenvelope_switch::MacAddress;

use super::deliveries::Deliveries;
use super::faults::{Fault, Faults};
use super::guests::{Ours, Stock, Tenant};
use super::host::SimHost;
use super::ledger::Ledger;
use super::plan::Plan;
use super::port::SimPort;
use super::shared::{Life, Sabotage, Shared};
use super::trace::{Actor, Note, Trace};
use super::traffic::{ALL, Frames};
use crate::lab::{Random, mac, make_vif};

/// The backend of a run.
pub type SimBackend = Backend<SimHost, SimPort, CardAgent>;

/// A frame of traffic is for all, one time in so many.
const FLOODS: u64 = 64;
/// What a burst sends.
const BURST: u64 = 700;

/// How many polls there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Polls {
    /// Of frontends of ours.
    pub frontends: u64,
    /// Of stock guests.
    pub stock: u64,
    /// Of the backend.
    pub backend: u64,
    /// Of all these, those in which there was something to do.
    pub busy: u64,
    /// Turns of the card: no steps.
    pub card: u64,
    /// Batches that the copy engine copied: no steps.
    pub engine: u64,
}

/// The driver domain.
pub struct Driver {
    /// Its domain, which outlives its process.
    pub host: SimHost,
    /// Its process, while there is one.
    pub backend: Option<SimBackend>,
    /// How it is set up.
    config: BackendConfig,
    /// When the next one begins, if there is none.
    pub back_at: u64,
    pub(super) awake: bool,
    pub(super) asleep_until: u64,
}

/// The host.
pub struct World {
    /// What the seed says.
    pub plan: Plan,
    /// What everybody shares.
    pub shared: Rc<Shared>,
    /// The guests, by number.
    pub guests: Vec<Tenant>,
    /// The driver domain.
    pub driver: Driver,
    /// The card.
    pub nic: Arc<Nic>,
    /// The flows.
    pub deliveries: Deliveries,
    /// What those who are no more have counted.
    pub past: Ledger,
    /// Polls so far.
    pub polls: Polls,
    pub(super) card_at: u64,
    pub(super) card_asleep_until: u64,
    pub(super) schedule: Random,
    pub(super) traffic: Random,
    pub(super) traffic_on: bool,
    pub(super) quiet_until: u64,
    pub(super) births: u64,
    /// VFs by guest, and when those that are pulled are plugged again.
    pub(super) vfs: Vec<Option<usize>>,
    pub(super) plug_at: BTreeMap<usize, u64>,
    /// What the manager was asked for: the next one is asked for it too.
    pub(super) routes: BTreeMap<(u8, u8), PairRoute>,
    pub(super) all_routes: PairRoute,
    pub(super) parted: BTreeMap<u8, bool>,
    fruitless: usize,
}

impl World {
    /// The host that a plan describes. Faults that are `without` do not happen.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn new(plan: Plan, without: &[Fault], keep: usize, sabotage: Option<Sabotage>) -> World {
        let seed = plan.seed;
        let machine = Machine::new(Costs::ideal());
        if plan.engine {
            machine.start_engine_by_hand();
        }
        let faults = Faults::new(seed, &plan.rates);
        without.iter().for_each(|fault| faults.disable(*fault));
        let random = Random(seed ^ 0x7261_6E64);
        let trace = Trace::keeping(keep);
        let shared = Rc::new(Shared::new(
            Arc::clone(&machine),
            faults,
            trace,
            random,
            plan.engine,
            sabotage,
        ));
        let options = DomainOptions {
            grant_version: plan.driver_version,
            ..DomainOptions::new("driver-domain", 16384)
        };
        let dom0 = machine.create(&options).expect("a domain");
        let config = NicConfig {
            anti_spoof: plan.anti_spoof,
            tx_ring: plan.rings.0,
            rx_ring: plan.rings.1,
            ..NicConfig::default()
        };
        let nic = Nic::new(config).expect("a card");
        let frames = Frames { seed, lengths: plan.lengths };
        let mut traffic = Random(seed ^ 0x7472_6166);
        let all_routes = traffic.pick(&plan.routes);
        let driver = Driver {
            host: SimHost::new(dom0, &shared),
            backend: None,
            config: BackendConfig { epoch: 0, ..BackendConfig::default() },
            back_at: 0,
            awake: true,
            asleep_until: 0,
        };
        let mut world = World {
            deliveries: Deliveries::new(frames, plan.strict_order),
            vfs: vec![None; plan.guests.len()],
            plan,
            shared,
            guests: Vec::new(),
            driver,
            nic,
            past: Ledger::default(),
            polls: Polls::default(),
            card_at: 0,
            card_asleep_until: 0,
            schedule: Random(seed ^ 0x7363_6865),
            traffic,
            traffic_on: true,
            quiet_until: 0,
            births: 0,
            plug_at: BTreeMap::new(),
            routes: BTreeMap::new(),
            all_routes,
            parted: BTreeMap::new(),
            fruitless: 0,
        };
        world.start_backend();
        for number in 0..world.plan.guests.len() {
            world.allocate_vf(number);
            let tenant = world.tenant(number, None);
            world.guests.push(tenant);
        }
        world
    }

    fn allocate_vf(&mut self, number: usize) {
        let plan = self.plan.guests[number];
        if plan.stock || !plan.vf {
            return;
        }
        let vf = self.nic.allocate_vf().expect("a VF is left");
        let control = self.nic.pf_control();
        control.set_vf_mac(vf, mac(number).0).expect("a free address");
        control.set_vf_floods(vf, control.switches()).expect("the VF");
        self.vfs[number] = Some(vf);
        // `allocate_vf` finds it free until somebody has it, which is at once.
    }

    /// A guest with that number, its interface made by the toolstack.
    pub(super) fn tenant(&mut self, number: usize, domid: Option<DomId>) -> Tenant {
        let plan = self.plan.guests[number];
        let options = DomainOptions {
            grant_version: plan.version,
            domid: domid.or_else(|| self.fresh_id()),
            grant_frames: plan.grant_frames,
            ..DomainOptions::new("guest", plan.pages)
        };
        let domain = self.shared.machine.create(&options).expect("a domain");
        self.births += 1;
        let life = Life { guest: number as u8, birth: self.births };
        self.shared.begins(domain.domid(), life);
        // Another peer: what was sent to who had the address before is of another flow.
        self.deliveries.excuse(number as u8);
        self.deliveries.excuse_sender(number as u8, self.plan.guests.len() as u8);
        make_vif(&self.driver.host.domain, domain.domid(), mac(number));
        if plan.stock {
            return Tenant::Stock(Box::new(Stock::new(number as u8, domain)));
        }
        Tenant::Ours(Box::new(self.agent(number, domain)))
    }

    /// Ids are given in turn: none that anybody had comes back by itself.
    fn fresh_id(&self) -> Option<DomId> {
        DomId::ordinary(self.births as u16 + 1)
    }

    /// A frontend in a domain, with the VF that is its.
    pub(super) fn agent(&mut self, number: usize, domain: Domain) -> Ours {
        let host = SimHost::new(domain, &self.shared);
        let port = self.vfs[number].and_then(|vf| {
            // One that is pulled is given to it when it is plugged again.
            let port = self.nic.assign(CardPort::Vf(vf), &host.domain).ok()?;
            Some((vf, SimPort::new(port, &host)))
        });
        Ours::new(number as u8, host, self.plan.config, port)
    }

    /// A process begins in the driver domain, and is told what the one before it was told.
    pub(super) fn start_backend(&mut self) {
        let driver = &mut self.driver;
        // The connection to the store was the dead process', and its watches.
        let mut path = [0; 256];
        if driver.config.epoch > 0 {
            for token in 0..1000 {
                driver.host.domain.unwatch(token);
            }
        }
        while driver.host.domain.next(&mut path).is_some() {}
        driver.host.forget_events();
        driver.config.epoch += 1;
        let uplink = self.nic.assign(CardPort::Pf, &driver.host.domain).expect("the PF");
        let uplink = SimPort::new(uplink, &driver.host);
        let card = CardAgent::new(&self.nic);
        let backend = Backend::new(driver.host.clone(), driver.config, Some(uplink), card);
        // Without memory it ends, and is started again as any service.
        driver.backend = backend.ok();
        driver.back_at = self.shared.now().0 + 10_000_000;
        driver.awake = true;
        self.ask_manager();
    }

    /// Tells the manager all that it was ever asked for.
    pub(super) fn ask_manager(&mut self) {
        let Some(backend) = &mut self.driver.backend else { return };
        let manager = backend.manager();
        manager.set_all_routes(self.all_routes);
        for ((one, other), route) in &self.routes {
            manager.set_route(address(*one), address(*other), *route);
        }
        for (guest, parted) in &self.parted {
            let networks = [u16::from(*parted)].into();
            manager.set_member(address(*guest), Member { networks, ..Member::default() });
        }
    }

    /// Frames that were counted so far, by all who count.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = self.past.clone();
        for guest in &self.guests {
            match guest {
                Tenant::Ours(ours) => {
                    ledger.frontend(ours.frontend.counters());
                    ledger.queued += ours.frontend.queued() as u64;
                }
                Tenant::Stock(stock) => ledger.stock(stock),
                Tenant::Gone { .. } => {}
            }
        }
        if let Some(backend) = &self.driver.backend {
            ledger.backend(backend.counters());
        }
        ledger.card(&self.nic);
        ledger.drop("faults", "lost", self.shared.lost.get());
        ledger.made += self.shared.made.get();
        ledger
    }

    /// Steps so far: events delivered, and polls of frontends and the backend.
    pub fn steps(&self) -> u64 {
        let polls = self.polls;
        polls.frontends + polls.stock + polls.backend + self.shared.events.get()
    }

    /// Somebody does something, or time goes on.
    pub fn go_on(&mut self) {
        self.shared.oracles.step.set(self.steps());
        if self.shared.faults.are_on() {
            self.accidents();
        }
        self.bury();
        self.come_back();
        if self.traffic_on && self.quiet_until <= self.shared.now().0 {
            self.talk();
        }
        let count = self.guests.len() as u64;
        let did = match self.schedule.below(count + 3) {
            guest if guest < count => self.guest_turn(guest as usize),
            which if which == count => self.backend_turn(),
            which if which == count + 1 => self.card_turn(),
            _ => self.engine_turn(),
        };
        if did {
            self.fruitless = 0;
            let ns = 200 + self.schedule.below(2000);
            self.shared.pass(ns);
            return;
        }
        self.fruitless += 1;
        if self.fruitless > 4 + count as usize {
            self.fruitless = 0;
            self.skip();
        }
    }

    fn guest_turn(&mut self, number: usize) -> bool {
        let now = self.shared.now().0;
        let linger = self.schedule.below(4) == 0;
        let deaf = self.shared.sabotage == Some(Sabotage::Deaf) && number == 0;
        match &mut self.guests[number] {
            Tenant::Ours(ours) if ours.asleep_until <= now && !deaf => {
                if !ours.awake && !ours.wakes() {
                    return false;
                }
                self.polls.frontends += 1;
                let busy = ours.turn(&mut self.deliveries, linger);
                self.polls.busy += u64::from(busy);
                self.look_at(number);
                true
            }
            Tenant::Stock(stock) if stock.asleep_until <= now && !deaf => {
                if !stock.wakes(&self.shared) {
                    return false;
                }
                self.polls.stock += 1;
                stock.turn(&self.shared, &mut self.deliveries);
                if stock.wants_device(now) {
                    self.make_device_anew(number);
                }
                true
            }
            _ => false,
        }
    }

    fn backend_turn(&mut self) -> bool {
        let Driver { host, backend, awake, asleep_until, .. } = &mut self.driver;
        let now = self.shared.now();
        let Some(backend) = backend.as_mut().filter(|_| *asleep_until <= now.0) else {
            return false;
        };
        if !*awake {
            let events = host.deliver();
            if events > 0 {
                self.shared.note(Note::Events(Actor::Backend, events));
                *awake |= !self.shared.hit(Fault::EventLate, u64::from(events));
            }
            *awake |= host.sleep.until.get().is_some_and(|until| until <= now)
                || host.store_due().is_some_and(|due| due <= now.0)
                || backend.uplink().and_then(SimPort::due).is_some_and(|due| due <= now.0);
            if !*awake {
                return false;
            }
        }
        host.sleep.until.set(None);
        let busy = backend.poll(now);
        if !busy || self.schedule.below(4) == 0 {
            backend.wait(Instant::FAR_FUTURE);
            *awake = host.sleep.until.get().is_none();
        }
        self.polls.backend += 1;
        self.polls.busy += u64::from(busy);
        self.shared.note(Note::Poll(Actor::Backend, busy));
        self.look_at_backend();
        true
    }

    fn card_turn(&mut self) -> bool {
        let now = self.shared.now();
        if self.card_asleep_until > now.0 || (self.card_at > now.0 && !self.nic.rung()) {
            return false;
        }
        self.card_at = self.nic.run(now).map_or(u64::MAX, |next| next.0);
        self.polls.card += 1;
        true
    }

    fn engine_turn(&mut self) -> bool {
        let did = self.shared.machine.step_engine();
        if did {
            self.polls.engine += 1;
            // The engine's end wakes whoever waits for it.
            for guest in &mut self.guests {
                if let Tenant::Ours(ours) = guest {
                    ours.awake |= ours.host.sleep.underway.get() > 0;
                }
            }
            self.driver.awake |= self.driver.host.sleep.underway.get() > 0;
        }
        did
    }

    /// Nobody has anything to do: time goes on to when somebody has.
    fn skip(&mut self) {
        let now = self.shared.now().0;
        for guest in &mut self.guests {
            if let Tenant::Ours(ours) = guest
                && ours.asleep_until <= now
                && (ours.awake || ours.wakes())
            {
                return;
            }
        }
        let mut next = now + 500_000_000;
        for guest in &self.guests {
            let due = match guest {
                Tenant::Ours(ours) => ours.due(),
                Tenant::Stock(stock) => stock.due(),
                Tenant::Gone { clean_at, back_at, .. } => clean_at.unwrap_or(*back_at),
            };
            next = next.min(due.max(now));
        }
        next = next.min(self.driver_due().max(now));
        next = next.min(self.card_at.max(self.card_asleep_until).max(now));
        if self.nic.rung() {
            next = next.min(self.card_asleep_until.max(now));
        }
        if let Some(plug) = self.plug_at.values().min() {
            next = next.min((*plug).max(now));
        }
        if self.traffic_on {
            // Stacks send without being woken.
            let pause = self.traffic.below(2_000_000);
            next = next.min(now.max(self.quiet_until) + pause);
        }
        self.shared.pass(next - now);
    }

    fn driver_due(&self) -> u64 {
        let Driver { host, backend, awake, asleep_until, back_at, .. } = &self.driver;
        let Some(backend) = backend else { return *back_at };
        if *awake {
            return *asleep_until;
        }
        let times = [
            host.sleep.until.get().map(|until| until.0),
            host.store_due(),
            backend.uplink().and_then(SimPort::due),
        ];
        times.into_iter().flatten().min().unwrap_or(u64::MAX).max(*asleep_until)
    }

    /// A stack may send something.
    fn talk(&mut self) {
        if self.traffic.below(self.plan.pace) != 0 {
            return;
        }
        let burst = self.shared.hit(Fault::Burst, 0);
        let from = self.traffic.below(self.guests.len() as u64) as u8;
        let count = if burst { BURST } else { 1 + self.traffic.below(4) };
        let to = self.somebody_but(from);
        for _ in 0..count {
            if !self.send(from, to) {
                return;
            }
        }
    }

    fn somebody_but(&mut self, from: u8) -> u8 {
        if self.traffic.below(FLOODS) == 0 {
            return ALL;
        }
        let others = self.guests.len() as u64 - 1;
        let to = self.traffic.below(others) as u8;
        if to >= from { to + 1 } else { to }
    }

    fn send(&mut self, from: u8, to: u8) -> bool {
        let Some((number, length)) = self.deliveries.next(from, to) else { return false };
        self.send_this(from, to, number, length)
    }

    /// Has a stack send a frame. Whether it could.
    pub(super) fn send_this(&mut self, from: u8, to: u8, number: u32, length: usize) -> bool {
        let sent = match &mut self.guests[usize::from(from)] {
            Tenant::Ours(ours) => ours.send(&mut self.deliveries, to, number, length),
            Tenant::Stock(stock) => stock.send(&mut self.deliveries, to, number, length),
            Tenant::Gone { .. } => false,
        };
        if sent {
            self.shared.note(Note::Sent(from, to, number, length as u32));
        }
        sent
    }
}

/// The address of a guest.
pub(super) fn address(guest: u8) -> MacAddress {
    mac(usize::from(guest))
}
