//! What the card asks of the host it is plugged into: memory, buffers, interrupts.

use thiserror::Error;
use xenvelope_grant::seam::{Buffer, PortId};
use xenvelope_grant::{DomId, Words};

/// The IOMMU refused: no page of that domain is at that address, or not with that access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the IOMMU refused the access of {of} at {address:#x}")]
pub struct DmaFault {
    /// The domain in whose address space the card looked.
    pub of: DomId,
    /// The first address of the access.
    pub address: u64,
}

/// Memory as a device reaches it: through the IOMMU, which checks every page of every access
/// against what the domain owns.
pub trait Dma: Send + Sync {
    /// Reads `out.len()` bytes at `address` of the domain's address space.
    fn read(&self, of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault>;
    /// Writes `bytes` at `address` of the domain's address space.
    fn write(&self, of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault>;
}

/// A buffer that a device can reach, contiguous in its domain's address space.
pub trait DmaBuffer: Buffer {
    /// The address of its first byte, as the IOMMU translates it.
    fn dma_address(&self) -> u64;
}

/// Words that a device can reach, contiguous in their domain's address space: descriptor rings.
pub trait DmaWords: Words {
    /// The address of the first byte, as the IOMMU translates it.
    fn dma_address(&self) -> u64;
}

/// An interrupt line from the card to one domain. Under Xen it is an event channel.
pub trait Interrupt: Send + Sync {
    /// Raises it. While it is masked it stays pending. Never blocks.
    fn raise(&self);
    /// The number under which the domain's event wait reports it.
    fn id(&self) -> PortId;
    /// Lets it fire again.
    fn unmask(&self);
}
