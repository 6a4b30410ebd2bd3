//! Putting a host together: what the toolstack does on Xen.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use thiserror::Error;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Mechanism, StoreError};
use xenvelope_switch::MacAddress;

use super::{
    CardRefused, CardSummary, DriverDomain, External, Guest, VfHolder, find_context, make_vif,
    offer_context,
};
use crate::capture::Recorder;
use crate::machine::{Costs, Domain, EngineCosts, Machine};
use crate::nic::{CardError, CardPort, ConfigError, Functions, Nic, NicConfig, NicThread};

/// What kind of frontend a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestKind {
    /// Ours: envelopes, VF, direct channels.
    Envelope,
    /// One that knows netif and nothing else.
    Stock,
}

/// A guest to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuestSpec {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddress,
    /// What it runs.
    pub kind: GuestKind,
    /// Whether it gets a VF.
    pub vf: bool,
}

impl GuestSpec {
    /// The guest of a number, with our frontend: called a to z, then guest26 and so on.
    pub fn envelope(index: usize, mac: MacAddress, vf: bool) -> GuestSpec {
        let name = match u8::try_from(index) {
            Ok(letter) if letter < 26 => char::from(b'a' + letter).to_string(),
            _ => format!("guest{index}"),
        };
        GuestSpec { name, mac, kind: GuestKind::Envelope, vf }
    }

    /// The address of the guest of a number, where none is given.
    pub fn numbered_mac(index: usize) -> MacAddress {
        MacAddress([0x02, 0x78, 0x76, 0x65, (index >> 8) as u8, index as u8])
    }

    /// A guest that knows netif and nothing else.
    pub fn stock() -> GuestSpec {
        GuestSpec {
            name: "stock".to_owned(),
            mac: MacAddress([0x02, 0x78, 0x76, 0x73, 0, 1]),
            kind: GuestKind::Stock,
            vf: false,
        }
    }
}

/// A host to be made.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// What calls, events and the card cost.
    pub costs: Costs,
    /// The card.
    pub nic: NicConfig,
    /// Who holds its VFs.
    pub vfs_held_by: VfHolder,
    /// The guests.
    pub guests: Vec<GuestSpec>,
    /// How the right to read frames in envelopes reaches their receiver. Transitive grants are the
    /// driver domain's, which makes them for pairs of guests that are asked to go that way.
    pub mechanism: Mechanism,
    /// What copies for those who receive envelopes; nothing if their processors do.
    pub engine: Option<EngineCosts>,
}

/// Why a host could not be made, or does not do what is asked of it.
#[derive(Debug, Error)]
pub enum HostError {
    /// Two guests have the same address.
    #[error("MAC address {0} is given to two interfaces; give each its own")]
    MacTwice(MacAddress),
    /// An address that no interface can have.
    #[error("MAC address {0} is a group address; an interface needs one of its own")]
    GroupMac(MacAddress),
    /// More guests want a VF than there are.
    #[error("guest {guest} asks for a VF, but all VFs of the card ({vfs}) are taken")]
    NoVfLeft {
        /// Who asks.
        guest: String,
        /// How many there are.
        vfs: usize,
    },
    /// No guests, or more than 200.
    #[error("a host has 1 to {max} guests, not {asked}")]
    GuestCount {
        /// How many were asked for.
        asked: usize,
        /// How many there can be.
        max: usize,
    },
    /// The card cannot be used so.
    #[error(transparent)]
    Refused(#[from] CardRefused),
    /// The card's configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The card refused something.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A guest did not start.
    #[error("guest {name} did not start: {cause}")]
    Guest {
        /// Which.
        name: String,
        /// Why.
        cause: String,
    },
    /// The driver domain did not start.
    #[error("the driver domain did not start: {0}")]
    DriverDomain(String),
    /// The external peer did not start.
    #[error("the external peer did not start: {0}")]
    External(String),
    /// A thread could not be started.
    #[error("no thread for the card or the copy engine: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread has ended that should not have.
    #[error("{0} has ended; its message is above")]
    Ended(String),
    /// Something that should have happened did not.
    #[error("timed out waiting for {0}")]
    TimedOut(String),
}

/// Most guests of a host, stock ones included.
pub const MAX_GUESTS: usize = 208;
/// The address of the peer outside.
const EXTERNAL_MAC: MacAddress = MacAddress([0x02, 0x78, 0x76, 0xff, 0, 1]);
/// Pages of a guest's memory: 256 MiB, of which only what is touched is taken.
const GUEST_PAGES: usize = 65536;
/// Pages of the driver domain's memory.
const DRIVER_PAGES: usize = 131_072;

/// A running host.
pub struct Host {
    /// The guests, in the order of the specification.
    pub guests: Vec<Guest>,
    /// The driver domain.
    pub driver_domain: DriverDomain,
    /// The peer outside.
    pub external: External,
    /// The card.
    pub nic: Arc<Nic>,
    /// Who holds its VFs.
    pub vfs_held_by: VfHolder,
    /// The machine.
    pub machine: Arc<Machine>,
    // Last, so that it runs until everybody else has gone.
    pub(super) hardware: NicThread,
}

impl HostSpec {
    /// A host whose guests hold the card's VFs, and grant to whom they send.
    pub fn new(costs: Costs, nic: NicConfig, guests: Vec<GuestSpec>) -> HostSpec {
        let (vfs_held_by, mechanism) = (VfHolder::Guests, Mechanism::Destination);
        HostSpec { costs, nic, vfs_held_by, guests, mechanism, engine: None }
    }

