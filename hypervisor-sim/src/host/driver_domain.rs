//! The driver domain: the backend in its thread, with the card's PF.

use std::sync::Arc;
use std::time::Duration;

use xenvelope_backend::{Backend, Config, Counters, PfControl};
use xenvelope_grant::seam::Host as _;
use xenvelope_switch::MacAddress;

use super::HostError;
use super::worker::Worker;
use crate::machine::Domain;
use crate::nic::{self, CardPort, DomainPort, Nic};

/// How long the driver domain sleeps at most.
const NAP: Duration = Duration::from_millis(50);

/// The agent that tells the card what the backend asks of it.
pub struct CardAgent(nic::PfControl);

impl CardAgent {
    /// The agent of a card.
    pub fn new(nic: &Arc<Nic>) -> CardAgent {
        CardAgent(nic.pf_control())
    }
}

impl PfControl for CardAgent {
    fn reach(&self, mac: MacAddress, vid: u16, behind_us: bool) {
        if behind_us {
            // Refused while a VF has the address: frames reach it there.
            let _ = self.0.add_pf_filter(mac.0, vid);
        } else {
            self.0.remove_pf_filter(mac.0, vid);
        }
    }
    fn anti_spoof(&self) -> bool {
        self.0.anti_spoof()
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
        config: Config,
    ) -> Result<DriverDomain, HostError> {
        let failed = |cause: &dyn std::fmt::Display| HostError::DriverDomain(cause.to_string());
        let bell = Arc::new(domain.device_port().map_err(|cause| failed(&cause))?);
        let uplink = nic.assign(CardPort::Pf, &domain).map_err(|cause| failed(&cause))?;
        let agent = CardAgent::new(nic);
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
                        bell.unmask();
                    }
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
