//! The driver domain: the backend in its thread, with the card's PF.

use std::sync::Arc;
use std::time::Duration;

use xenvelope_backend::{Backend, Config, Counters, PfControl};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::Host as _;
use xenvelope_switch::MacAddress;

use super::queues::{HeldPorts, SteeredQueue};
use super::worker::Worker;
use super::{HostError, VfHolder};
use crate::machine::Domain;
use crate::nic::{self, CardPort, DomainPort, Nic};

/// How long the driver domain sleeps at most.
const NAP: Duration = Duration::from_millis(50);

/// The agent that tells the card what the backend asks of it.
pub struct CardAgent {
    control: nic::PfControl,
    held: Option<HeldPorts>,
}

impl CardAgent {
    /// The agent of a card.
    pub fn new(nic: &Arc<Nic>) -> CardAgent {
        CardAgent { control: nic.pf_control(), held: None }
    }

    /// The same for the driver domain `driver`. If it holds ports of the card that guests can be
    /// served by, they are.
    pub fn of(nic: &Arc<Nic>, vfs_held_by: VfHolder, driver: &Domain) -> CardAgent {
        let holds = vfs_held_by.has_queues(nic.config().kind);
        CardAgent { held: holds.then(|| HeldPorts::new(nic, driver)), ..CardAgent::new(nic) }
    }
}

impl PfControl for CardAgent {
    type Queue = SteeredQueue;

    fn reach(&self, mac: MacAddress, vid: u16, behind_us: bool) {
        if behind_us {
            // Refused while a VF has the address: frames reach it there.
            let _ = self.control.add_pf_filter(mac.0, vid);
        } else {
            self.control.remove_pf_filter(mac.0, vid);
        }
    }
    fn anti_spoof(&self) -> bool {
        self.control.anti_spoof()
    }
    fn switches(&self) -> bool {
        self.control.switches()
    }
    fn has_queues(&self) -> bool {
        self.held.as_ref().is_some_and(HeldPorts::can_serve)
    }
    fn open_queue(&self, guest: DomId, mac: MacAddress, vid: u16) -> Option<SteeredQueue> {
        self.held.as_ref()?.open(guest, mac, vid)
    }
}

/// The backend as the simulator runs it.
pub type SimBackend = Backend<Domain, DomainPort, CardAgent>;

/// The running driver domain.
pub struct DriverDomain {
    /// The domain.
    pub domain: Domain,
    pub(super) worker: Worker<SimBackend>,
}

impl DriverDomain {
    pub(super) fn start(
        domain: Domain,
        nic: &Arc<Nic>,
        vfs_held_by: VfHolder,
        config: Config,
    ) -> Result<DriverDomain, HostError> {
        let failed = |cause: &dyn std::fmt::Display| HostError::DriverDomain(cause.to_string());
        let bell = Arc::new(domain.device_port().map_err(|cause| failed(&cause))?);
        let uplink = nic.assign(CardPort::Pf, &domain).map_err(|cause| failed(&cause))?;
        let agent = CardAgent::of(nic, vfs_held_by, &domain);
        let mut backend = Backend::new(domain.clone(), config, Some(uplink), agent)
            .map_err(|cause| failed(&cause))?;
        let ringer = Arc::clone(&bell);
        let clock = domain.clone();
        let worker = Worker::spawn(
            "driver-domain",
            move || ringer.raise(),
            move |orders| {
                while !orders.stopped() {
                    let busy = orders.carry_out(&mut backend) | backend.poll(clock.now());
                    if !busy {
                        backend.wait(clock.now() + NAP);
                    }
                    bell.unmask();
                }
            },
        )
        .map_err(|cause| failed(&cause))?;
        Ok(DriverDomain { domain, worker })
    }

    /// Has the driver domain's thread do something.
    pub fn call<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut SimBackend) -> R + Send + 'static,
    ) -> Result<R, HostError> {
        self.worker.call(task).ok_or_else(|| HostError::Ended("driver-domain".to_owned()))
    }

    /// What the backend has done so far.
    pub fn counters(&self) -> Result<Counters, HostError> {
        self.call(|backend| *backend.counters())
    }
}
