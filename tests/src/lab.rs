//! A host without threads: everybody is polled in turn, by a clock that the test moves. What
//! happens is the same each time, and a test can stop anybody at any point.

mod bystanders;
pub mod envelopes;
mod fake_backend;
mod frames;
mod guest;
mod hooked;
mod hostile;
mod random;
mod raw_netif;
mod restart;
mod shifting;
pub mod stock;
mod toolstack;

use std::sync::Arc;

use xenvelope_backend::{Backend, Manager, PairRoute};
use xenvelope_frontend::{Config, Link};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Host as _, Instant};
use xenvelope_hypervisor_sim::host::{CardAgent, VfHolder};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, DomainOptions, GrantVersion, Machine};
use xenvelope_hypervisor_sim::nic::{CardPort, DomainPort, Nic, NicConfig};
use xenvelope_switch::MacAddress;

pub use bystanders::Bystanders;
pub use fake_backend::FakeBackend;
pub use frames::{TEST_TYPE, frame, frame_tagged, numbered, numbers_from, payload, tcp_frame};
pub use guest::{GuestPlan, LabFrontend, LabGuest, lab_guest};
pub use hooked::{Hooked, Hooks, Uncopied};
pub use hostile::{HostileGuest, RX_LAYOUT, TX_LAYOUT, steal};
pub use random::{Random, seed};
pub use raw_netif::RawGuest;
pub use shifting::Shifting;
pub use stock::{StockGuest, StockPlan};
pub use toolstack::{make_vif, remove_vif};

/// The backend of the lab.
pub type LabBackend = Backend<Hooked, DomainPort, CardAgent>;

/// Every way that the frames of a pair can take.
pub const ROUTES: [PairRoute; 5] = [
    PairRoute::Bridge,
    PairRoute::Switch,
    PairRoute::Direct,
    PairRoute::NicFrame,
    PairRoute::NicEnvelope,
];

/// By how much a step moves the clock: 10 microseconds.
pub const STEP_NS: u64 = 10_000;
/// Pages of a guest.
const PAGES: usize = 8192;
/// Turns of the card in one step.
const CARD_TURNS: usize = 10_000;

/// The host.
pub struct Lab {
    /// Its guests, in the order in which they were made.
    pub guests: Vec<LabGuest>,
    /// The driver domain's backend.
    pub backend: LabBackend,
    /// How it is set up.
    pub backend_config: xenvelope_backend::Config,
    /// Faults and changes at chosen points of the backend's.
    pub backend_hooks: Hooks,
    /// The backend is not polled.
    pub backend_asleep: bool,
    /// The card does nothing.
    pub nic_asleep: bool,
    /// The driver domain, which is the toolstack too.
    pub dom0: Domain,
    /// The card.
    pub nic: Arc<Nic>,
    /// The machine.
    pub machine: Arc<Machine>,
    /// The time.
    pub now: Instant,
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new(true)
    }
}

impl Lab {
    /// A host without guests. With `anti_spoof` the card drops forged sources.
    pub fn new(anti_spoof: bool) -> Lab {
        Lab::configured(anti_spoof, xenvelope_backend::Config::default())
    }

    /// A host without guests, whose backend is set up so.
    pub fn configured(anti_spoof: bool, backend_config: xenvelope_backend::Config) -> Lab {
        let config = NicConfig { anti_spoof, ..NicConfig::default() };
        Lab::assembled(config, VfHolder::Guests, backend_config, GrantVersion::V2)
    }

    /// A host without guests, with such a card, but with short rings.
    pub fn with_card(
        nic: NicConfig,
        vfs_held_by: VfHolder,
        backend_config: xenvelope_backend::Config,
    ) -> Lab {
        Lab::assembled(nic, vfs_held_by, backend_config, GrantVersion::V2)
    }

    /// A host without guests, whose driver domain has a grant table of that version.
    pub fn with_driver_version(version: GrantVersion) -> Lab {
        let config = xenvelope_backend::Config::default();
        Lab::assembled(NicConfig::default(), VfHolder::Guests, config, version)
    }

