//! A guest: a domain, its frontend, its stack, its thread.

use std::net::Ipv4Addr;
use std::time::Duration;

use xenvelope_frontend::{Config, Counters, Frontend, Link};
use xenvelope_grant::seam::{Host as _, NicPort};
use xenvelope_switch::MacAddress;

use super::system_stack::GuestTap;
use super::worker::Worker;
use super::{HostError, StackError, StackSpec};
use crate::machine::{CounterSnapshot, Domain};
use crate::nic::DomainPort;
use crate::stack::{Endpoint, Exchange};

/// How long a guest sleeps at most while it has something to do, which may hang on the time alone.
const NAP: Duration = Duration::from_millis(50);
/// And one that has nothing to do: events and orders wake it, and on a host with hundreds of idle
/// guests their naps are no small part of the work.
const IDLE: Duration = Duration::from_secs(1);

/// What a guest's thread owns.
pub struct GuestWorker {
    /// The interface.
    pub frontend: Frontend<Domain, DomainPort>,
    /// The stack on it.
    pub endpoint: Endpoint,
    /// What has the interface now.
    pub user: User,
    /// The longest IP packet, in bytes.
    pub mtu: usize,
    /// The longest TCP segment that the stack hands over, as bytes of IP packet.
    pub gso: Option<usize>,
}

/// What sends and receives by a guest's interface.
#[derive(Default)]
pub enum User {
    /// Its own stack.
    #[default]
    Endpoint,
    /// One of the system under us.
    System(GuestTap),
    /// Frames between guests, without a stack.
    Exchange(Exchange),
}

/// What a guest has done.
#[derive(Clone, Copy, Debug)]
pub struct GuestSnapshot {
    /// Its frontend's counters.
    pub frontend: Counters,
    /// What it made the host do.
    pub domain: CounterSnapshot,
    /// Frames that have not left yet.
    pub queued: usize,
    /// Grants that no done has come for.
    pub outstanding: usize,
    /// Whether the interface is connected.
    pub up: bool,
    /// Whether its VF has a link.
    pub vf: bool,
    /// Direct channels that are up.
    pub direct: usize,
}

/// A running guest.
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its IP address.
    pub address: Ipv4Addr,
    /// Its VF, if it was given one.
    pub vf: Option<usize>,
    /// Whether its frontend offers envelopes.
    pub envelopes: bool,
    /// The domain.
    pub domain: Domain,
    pub(super) worker: Worker<GuestWorker>,
}

impl Guest {
    pub(super) fn start(
        name: &str,
        domain: Domain,
        config: Config,
        vf: Option<(usize, DomainPort)>,
        address: Ipv4Addr,
    ) -> Result<Guest, HostError> {
        let failed = |cause: &dyn std::fmt::Display| HostError::Guest {
            name: name.to_owned(),
            cause: cause.to_string(),
        };
        let bell = domain.device_port().map_err(|cause| failed(&cause))?;
        let bell = std::sync::Arc::new(bell);
        let (index, port) = match vf {
            Some((index, port)) => (Some(index), Some(port)),
            None => (None, None),
        };
        let mut frontend =
            Frontend::new(domain.clone(), config, port).map_err(|cause| failed(&cause))?;
        let mac = frontend.mac();
        let ringer = std::sync::Arc::clone(&bell);
        let seed = domain.random();
        let clock = domain.clone();
        let worker = Worker::spawn(
            name,
            move || ringer.raise(),
            move |orders| {
                let (mtu, gso) = (1500, None);
                let endpoint =
                    Endpoint::new(&mut frontend.phy(mtu, gso), mac, address, clock.now(), seed);
                let user = User::Endpoint;
                let mut worker = GuestWorker { frontend, endpoint, user, mtu, gso };
                while !orders.stopped() {
                    let busy = orders.carry_out(&mut worker) | worker.turn();
                    if !busy {
                        worker.sleep();
                        bell.unmask();
                    }
                }
            },
        )
        .map_err(|cause| failed(&cause))?;
        let envelopes = config.envelopes;
        let name = name.to_owned();
        Ok(Guest { name, mac, address, vf: index, envelopes, domain, worker })
    }

    /// Has the guest's thread do something.
    pub fn call<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut GuestWorker) -> R + Send + 'static,
    ) -> Result<R, HostError> {
        self.worker.call(task).ok_or_else(|| HostError::Ended(self.name.clone()))
    }

    /// What it has done so far.
    pub fn snapshot(&self) -> Result<GuestSnapshot, HostError> {
        let domain = self.domain.clone();
        self.call(move |guest| GuestSnapshot {
            frontend: *guest.frontend.counters(),
            domain: domain.counters(),
            queued: guest.frontend.queued() + guest.frontend.received(),
            outstanding: guest.frontend.outstanding(),
            up: guest.frontend.link() == Link::Up,
            vf: guest.frontend.vf().is_some_and(NicPort::link),
            direct: guest.frontend.direct_channels(),
        })
    }

    /// From now on a stack of the system under us has the interface, and no longer the simulator's
    /// own.
    pub fn attach(&self, spec: StackSpec) -> Result<Result<(), StackError>, HostError> {
        self.call(move |guest| {
            guest.user = User::System(GuestTap::open(&spec, &guest.frontend)?);
            Ok(())
        })
    }

    /// Sets the longest packet and the longest TCP segment that its stack hands over. Its
    /// connections end.
    pub fn set_frames(&self, mtu: usize, gso: Option<usize>) -> Result<(), HostError> {
        self.call(move |guest| {
            (guest.mtu, guest.gso) = (mtu, gso);
            let (now, seed) = {
                let host = guest.frontend.host();
                (host.now(), host.random())
            };
            guest.endpoint.rebuild(&mut guest.frontend.phy(mtu, gso), now, seed);
        })
    }
}

impl GuestWorker {
    /// One turn of the guest. Whether anything happened.
    fn turn(&mut self) -> bool {
        let now = self.frontend.host().now();
        let mut busy = self.frontend.poll(now);
        busy |= match &mut self.user {
            User::System(tap) => tap.turn(&mut self.frontend),
            User::Exchange(exchange) => {
                exchange.step(&mut self.frontend.phy(self.mtu, self.gso), now)
            }
            User::Endpoint => self.endpoint.step(&mut self.frontend.phy(self.mtu, self.gso), now),
        };
        busy | self.frontend.flush(now)
    }

    fn sleep(&mut self) {
        let now = self.frontend.host().now();
        let (deadline, idle) = match self.user {
            User::System(_) | User::Exchange(_) => (None, false),
            User::Endpoint => (self.endpoint.deadline(now), self.endpoint.busy() == 0),
        };
        let nap = now + if idle { IDLE } else { NAP };
        let until = deadline.unwrap_or(nap).min(nap);
        if until > now {
            self.frontend.wait(until);
        }
    }
}
