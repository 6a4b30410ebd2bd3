//! A guest's network stack and what runs on it: smoltcp, TCP transfers of a file with every pass
//! hashed, and round trips.
//!
//! The same endpoint runs in each guest, over the frontend, and in the external peer, over the
//! wire.

mod exchange;
mod jobs;
mod payload;

pub use exchange::{Exchange, ExchangeCounts, Pattern};
pub use jobs::{Job, Pings, Progress};
pub use payload::{Payload, PayloadError};

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use xenvelope_grant::seam::Instant;
use xenvelope_switch::MacAddress;

/// A stack with its jobs.
pub struct Endpoint {
    interface: Interface,
    sockets: SocketSet<'static>,
    jobs: Vec<Job>,
    address: Ipv4Addr,
    mac: MacAddress,
    ports: u16,
}

/// The network in which all endpoints are.
const PREFIX: u8 = 16;
/// The first port that clients use.
const FIRST_PORT: u16 = 49152;

fn smol(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.0 / 1000).unwrap_or(i64::MAX))
}

impl Endpoint {
    /// A stack at `address` over `device`.
    pub fn new(
        device: &mut impl Device,
        mac: MacAddress,
        address: Ipv4Addr,
        now: Instant,
        seed: u64,
    ) -> Endpoint {
        let interface = interface(device, mac, address, now, seed);
        let sockets = SocketSet::new(Vec::new());
        Endpoint { interface, sockets, jobs: Vec::new(), address, mac, ports: FIRST_PORT }
    }

    /// The stack once more, over a device that has changed what it can do. Connections end.
    pub fn rebuild(&mut self, device: &mut impl Device, now: Instant, seed: u64) {
        self.interface = interface(device, self.mac, self.address, now, seed);
        self.sockets = SocketSet::new(Vec::new());
        self.jobs.clear();
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Begins a job.
    pub fn start(&mut self, mut job: Job) {
        let port = self.ports;
        self.ports = self.ports.checked_add(1).unwrap_or(FIRST_PORT);
        job.open(&mut self.interface, &mut self.sockets, port);
        self.jobs.push(job);
    }

    /// How many jobs are not finished.
    pub fn busy(&self) -> usize {
        self.jobs.len()
    }

    /// One turn: what has come, the jobs, what is to go. Whether anything happened.
    pub fn step(&mut self, device: &mut impl Device, now: Instant) -> bool {
        let time = smol(now);
        let mut changed = false;
        let mut turn = |interface: &mut Interface, sockets: &mut SocketSet<'static>| {
            let result = interface.poll(time, device, sockets);
            result == smoltcp::iface::PollResult::SocketStateChanged
        };
        changed |= turn(&mut self.interface, &mut self.sockets);
        let mut moved = false;
        let sockets = &mut self.sockets;
        self.jobs.retain_mut(|job| {
            let (progressed, finished) = job.step(sockets, now);
            moved |= progressed;
            !finished
        });
        if moved {
            changed |= turn(&mut self.interface, &mut self.sockets);
        }
        changed | moved
    }

    /// When the stack next wants a turn although nothing has come.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let delay = self.interface.poll_delay(smol(now), &self.sockets)?;
        Some(now + Duration::from_micros(delay.total_micros()))
    }
}

fn interface(
    device: &mut impl Device,
    mac: MacAddress,
    address: Ipv4Addr,
    now: Instant,
    seed: u64,
) -> Interface {
    let mut config = Config::new(EthernetAddress(mac.0).into());
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, smol(now));
    interface.update_ip_addrs(|addresses| {
        // One address always fits.
        let _ = addresses.push(IpCidr::new(address.into(), PREFIX));
    });
    interface
}

/// A TCP socket with buffers of `bytes`.
fn socket(bytes: usize) -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; bytes]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket
}