    fn assembled(
        nic: NicConfig,
        vfs_held_by: VfHolder,
        backend_config: xenvelope_backend::Config,
        grant_version: GrantVersion,
    ) -> Lab {
        let machine = Machine::new(Costs::ideal());
        let options = DomainOptions { grant_version, ..DomainOptions::new("driver-domain", PAGES) };
        let dom0 = machine.create(&options).expect("a domain");
        let nic = Nic::new(NicConfig { tx_ring: 128, rx_ring: 256, ..nic }).expect("a card");
        let uplink = nic.assign(CardPort::Pf, &dom0).expect("the PF");
        let card = CardAgent::of(&nic, vfs_held_by, &dom0);
        let backend_hooks = Hooks::default();
        let host = Hooked::new(dom0.clone(), backend_hooks.clone());
        let backend = Backend::new(host, backend_config, Some(uplink), card).expect("a backend");
        Lab {
            guests: Vec::new(),
            backend,
            backend_config,
            backend_hooks,
            backend_asleep: false,
            nic_asleep: false,
            dom0,
            nic,
            machine,
            now: Instant(1_000_000),
        }
    }

    /// A host with guests that are all alike and connected. Guest `n` has the address
    /// [`mac`]`(n)`.
    pub fn with_guests(count: usize, plan: &GuestPlan) -> Lab {
        let mut lab = Lab::default();
        for _ in 0..count {
            lab.add_guest(plan);
        }
        lab.connect();
        lab
    }

    /// Makes a guest, which is not connected yet. Its number.
    pub fn add_guest(&mut self, plan: &GuestPlan) -> usize {
        let number = self.guests.len();
        let address = mac(number);
        let domain = self.create_domain(&format!("guest-{number}"), plan);
        let (vf, port) = self.vf_for(plan.vf, address, &domain);
        let guest = lab_guest(domain, address, plan.config, vf.zip(port));
        self.guests.push(guest);
        number
    }

    /// Ends a guest, and makes another with the same id and the same address, not connected yet.
    pub fn replace_guest(&mut self, number: usize, plan: &GuestPlan) {
        let (domid, address) = (self.guests[number].domain.domid(), self.guests[number].mac);
        self.machine.destroy(domid);
        remove_vif(&self.dom0, domid);
        let plan = GuestPlan { domid: Some(domid), ..plan.clone() };
        let domain = self.create_domain("successor", &plan);
        make_vif(&self.dom0, domid, address);
        self.guests[number] = lab_guest(domain, address, plan.config, None);
    }

    /// Kills a guest's agent, whose interface is left as it is, and starts another. The first has
    /// no more to say.
    ///
    /// # Panics
    /// If the frontend cannot be made.
    pub fn restart_agent(&mut self, number: usize, config: Config) {
        use xenvelope_grant::seam::Store as _;
        let guest = &mut self.guests[number];
        for token in [0x0ba0, 0x0ba1] {
            guest.domain.unwatch(token);
        }
        let domain = guest.domain.clone();
        *guest = lab_guest(domain, guest.mac, config, None);
    }

    fn create_domain(&self, name: &str, plan: &GuestPlan) -> Domain {
        let options = DomainOptions {
            grant_version: plan.version,
            domid: plan.domid,
            ..DomainOptions::new(name, PAGES)
        };
        self.machine.create(&options).expect("a domain")
    }

    fn vf_for(
        &self,
        wanted: bool,
        address: MacAddress,
        domain: &Domain,
    ) -> (Option<usize>, Option<DomainPort>) {
        make_vif(&self.dom0, domain.domid(), address);
        if !wanted {
            return (None, None);
        }
        let vf = self.nic.allocate_vf().expect("a VF is left");
        let control = self.nic.pf_control();
        control.set_vf_mac(vf, address.0).expect("a free address");
        control.set_vf_floods(vf, control.switches()).expect("the VF");
        let port = self.nic.assign(CardPort::Vf(vf), domain).expect("the VF");
        (Some(vf), Some(port))
    }

