//! A guest of the lab with a frontend of ours.

use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_frontend::{Config, Counters, Frontend};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Buffer as _, Instant, Offload};
use xenvelope_hypervisor_sim::machine::{Domain, GrantVersion};
use xenvelope_hypervisor_sim::nic::DomainPort;
use xenvelope_switch::MacAddress;

use super::{Hooked, Hooks};

/// The frontend of the lab's guests.
pub type LabFrontend = Frontend<Hooked, DomainPort>;

/// A guest to be made.
#[derive(Clone, Debug)]
pub struct GuestPlan {
    /// Its frontend's configuration. Its handle is 0.
    pub config: Config,
    /// Whether it has a VF.
    pub vf: bool,
    /// The version of its grant table.
    pub version: GrantVersion,
    /// Its id, if it matters.
    pub domid: Option<DomId>,
}

impl Default for GuestPlan {
    fn default() -> Self {
        GuestPlan { config: Config::default(), vf: false, version: GrantVersion::V2, domid: None }
    }
}

/// A guest with a frontend of ours.
pub struct LabGuest {
    /// The domain.
    pub domain: Domain,
    /// Faults and changes at chosen points.
    pub hooks: Hooks,
    /// The interface.
    pub frontend: LabFrontend,
    /// Its address.
    pub mac: MacAddress,
    /// Its VF, if it has one.
    pub vf: Option<usize>,
    /// What its stack got.
    pub received: Vec<Vec<u8>>,
    /// It is not polled: its processor does something else.
    pub asleep: bool,
}

impl LabGuest {
    /// What its frontend has counted.
    pub fn counters(&self) -> &Counters {
        self.frontend.counters()
    }

    /// Stages a frame. `false` if there is no room or no buffer.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.frontend.can_send() {
            return false;
        }
        let Some(mut buffer) = self.frontend.buffer(bytes.len()) else {
            return false;
        };
        let place = FRAME_AT..FRAME_AT + bytes.len();
        buffer.stack_bytes_mut()[place.clone()].copy_from_slice(bytes);
        self.frontend.send(buffer, place, Offload::default());
        true
    }

    /// One turn: takes in what came, and sends what may go.
    pub fn turn(&mut self, now: Instant) {
        self.frontend.poll(now);
        while let Some(bytes) = self.frontend.receive(|bytes, _| bytes.to_vec()) {
            self.received.push(bytes);
        }
        self.frontend.flush(now);
    }

    /// Takes what its stack got so far.
    pub fn take_received(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.received)
    }
}

/// A frontend in a domain whose interface the toolstack has made.
///
/// # Panics
/// If the frontend cannot be made.
pub fn lab_guest(
    domain: Domain,
    mac: MacAddress,
    config: Config,
    vf: Option<(usize, DomainPort)>,
) -> LabGuest {
    let (vf, port) = vf.map_or((None, None), |(vf, port)| (Some(vf), Some(port)));
    let hooks = Hooks::default();
    let host = Hooked::new(domain.clone(), hooks.clone());
    let frontend = Frontend::new(host, config, port).expect("a frontend");
    LabGuest { domain, hooks, frontend, mac, vf, received: Vec::new(), asleep: false }
}
