//! The driver domain's process ends, and another one begins.

use xenvelope_backend::{Backend, Config, Counters};
use xenvelope_grant::seam::Store as _;
use xenvelope_grant::xenbus::PATH_MAX;
use xenvelope_hypervisor_sim::host::CardAgent;
use xenvelope_hypervisor_sim::nic::CardPort;

use super::{Hooked, Lab, LabBackend};

impl Lab {
    /// The process is killed: nothing is said to anybody, its ports close and what it had mapped
    /// and exported is gone.
    pub fn kill_backend(&mut self) {
        drop(self.take_backend());
    }

    /// The process ends as it would like to. What it had counted.
    pub fn shut_backend_down(&mut self) -> Counters {
        self.take_backend().shutdown()
    }

    /// A new process begins, with a new epoch.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn start_backend(&mut self) {
        // The connection to the store was the dead process', and its watches.
        let mut path = [0; PATH_MAX];
        for token in 0..1000 {
            self.dom0.unwatch(token);
        }
        while self.dom0.next(&mut path).is_some() {}
        self.backend_config.epoch += 1;
        let uplink = self.nic.assign(CardPort::Pf, &self.dom0).expect("the PF");
        self.backend = self.backend(self.backend_config, Some(uplink));
        self.backend_asleep = false;
    }

    /// The backend that is, and nobody in its place.
    fn take_backend(&mut self) -> LabBackend {
        self.backend_asleep = true;
        let nobody = self.backend(Config::default(), None);
        std::mem::replace(&mut self.backend, nobody)
    }

    fn backend(
        &self,
        config: Config,
        uplink: Option<xenvelope_hypervisor_sim::nic::DomainPort>,
    ) -> LabBackend {
        let card = CardAgent::new(&self.nic);
        let host = Hooked::new(self.dom0.clone(), self.backend_hooks.clone());
        Backend::new(host, config, uplink, card).expect("a backend")
    }
}
