//! The host of one run: what it is made of, and how its parts begin.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use xenvelope_backend::{Backend, Config as BackendConfig, Member, PairRoute};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Host as _, Store as _};
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
use super::trace::Trace;
use super::traffic::Frames;
use crate::lab::{Random, mac, make_vif};

/// The backend of a run.
pub type SimBackend = Backend<SimHost, SimPort, CardAgent>;

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
    /// It does not fall asleep before.
    pub(super) card_awake_until: u64,
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
    /// Turns in a row in which nobody did anything.
    pub(super) fruitless: usize,
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
            card_awake_until: 0,
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
        if self.plan.routes.contains(&PairRoute::BridgeReceiverCopy) {
            ledger.twice = ledger.drops.get(&("frontend", "refused")).copied().unwrap_or(0);
        }
        ledger
    }

    /// Steps so far: events delivered, and polls of frontends and the backend.
    pub fn steps(&self) -> u64 {
        let polls = self.polls;
        polls.frontends + polls.stock + polls.backend + self.shared.events.get()
    }
}

/// The address of a guest.
pub(super) fn address(guest: u8) -> MacAddress {
    mac(usize::from(guest))
}