    /// Gives a VF to a domain that the test drives by hand.
    pub fn attach_vf(&self, domain: &Domain, address: MacAddress) -> DomainPort {
        let vf = self.nic.allocate_vf().expect("a VF is left");
        self.nic.pf_control().set_vf_mac(vf, address.0).expect("a free address");
        self.nic.assign(CardPort::Vf(vf), domain).expect("the VF")
    }

    /// Who may reach whom, and how.
    pub fn manager(&mut self) -> &mut Manager {
        self.backend.manager()
    }

    /// Asks for a way between all, and lets it take effect.
    pub fn all_routes(&mut self, route: PairRoute) {
        self.backend.manager().set_all_routes(route);
        self.steps(20);
    }

    /// Everybody gets one turn, and the clock moves on by [`STEP_NS`].
    pub fn step(&mut self) {
        self.now = Instant(self.now.0 + STEP_NS);
        for guest in self.guests.iter_mut().filter(|guest| !guest.asleep) {
            guest.turn(self.now);
        }
        if !self.backend_asleep {
            self.backend.poll(self.now);
        }
        if !self.nic_asleep {
            self.run_card();
        }
    }

    /// The card does all that is due.
    pub fn run_card(&mut self) {
        for _ in 0..CARD_TURNS {
            if self.nic.run(self.now).is_none_or(|next| next > self.now) {
                return;
            }
        }
    }

    /// So many steps.
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// So many milliseconds in few steps: for time-outs.
    pub fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now = Instant(self.now.0 + 10_000_000);
            self.step();
        }
        self.steps(3);
    }

    /// Steps until `done`.
    ///
    /// # Panics
    /// After 20,000 steps.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Lab) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("waited in vain for {what}");
    }

    /// Steps until all guests are connected, and the manager knows of their VFs.
    pub fn connect(&mut self) {
        self.run_until("all guests to connect", |lab| {
            lab.guests.iter().all(|guest| guest.asleep || guest.frontend.link() == Link::Up)
        });
        self.steps(20);
        // Floods are not taken for a moment after their path has changed.
        self.pass_ms(30);
    }

    /// Has `from` send a frame with that payload to `to`.
    pub fn send(&mut self, from: usize, to: usize, payload: &[u8]) {
        let bytes = frame(self.guests[to].mac, self.guests[from].mac, payload);
        assert!(self.guests[from].send(&bytes), "the guest has room to send");
    }

    /// Sends a frame and checks that it arrives.
    ///
    /// # Panics
    /// If it does not.
    pub fn expect_delivery(&mut self, from: usize, to: usize, payload: &[u8]) {
        let bytes = frame(self.guests[to].mac, self.guests[from].mac, payload);
        self.send(from, to, payload);
        self.run_until("a frame to arrive", |lab| lab.guests[to].received.contains(&bytes));
        self.guests[to].received.retain(|received| *received != bytes);
    }

    /// The grants of a guest to another domain.
    pub fn grants(
        &self,
        from: usize,
        to: DomId,
    ) -> Vec<(xenvelope_grant::Gref, xenvelope_grant::entry::GrantFlags)> {
        self.machine
            .scan_grants(self.guests[from].domain.domid())
            .into_iter()
            .filter(|(_, domid, _)| *domid == to)
            .map(|(gref, _, flags)| {
                (gref, xenvelope_grant::entry::GrantFlags::from_bits_retain(flags))
            })
            .collect()
    }

    /// The id of a guest.
    pub fn domid(&self, guest: usize) -> DomId {
        self.guests[guest].domain.domid()
    }
}

/// The address of guest `number`.
pub fn mac(number: usize) -> MacAddress {
    MacAddress([0x02, 0x16, 0x3e, 0x5a, 0x7d, 0x10 + number as u8])
}
