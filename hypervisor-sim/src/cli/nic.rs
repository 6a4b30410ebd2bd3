//! Which card: its type, how its ports look, who translates.

use clap::{Args, ValueEnum};

use crate::host::{CardRefused, VfHolder};
use crate::nic::{Functions, NicConfig, NicKind, Translation};

/// Which card the host has.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NicArguments {
    /// The card's type (section 3 of the paper)
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    pub nic: NicChoice,

    /// VFs that the card has, or queues of type 1, 0 to 60 [default: 8; none of type 0]
    #[arg(long, value_name = "N", value_parser = vfs, allow_negative_numbers = true)]
    pub vfs: Option<u8>,

    /// How the card's ports look to the host [default: functions]
    #[arg(long, value_name = "FORM", value_enum)]
    pub nic_functions: Option<FunctionsChoice>,

    /// Who translates the addresses that the card is given
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    pub translation: TranslationChoice,

    /// The card does not check source addresses, so nothing travels inline through it
    #[arg(long)]
    pub no_anti_spoof: bool,
}

/// The card's type, and who holds its VFs.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NicChoice {
    /// Plain: one port, the driver domain's
    #[value(name = "0")]
    Plain,
    /// Multi-queue: a receive queue for each guest, into its own buffers
    #[value(name = "1")]
    MultiQueue,
    /// Direct I/O: VFs of guests, which reach the wire only
    #[value(name = "2")]
    DirectIo,
    /// The same, but the driver domain holds all VFs and serves guests by them
    #[value(name = "2-driver-domain")]
    DirectIoHeld,
    /// Direct I/O with a switch between the VFs
    #[default]
    #[value(name = "3")]
    Switching,
    /// The same, but the driver domain holds all VFs and serves guests by them
    #[value(name = "3-driver-domain")]
    SwitchingHeld,
}

/// How the card's ports look to the host.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FunctionsChoice {
    /// PCI functions, which the toolstack assigns to guests
    Functions,
    /// Contexts of one PCI device, which the driver domain lends to guests through the store
    Contexts,
}

/// Who translates.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TranslationChoice {
    /// The host's IOMMU
    #[default]
    Iommu,
    /// The card, by tables of its own
    Nic,
    /// Nobody: only the driver domain may give the card addresses
    None,
}

fn vfs(text: &str) -> Result<u8, String> {
    let asked = text.parse().ok().filter(|vfs| (0..=60).contains(vfs));
    asked.ok_or_else(|| "give a whole number from 0 to 60".to_owned())
}

/// VFs or queues of a card of which nothing is said.
const VFS: u8 = 8;

impl NicArguments {
    /// How much the card does for guests.
    pub fn kind(&self) -> NicKind {
        match self.nic {
            NicChoice::Plain => NicKind::Plain,
            NicChoice::MultiQueue => NicKind::MultiQueue,
            NicChoice::DirectIo | NicChoice::DirectIoHeld => NicKind::DirectIo,
            NicChoice::Switching | NicChoice::SwitchingHeld => NicKind::Switching,
        }
    }

    /// Who holds the VFs.
    pub fn vfs_held_by(&self) -> VfHolder {
        match self.nic {
            NicChoice::DirectIoHeld | NicChoice::SwitchingHeld => VfHolder::DriverDomain,
            _ => VfHolder::Guests,
        }
    }

    /// VFs that guests can have.
    pub fn vfs_for_guests(&self) -> usize {
        match self.vfs_held_by().forbids(self.kind()) {
            Some(_) => 0,
            None => self.ports(),
        }
    }

    /// VFs or queues.
    fn ports(&self) -> usize {
        let default = if self.kind().has_ports() { VFS } else { 0 };
        usize::from(self.vfs.unwrap_or(default))
    }

    /// The card that is asked for.
    pub fn config(&self) -> NicConfig {
        NicConfig {
            kind: self.kind(),
            functions: match self.nic_functions {
                Some(FunctionsChoice::Contexts) => Functions::Contexts,
                Some(FunctionsChoice::Functions) | None => Functions::Separate,
            },
            translation: match self.translation {
                TranslationChoice::Iommu => Translation::Iommu,
                TranslationChoice::Nic => Translation::Nic,
                TranslationChoice::None => Translation::None,
            },
            vfs: self.ports(),
            anti_spoof: !self.no_anti_spoof,
            ..NicConfig::default()
        }
    }

    /// Says what of what was asked for does not go together, if anything does not: a card that
    /// makes no sense, and what is said of parts that it does not have.
    pub fn check(&self) -> Result<(), CardRefused> {
        let (kind, held_by) = (self.kind(), self.vfs_held_by());
        if kind == NicKind::Plain && self.vfs.is_some_and(|vfs| vfs > 0) {
            return Err(CardRefused::PlainVfs);
        }
        if kind == NicKind::Plain && self.nic_functions.is_some() {
            return Err(CardRefused::PlainFunctions);
        }
        if self.no_anti_spoof
            && let Some(why) = held_by.forbids(kind)
        {
            return Err(CardRefused::NothingToSpoof(why));
        }
        held_by.check(&self.config())
    }
}
