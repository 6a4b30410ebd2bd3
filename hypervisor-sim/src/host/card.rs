//! Which card a host has, and who holds its ports: what makes sense together.

use std::fmt;

use thiserror::Error;

use crate::nic::{Functions, NicConfig, NicKind, Translation};

/// Who holds the VFs of a card that has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VfHolder {
    /// The guests that ask for one: direct I/O.
    #[default]
    Guests,
    /// The driver domain: it serves guests by them as by the queues of a multi-queue card. What
    /// the card cannot enforce its switch does.
    DriverDomain,
}

/// A card that no host can use so.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CardRefused {
    /// Direct I/O without translation.
    #[error(
        "{0} needs translation, since a guest's VF would reach all of the machine's memory; \
         choose --translation nic or iommu, or --nic 3-driver-domain"
    )]
    Untranslated(NicKind),
    /// A card that translates, but has nothing to translate for.
    #[error("a plain card has no translation of its own; choose --translation iommu or none")]
    PlainTranslates,
    /// One port.
    #[error("a plain card has one function, the driver domain's; leave --nic-functions away")]
    PlainFunctions,
    /// One port.
    #[error("a plain card has no VFs and no queues; leave --vfs away, or choose another --nic")]
    PlainVfs,
    /// No queue.
    #[error("a multi-queue card without queues is a plain one; choose --nic 0")]
    NoQueues,
    /// Held VFs that are none.
    #[error("the driver domain cannot hold the VFs of a card that has none; give it --vfs")]
    NothingHeld,
    /// Only types 2 and 3 have VFs.
    #[error("{0} has no VFs that the driver domain could hold")]
    NothingToHold(NicKind),
    /// No VF for a guest.
    #[error("guest {guest} asks for a VF, but {why}")]
    NoVfs {
        /// Who asks.
        guest: String,
        /// Why there is none.
        why: String,
    },
    /// Anti-spoof checks what VFs of guests send.
    #[error("--no-anti-spoof is about VFs of guests, but {0}")]
    NothingToSpoof(String),
}

impl VfHolder {
    /// Why no guest can have a VF, if none can.
    pub fn forbids(self, kind: NicKind) -> Option<String> {
        if !kind.has_vfs() {
            return Some(format!("{kind} gives none to guests"));
        }
        (self == VfHolder::DriverDomain).then(|| "the driver domain holds all of them".to_owned())
    }

    /// Whether the driver domain serves guests by queues of the card.
    pub fn has_queues(self, kind: NicKind) -> bool {
        kind == NicKind::MultiQueue || (self == VfHolder::DriverDomain && kind.has_vfs())
    }

    /// Says what is wrong with a card of that configuration in these hands, if anything is.
    pub fn check(self, nic: &NicConfig) -> Result<(), CardRefused> {
        let kind = nic.kind;
        match (kind, self) {
            (NicKind::Plain, _) if nic.translation == Translation::Nic => {
                Err(CardRefused::PlainTranslates)
            }
            (NicKind::Plain | NicKind::MultiQueue, VfHolder::DriverDomain) => {
                Err(CardRefused::NothingToHold(kind))
            }
            (NicKind::MultiQueue, _) if nic.vfs == 0 => Err(CardRefused::NoQueues),
            (_, VfHolder::DriverDomain) if nic.vfs == 0 => Err(CardRefused::NothingHeld),
            (NicKind::DirectIo | NicKind::Switching, VfHolder::Guests)
                if nic.translation == Translation::None =>
            {
                Err(CardRefused::Untranslated(kind))
            }
            _ => Ok(()),
        }
    }
}

/// A card as a report names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CardSummary {
    /// How much it does for guests.
    pub kind: NicKind,
    /// Who holds its VFs.
    pub vfs_held_by: VfHolder,
    /// How its ports look to the host.
    pub functions: Functions,
    /// Who translates addresses.
    pub translation: Translation,
    /// How many VFs or queues there are.
    pub vfs: usize,
}

impl CardSummary {
    /// The value of `--nic` that asks for it.
    pub fn option(&self) -> &'static str {
        match (self.kind, self.vfs_held_by) {
            (NicKind::Plain, _) => "0",
            (NicKind::MultiQueue, _) => "1",
            (NicKind::DirectIo, VfHolder::Guests) => "2",
            (NicKind::DirectIo, VfHolder::DriverDomain) => "2-driver-domain",
            (NicKind::Switching, VfHolder::Guests) => "3",
            (NicKind::Switching, VfHolder::DriverDomain) => "3-driver-domain",
        }
    }

    /// `functions` or `contexts`.
    pub fn functions_name(&self) -> &'static str {
        match self.functions {
            Functions::Separate => "functions",
            Functions::Contexts => "contexts",
        }
    }

    /// `iommu`, `nic` or `none`.
    pub fn translation_name(&self) -> &'static str {
        match self.translation {
            Translation::Iommu => "iommu",
            Translation::Nic => "nic",
            Translation::None => "none",
        }
    }
}

impl fmt::Display for CardSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vfs = self.vfs;
        write!(f, "card: type {}, {}", self.option(), self.kind)?;
        let shown = match self.functions {
            Functions::Separate => "PCI functions",
            Functions::Contexts => "contexts of one PCI device",
        };
        match (self.kind, self.vfs_held_by) {
            (NicKind::Plain, _) => {}
            (NicKind::MultiQueue, _) => write!(f, ", {vfs} queues ({shown})")?,
            (_, VfHolder::Guests) => write!(f, ", {vfs} VFs ({shown})")?,
            (_, VfHolder::DriverDomain) => {
                write!(f, ", {vfs} VFs ({shown}), all held by the driver domain")?;
            }
        }
        f.write_str(match self.translation {
            Translation::Iommu => "; addresses translated by an IOMMU",
            Translation::Nic => "; addresses translated by the card",
            Translation::None => "; addresses not translated, but checked by the driver domain",
        })
    }
}
