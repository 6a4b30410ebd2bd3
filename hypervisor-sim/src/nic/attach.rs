//! The card in the simulated host: which domain's memory and which event channel a port has.

use std::sync::Arc;

use thiserror::Error;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{EventError, Host, Instant, NoBuffer};

use super::{
    CardError, CardPort, Dma, DmaFault, Interrupt, Nic, NicConfig, NicThread, Seat, Translation,
    VfPort,
};
use crate::machine::{
    Costs, DevicePages, DeviceWindow, Domain, DriverWindow, FrameBuffer, Machine, MachineWindow,
};

/// A port in the hands of a domain of the simulated host.
pub type DomainPort = VfPort<FrameBuffer, DevicePages>;

/// Why a domain could not be given a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AttachError {
    /// The card refused.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The domain has no memory left for the rings.
    #[error("no memory for the descriptor rings")]
    NoMemory(#[from] NoBuffer),
    /// The domain has no port left for the interrupt.
    #[error("no event channel for the interrupt")]
    NoInterrupt(#[from] EventError),
}

/// One life of a domain: a port that outlives it reaches nothing of whoever has the id next.
impl Dma for DeviceWindow {
    fn read(&self, of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        let fault = DmaFault { of, address };
        if of != self.domid() {
            return Err(fault);
        }
        DeviceWindow::read(self, address, out).map_err(|_| fault)
    }
    fn write(&self, of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let fault = DmaFault { of, address };
        if of != self.domid() {
            return Err(fault);
        }
        DeviceWindow::write(self, address, bytes).map_err(|_| fault)
    }
}

impl Dma for DriverWindow {
    fn read(&self, of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        let fault = DmaFault { of, address };
        if of != self.domid() {
            return Err(fault);
        }
        DriverWindow::read(self, address, out).map_err(|_| fault)
    }
    fn write(&self, of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let fault = DmaFault { of, address };
        if of != self.domid() {
            return Err(fault);
        }
        DriverWindow::write(self, address, bytes).map_err(|_| fault)
    }
}

/// Nobody translates, so nobody looks whose access it is.
impl Dma for MachineWindow {
    fn read(&self, of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        MachineWindow::read(self, address, out).map_err(|_| DmaFault { of, address })
    }
    fn write(&self, of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        MachineWindow::write(self, address, bytes).map_err(|_| DmaFault { of, address })
    }
}

impl NicConfig {
    /// The default card, with the host's latencies.
    pub fn with_costs(costs: &Costs) -> NicConfig {
        NicConfig {
            latency_ns: costs.nic_latency_ns,
            iommu_miss_ns: costs.iommu_miss_ns,
            ..NicConfig::default()
        }
    }
}

impl Nic {
    /// Gives a port to a domain, with rings in its memory and an interrupt of its own, until the
    /// returned port is dropped: the PF to the driver domain, a VF to a guest.
    pub fn assign(
        self: &Arc<Self>,
        port: CardPort,
        domain: &Domain,
    ) -> Result<DomainPort, AttachError> {
        let interrupt: Arc<dyn Interrupt> = Arc::new(domain.device_port()?);
        let (dma, base): (Arc<dyn Dma>, u64) = match self.config().translation {
            Translation::None => {
                (Arc::new(MachineWindow::new(domain.clone())), domain.machine_base())
            }
            _ => (Arc::new(domain.device_window()), 0),
        };
        let rings = domain.device_pages(self.config().ring_bytes())?;
        let seat = Seat { domain: domain.domid(), dma, rings, interrupt, base };
        Ok(match port {
            CardPort::Vf(vf) => self.attach_vf(vf, seat)?,
            CardPort::Pf => self.attach_pf(seat)?,
            CardPort::Wire => return Err(CardError::NotForDomains.into()),
        })
    }
}

impl NicThread {
    /// Runs the card by the host's clock.
    pub fn on(nic: Arc<Nic>, machine: &Arc<Machine>) -> std::io::Result<NicThread> {
        let started = machine.started;
        let elapsed = move || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        NicThread::spawn(nic, move || Instant(elapsed()))
    }
}