    /// Says what is wrong with it, if anything is, before anything is made.
    pub fn check(&self) -> Result<(), HostError> {
        let asked = self.guests.len();
        if asked == 0 || asked > MAX_GUESTS {
            return Err(HostError::GuestCount { asked, max: MAX_GUESTS });
        }
        self.vfs_held_by.check(&self.nic)?;
        let forbidden = self.vfs_held_by.forbids(self.nic.kind);
        if let Some(why) = forbidden
            && let Some(guest) = self.guests.iter().find(|guest| guest.vf)
        {
            return Err(CardRefused::NoVfs { guest: guest.name.clone(), why }.into());
        }
        // The peer outside has one too.
        let mut macs = BTreeSet::from([EXTERNAL_MAC]);
        let mut free = self.nic.vfs;
        for guest in &self.guests {
            if guest.mac.is_multicast() {
                return Err(HostError::GroupMac(guest.mac));
            }
            if !macs.insert(guest.mac) {
                return Err(HostError::MacTwice(guest.mac));
            }
            if guest.vf {
                free = free.checked_sub(1).ok_or_else(|| HostError::NoVfLeft {
                    guest: guest.name.clone(),
                    vfs: self.nic.vfs,
                })?;
            }
        }
        Ok(())
    }
}

impl Host {
    /// Makes a host and starts everything.
    pub fn start(spec: &HostSpec) -> Result<Host, HostError> {
        Host::start_recorded(spec, None)
    }

    /// As [`Host::start`]; what the guests, the card and the wire carry goes to `recorder`, if
    /// there is one.
    pub fn start_recorded(spec: &HostSpec, recorder: Option<&Recorder>) -> Result<Host, HostError> {
        spec.check()?;
        let machine = Machine::new(spec.costs);
        if let Some(engine) = spec.engine {
            machine.start_engine(engine)?;
        }
        let nic = Nic::new(NicConfig {
            latency_ns: spec.costs.nic_latency_ns,
            iommu_miss_ns: spec.costs.iommu_miss_ns,
            ..spec.nic.clone()
        })?;
        if let Some(recorder) = recorder {
            nic.observe(recorder.card(nic.config()));
        }
        let hardware = NicThread::on(Arc::clone(&nic), &machine)?;
        let dom0 = machine.create_domain("driver-domain", DRIVER_PAGES);
        let driver_domain =
            DriverDomain::start(dom0.clone(), &nic, spec.vfs_held_by, Default::default())?;
        let started = StdInstant::now()
            .checked_sub(Duration::from_nanos(xenvelope_grant::seam::Host::now(&dom0).0))
            .unwrap_or_else(StdInstant::now);
        let external =
            External::start(nic.wire()?, EXTERNAL_MAC, Ipv4Addr::new(10, 0, 255, 1), started)?;
        let mut guests = Vec::new();
        for (index, wanted) in spec.guests.iter().enumerate() {
            let keyed = spec.mechanism == Mechanism::Keyed;
            guests.push(add_guest(&machine, &nic, &dom0, wanted, index, keyed, recorder)?);
        }
        let vfs_held_by = spec.vfs_held_by;
        Ok(Host { guests, driver_domain, external, nic, vfs_held_by, machine, hardware })
    }

