//! What a card is made with.

use thiserror::Error;
use xenvelope_grant::DomId;

use super::DESCRIPTOR_BYTES;
use super::control::CardError;
use super::kind::{Functions, NicKind, Translation};
use super::table::Mac;

/// What a card is made with.
#[derive(Clone, PartialEq, Debug)]
pub struct NicConfig {
    /// How much it does for guests.
    pub kind: NicKind,
    /// How its ports look to the host.
    pub functions: Functions,
    /// Who translates addresses.
    pub translation: Translation,
    /// How many VFs there are, or receive queues: at most 60, and none on a plain card.
    pub vfs: usize,
    /// The PF's own address. VF `n` starts out with this plus `n + 1` in the last byte.
    pub pf_mac: Mac,
    /// Whether VFs may send only from their own address.
    pub anti_spoof: bool,
    /// Whether the PF gets frames from the wire that are for nobody the card knows.
    pub pf_promiscuous: bool,
    /// What the I/O bus carries in each direction, in Gbit/s; `None` for no limit.
    pub bus_gbit: Option<f64>,
    /// How long a frame takes through the card, besides its time on the bus, in nanoseconds.
    pub latency_ns: u64,
    /// How long the bus waits for a translation that the IOTLB does not know, in nanoseconds.
    pub iommu_miss_ns: u64,
    /// The longest frame on the card and on the wire, in bytes, Ethernet header included: 60 to
    /// 65553. A frame that the card is to cut (TSO) may have up to 65553 bytes, whatever this is;
    /// what it is cut into may not be longer than this.
    pub max_frame: usize,
    /// Descriptors in a transmit ring: a power of two, 16 to 32768.
    pub tx_ring: usize,
    /// Descriptors in a receive ring: a power of two, 16 to 32768.
    pub rx_ring: usize,
    /// Entries of each port's IOTLB: at least 1.
    pub iotlb_entries: usize,
}

impl Default for NicConfig {
    /// Of type 3 with an IOMMU: eight VFs, anti-spoof, an MTU of 1500, a bus without limit, a microsecond through the card.
    fn default() -> NicConfig {
        NicConfig {
            kind: NicKind::Switching,
            functions: Functions::Separate,
            translation: Translation::Iommu,
            vfs: 8,
            pf_mac: [0x02, 0x78, 0x76, 0, 1, 0],
            anti_spoof: true,
            pf_promiscuous: true,
            bus_gbit: None,
            latency_ns: 1000,
            iommu_miss_ns: 250,
            max_frame: 1518,
            tx_ring: 256,
            rx_ring: 1024,
            iotlb_entries: 64,
        }
    }
}

/// 64 KiB less one of payload, and an Ethernet header with a tag.
pub(super) const MAX_WHOLE: usize = 65535 + 18;
/// Ports are bits of a 64-bit word, and so is the wire.
const MAX_VFS: usize = 60;

/// Why no card can be made so.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum ConfigError {
    /// Too many VFs.
    #[error("{0} VFs are more than the {MAX_VFS} that a card can have")]
    TooManyVfs(usize),
    /// A plain card has its own port and no other.
    #[error("a plain card has neither VFs nor queues, but {0} are asked for")]
    PlainWithVfs(usize),
    /// A bus that carries nothing.
    #[error("a bus cannot carry {0} Gbit/s")]
    BadBus(f64),
    /// A ring of impossible length.
    #[error("{0} is not a power of two from 16 to 32768, as the length of a ring must be")]
    BadRing(usize),
    /// A longest frame of impossible length.
    #[error("the longest frame must be 60 to {MAX_WHOLE} bytes, not {0}")]
    BadMaxFrame(usize),
    /// An IOTLB without entries.
    #[error("the IOTLB needs an entry")]
    NoIotlb,
    /// The PF's address is not one.
    #[error("not a MAC address that a port can have")]
    BadMac,
}

impl NicConfig {
    /// How much memory the two rings of a port take, in bytes.
    pub fn ring_bytes(&self) -> usize {
        (self.tx_ring + self.rx_ring) * DESCRIPTOR_BYTES
    }

    /// A port's address until the PF's owner sets another. The PF is 0, VF `n` is `n + 1`.
    pub(super) fn first_mac(&self, number: usize) -> Mac {
        let [a, b, c, d, e, f] = self.pf_mac;
        [a, b, c, d, e, f.wrapping_add(number as u8)]
    }

    /// Whether `domain` may use a port that is not the PF and was lent to `lent_to`, while the PF
    /// is `driver_domain`'s.
    pub(super) fn may_use(
        &self,
        driver_domain: Option<DomId>,
        lent_to: Option<DomId>,
        domain: DomId,
    ) -> Result<(), CardError> {
        if driver_domain == Some(domain) {
            return Ok(());
        }
        if !self.kind.has_vfs() {
            return Err(CardError::NotForGuests);
        }
        if self.translation == Translation::None {
            return Err(CardError::NoTranslation);
        }
        if self.functions == Functions::Contexts && lent_to != Some(domain) {
            return Err(CardError::NotLent);
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.vfs > MAX_VFS {
            return Err(ConfigError::TooManyVfs(self.vfs));
        }
        if !self.kind.has_ports() && self.vfs > 0 {
            return Err(ConfigError::PlainWithVfs(self.vfs));
        }
        // Written so that NaN is refused too.
        if let Some(gbit) = self.bus_gbit.filter(|gbit| !(gbit.is_finite() && *gbit > 0.0)) {
            return Err(ConfigError::BadBus(gbit));
        }
        for ring in [self.tx_ring, self.rx_ring] {
            if !ring.is_power_of_two() || !(16..=32768).contains(&ring) {
                return Err(ConfigError::BadRing(ring));
            }
        }
        if !(60..=MAX_WHOLE).contains(&self.max_frame) {
            return Err(ConfigError::BadMaxFrame(self.max_frame));
        }
        if self.iotlb_entries == 0 {
            return Err(ConfigError::NoIotlb);
        }
        if self.pf_mac[0] & 1 != 0 || self.pf_mac == [0; 6] {
            return Err(ConfigError::BadMac);
        }
        Ok(())
    }
}
