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

use super::HostError;
use super::worker::Worker;
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
        let worker = Worker::spawn(
            "external",
            || {},
            move |orders| {
                let endpoint = Endpoint::new(&mut wire, mac, address, now(), 0x5eed);
                let mut worker = ExternalWorker { wire, endpoint };
                while !orders.stopped() {
                    let busy = orders.carry_out(&mut worker)
                        | worker.endpoint.step(&mut worker.wire, now());
                    if !busy {
                        let wait = worker
                            .endpoint
                            .deadline(now())
                            .map_or(NAP, |deadline| deadline.since(now()).min(NAP));
                        worker.wire.wire.wait(StdInstant::now() + wait);
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

    /// What it has done so far.
    pub fn snapshot(&self) -> Result<ExternalSnapshot, HostError> {
        self.call(|peer| peer.wire.counts)
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
        let frame = loop {
            let frame = self.wire.receive()?;
            if self.is_ours(&frame) {
                break frame;
            }
            self.counts.not_ours += carried(&frame);
        };
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