    /// Waits until `done`, at most `patience`.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&Host) -> Result<bool, HostError>,
    ) -> Result<(), HostError> {
        let end = StdInstant::now() + patience;
        while !done(self)? {
            if StdInstant::now() > end {
                return Err(HostError::TimedOut(what.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until all interfaces are connected, and the manager knows of their VFs.
    pub fn wait_connected(&self) -> Result<(), HostError> {
        let patience = Duration::from_secs(20);
        for guest in &self.guests {
            let what = format!("guest {} to connect", guest.name);
            self.wait_for(&what, patience, |_| guest.snapshot().map(|snapshot| snapshot.up))?;
        }
        let count = self.guests.len();
        self.wait_for("the driver domain to connect all guests", patience, |host| {
            host.driver_domain.call(|backend| backend.connected()).map(|now| now == count)
        })
    }

    /// Whether the guest of that address has a queue of the card.
    pub fn has_queue(&self, mac: MacAddress) -> Result<bool, HostError> {
        self.driver_domain.call(move |backend| backend.has_queue(mac))
    }

    /// Pulls a guest's VF: its link is down at once. `false` if it has none.
    pub fn unplug_vf(&self, guest: &Guest) -> Result<bool, HostError> {
        let Some(vf) = guest.vf else { return Ok(false) };
        self.nic.unplug_vf(vf)?;
        Ok(true)
    }

    /// Puts a guest's VF back. While it was away its frames went to the PF; that ends first.
    pub fn plug_vf(&self, guest: &Guest) -> Result<bool, HostError> {
        let Some(vf) = guest.vf else { return Ok(false) };
        self.nic.pf_control().remove_pf_filter(guest.mac.0, 0);
        self.nic.plug_vf(vf)?;
        Ok(true)
    }

    /// Which card there is, in whose hands.
    pub fn card(&self) -> CardSummary {
        let config = self.nic.config();
        CardSummary {
            kind: config.kind,
            vfs_held_by: self.vfs_held_by,
            functions: config.functions,
            translation: config.translation,
            vfs: config.vfs,
        }
    }

    /// The guest of a name.
    pub fn guest(&self, name: &str) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.name == name)
    }
}

/// Sets a VF up for a guest: a function is then assigned to it, a context lent by the driver
/// domain's agent, which tells the guest by the store.
fn give_vf(
    nic: &Arc<Nic>,
    dom0: &Domain,
    guest: DomId,
    mac: MacAddress,
) -> Result<usize, HostError> {
    let (vf, control) = (nic.allocate_vf()?, nic.pf_control());
    control.set_vf_mac(vf, mac.0)?;
    // A card that does not switch would bring floods from outside only; those of other guests
    // come by the driver domain, and so do all then.
    control.set_vf_floods(vf, control.switches())?;
    if nic.config().functions == Functions::Contexts {
        control.lend_context(vf, Some(guest))?;
        offer_context(dom0, guest, vf)?;
    }
    Ok(vf)
}

/// What `xl create` does for one interface, and the guest's own start.
fn add_guest(
    machine: &Arc<Machine>,
    nic: &Arc<Nic>,
    dom0: &Domain,
    wanted: &GuestSpec,
    index: usize,
    keyed: bool,
    recorder: Option<&Recorder>,
) -> Result<Guest, HostError> {
    let domain = machine.create_domain(&wanted.name, GUEST_PAGES);
    let domid = xenvelope_grant::seam::Host::domid(&domain);
    make_vif(dom0, domid, wanted.mac)?;
    let vf = if wanted.vf {
        let vf = give_vf(nic, dom0, domid, wanted.mac)?;
        // A function is the guest's from its start. A context it finds in the store.
        let vf = find_context(&domain)?.unwrap_or(vf);
        let port = nic.assign(CardPort::Vf(vf), &domain).map_err(|cause| HostError::Guest {
            name: wanted.name.clone(),
            cause: cause.to_string(),
        })?;
        Some((vf, port))
    } else {
        None
    };
    let config = xenvelope_frontend::Config {
        envelopes: wanted.kind == GuestKind::Envelope,
        keyed,
        ..Default::default()
    };
    // 10.0.0.1 upwards; 250 to a third byte.
    let (high, low) = (index / 250, index % 250 + 1);
    let address = Ipv4Addr::new(10, 0, high as u8, low as u8);
    if let Some(recorder) = recorder {
        let vf = vf.as_ref().map(|(number, _)| *number);
        recorder.guest(&domain, wanted.mac, address, vf);
    }
    Guest::start(&wanted.name, domain, config, vf, address)
}
