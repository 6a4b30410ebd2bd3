//! The peer outside of the host, at the other end of the wire. Its stack checks and fills in
//! every checksum itself.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as SmolInstant;
use xenvelope_grant::seam::Instant;
use xenvelope_switch::envelope::{ETHER_TYPE, Envelope};
use xenvelope_switch::{EthernetHeader, MacAddress};

use super::system_stack::OutsideTap;
use super::worker::Worker;
use super::{HostError, StackError, StackSpec};
use crate::nic::WireEnd;
use crate::stack::Endpoint;

/// What the peer has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExternalSnapshot {
    /// Frames that its stack sent.
    pub sent: u64,
    /// Frames that its stack got.
    pub delivered: u64,
    /// Bytes of the frames sent.
    pub sent_bytes: u64,
    /// Bytes of the frames got.
    pub delivered_bytes: u64,
    /// Frames that the wire refused.
    pub refused: u64,
    /// Frames that are not for it: what an envelope carries counts, not the envelope.
    pub not_ours: u64,
}

/// What the peer's thread owns.
pub struct ExternalWorker {
    wire: WireDevice,
    /// The stack.
    pub endpoint: Endpoint,
    /// One of the system under us, which takes its place.
    tap: Option<OutsideTap>,
}

/// The running peer.
pub struct External {
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its IP address.
    pub address: Ipv4Addr,
    pub(super) worker: Worker<ExternalWorker>,
}

/// How long the peer sleeps at most: there is no bell on a wire, so this is also how long an
/// order may wait.
const NAP: Duration = Duration::from_millis(5);

impl External {
    pub(super) fn start(
        wire: WireEnd,
        mac: MacAddress,
        address: Ipv4Addr,
        started: StdInstant,
    ) -> Result<External, HostError> {
        let mut wire =
            WireDevice { wire: Arc::new(wire), mac, counts: ExternalSnapshot::default() };
        let now = move || Instant(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let bell = Arc::clone(&wire.wire);
        let worker = Worker::spawn(
            "external",
            move || bell.wake(),
            move |orders| {
                let endpoint = Endpoint::new(&mut wire, mac, address, now(), 0x5eed);
                let mut worker = ExternalWorker { wire, endpoint, tap: None };
                while !orders.stopped() {
                    let busy = orders.carry_out(&mut worker) | worker.turn(now());
                    if !busy {
                        worker.sleep(now());
                    }
                }
            },
        )
        .map_err(|cause| HostError::External(cause.to_string()))?;
        Ok(External { mac, address, worker })
    }

    /// Has the peer's thread do something.
    pub fn call<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut ExternalWorker) -> R + Send + 'static,
    ) -> Result<R, HostError> {
        self.worker.call(task).ok_or_else(|| HostError::Ended("external".to_owned()))
    }

    /// From now on a stack of the system under us is at the end of the wire, and no longer the
    /// simulator's own.
    pub fn attach(&self, spec: StackSpec) -> Result<Result<(), StackError>, HostError> {
        self.call(move |peer| {
            peer.tap = Some(OutsideTap::open(&spec, peer.wire.mac, &peer.wire.wire)?);
            Ok(())
        })
    }

    /// What it has done so far.
    pub fn snapshot(&self) -> Result<ExternalSnapshot, HostError> {
        self.call(|peer| peer.wire.counts)
    }
}

impl ExternalWorker {
    /// One turn. Whether anything happened.
    fn turn(&mut self, now: Instant) -> bool {
        let Some(tap) = &mut self.tap else {
            return self.endpoint.step(&mut self.wire, now);
        };
        let wire = Arc::clone(&self.wire.wire);
        let passed = tap.turn(&wire, || self.wire.next());
        let counts = &mut self.wire.counts;
        counts.sent += passed.sent;
        counts.sent_bytes += passed.sent_bytes;
        counts.refused += passed.refused;
        counts.delivered += passed.delivered;
        counts.delivered_bytes += passed.delivered_bytes;
        passed.sent + passed.delivered > 0
    }

    fn sleep(&mut self, now: Instant) {
        if let Some(tap) = &self.tap {
            return tap.sleep(&self.wire.wire);
        }
        let deadline = self.endpoint.deadline(now);
        let wait = deadline.map_or(NAP, |deadline| deadline.since(now).min(NAP));
        self.wire.wire.wait(StdInstant::now() + wait);
    }
}

struct WireDevice {
    wire: Arc<WireEnd>,
    mac: MacAddress,
    counts: ExternalSnapshot,
}

struct WireReceive(Vec<u8>);

struct WireSend<'a> {
    wire: Arc<WireEnd>,
    counts: &'a mut ExternalSnapshot,
}

impl RxToken for WireReceive {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for WireSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, build: F) -> R {
        let mut frame = vec![0; len];
        let result = build(&mut frame);
        self.counts.sent += 1;
        self.counts.sent_bytes += len as u64;
        self.counts.refused += u64::from(self.wire.send(&frame).is_err());
        result
    }
}

impl WireDevice {
    /// The next frame that is for us.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let frame = self.wire.receive()?;
            if self.is_ours(&frame) {
                return Some(frame);
            }
            self.counts.not_ours += carried(&frame);
        }
    }

    fn is_ours(&self, frame: &[u8]) -> bool {
        EthernetHeader::parse(frame).is_ok_and(|header| {
            header.ether_type != ETHER_TYPE
                && (header.destination == self.mac || header.destination.is_multicast())
        })
    }
}

/// How many frames of guests a frame on the wire is: an envelope whose destination has just lost
/// its VF goes out there, as any frame to an address that the card does not know.
fn carried(frame: &[u8]) -> u64 {
    Envelope::parse(frame).map_or(1, |envelope| envelope.carried())
}

impl Device for WireDevice {
    type RxToken<'a> = WireReceive;
    type TxToken<'a> = WireSend<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(WireReceive, WireSend<'_>)> {
        let frame = self.next()?;
        self.counts.delivered += 1;
        self.counts.delivered_bytes += frame.len() as u64;
        let wire = Arc::clone(&self.wire);
        Some((WireReceive(frame), WireSend { wire, counts: &mut self.counts }))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<WireSend<'_>> {
        Some(WireSend { wire: Arc::clone(&self.wire), counts: &mut self.counts })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}
