//! The network stacks of the system under the simulator, in place of the simulator's own: each
//! behind a TAP in a network namespace.
//!
//! The thread of a guest enters the namespace and stays there, so the TAP that it makes is there
//! too, and gone with the process, however that ends.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use thiserror::Error;
use xenvelope_frontend::Frontend;
use xenvelope_grant::seam::{
    Buffer as _, EventError, Events as _, Host as _, NicPort as _, Offload, PortId, StackPort as _,
};
use xenvelope_switch::MacAddress;
use xenvelope_xen::linux::{Tap, TapConfig, TapOffloads, XenError};

use crate::machine::{Costs, DevicePort, Domain, Machine};
use crate::nic::{DomainPort, WireEnd};

/// Where a stack is to be, and how its interface is to be.
#[derive(Debug)]
pub struct StackSpec {
    /// The network namespace.
    pub namespace: OwnedFd,
    /// The interface's name in it.
    pub interface: String,
    /// Its MTU in bytes.
    pub mtu: u16,
}

/// Why a stack could not be attached.
#[derive(Debug, Error)]
pub enum StackError {
    /// The namespace cannot be entered.
    #[error("cannot enter the network namespace: {0}")]
    Enter(#[from] nix::Error),
    /// The TAP cannot be made.
    #[error(transparent)]
    Tap(#[from] XenError),
    /// No event for the wire.
    #[error(transparent)]
    Event(#[from] EventError),
}

impl StackSpec {
    /// The calling thread goes to the namespace for good, and makes the TAP there.
    fn open(
        &self,
        domain: &Domain,
        mac: MacAddress,
        offloads: TapOffloads,
    ) -> Result<Tap<Domain>, StackError> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        let config = TapConfig {
            name: self.interface.clone(),
            mac: Some(mac.0),
            mtu: self.mtu,
            persistent: false,
            offloads,
            up: true,
        };
        Ok(Tap::open(domain, &config)?)
    }
}

/// A guest's stack: it leaves checksums and the cutting of segments to whoever takes a frame off
/// the host.
pub struct GuestTap {
    tap: Tap<Domain>,
    /// Frames that the stack did not take.
    pub refused: u64,
}

impl GuestTap {
    /// Makes it, from the guest's own thread, which is in that namespace from then on.
    pub fn open(
        spec: &StackSpec,
        frontend: &Frontend<Domain, DomainPort>,
    ) -> Result<GuestTap, StackError> {
        let tap = spec.open(frontend.host(), frontend.mac(), TapOffloads::Segments)?;
        Ok(GuestTap { tap, refused: 0 })
    }

    /// Frames both ways. Whether there were any.
    pub(super) fn turn(&mut self, frontend: &mut Frontend<Domain, DomainPort>) -> bool {
        let given = frontend.give_to_stack(&self.tap);
        self.refused += given.map_or(0, |given| given.refused as u64);
        given.is_some() | frontend.take_from_stack(&self.tap)
    }
}

/// Frames that go to the stack outside in one call.
const BATCH: usize = 64;
/// How long the outside sleeps at most, and while the wire has no room for what it has to send.
const NAP: Duration = Duration::from_millis(50);
const CROWDED: Duration = Duration::from_millis(1);
/// Pages of the machine outside: 128 MiB, of which only what is touched is taken.
const PAGES: usize = 32768;

/// The stack of the peer outside. It fills in its checksums and cuts its segments itself, as what
/// comes by the wire is.
pub struct OutsideTap {
    /// The only domain of a machine of its own, at the other end of the wire.
    domain: Domain,
    tap: Tap<Domain>,
    arrival: Arc<DevicePort>,
    batch: Vec<Vec<u8>>,
}

/// What came of a turn of the outside's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Passed {
    pub sent: u64,
    pub sent_bytes: u64,
    pub refused: u64,
    pub delivered: u64,
    pub delivered_bytes: u64,
}

impl OutsideTap {
    /// Makes it, from the peer's own thread, which is in that namespace from then on.
    pub(super) fn open(
        spec: &StackSpec,
        mac: MacAddress,
        wire: &WireEnd,
    ) -> Result<OutsideTap, StackError> {
        let domain = Machine::new(Costs::ideal()).create_domain("outside", PAGES);
        let tap = spec.open(&domain, mac, TapOffloads::Nothing)?;
        let arrival = Arc::new(domain.device_port()?);
        let bell = Arc::clone(&arrival);
        wire.on_arrival(move || bell.raise());
        Ok(OutsideTap { domain, tap, arrival, batch: Vec::with_capacity(BATCH) })
    }

    /// Frames both ways. `next` gives those that came by the wire.
    pub(super) fn turn(
        &mut self,
        wire: &WireEnd,
        mut next: impl FnMut() -> Option<Vec<u8>>,
    ) -> Passed {
        let mut passed = Passed::default();
        while self.batch.len() < BATCH
            && let Some(frame) = next()
        {
            self.batch.push(frame);
        }
        if !self.batch.is_empty() {
            let frames = self.batch.iter().map(|frame| (&frame[..], Offload::default()));
            self.tap.exchange(frames);
        }
        for frame in self.batch.drain(..) {
            passed.delivered += 1;
            passed.delivered_bytes += frame.len() as u64;
            wire.give_back(frame);
        }
        self.tap.refill(&self.domain, 0);
        for _ in 0..BATCH {
            if !wire.has_room() {
                break;
            }
            let Some(arrival) = self.tap.receive() else { break };
            let frame = &arrival.buffer.stack_bytes()[arrival.frame];
            passed.sent += 1;
            passed.sent_bytes += frame.len() as u64;
            passed.refused += u64::from(wire.send(frame).is_err());
        }
        passed
    }

    /// Sleeps until there is something to do.
    pub(super) fn sleep(&self, wire: &WireEnd) {
        let nap = if wire.has_room() { NAP } else { CROWDED };
        let mut fired = [PortId(0); 4];
        self.domain.wait(&mut fired, self.domain.now() + nap);
        self.arrival.unmask();
    }
}
