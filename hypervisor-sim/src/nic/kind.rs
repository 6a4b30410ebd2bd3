//! What there is of hardware support for virtualization: the types of the paper's section 3
//! (Pratt's), how the card shows its parts, and who translates addresses.

use std::fmt;

/// How much a card does for guests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum NicKind {
    /// Type 0: one port, the driver domain's.
    Plain,
    /// Type 1: beside that, receive queues to which the card steers frames from the wire by their
    /// address. The driver domain has them all. What is sent leaves by the wire.
    MultiQueue,
    /// Type 2: VFs that guests have, which reach the wire only: no frame goes from one port to
    /// another.
    DirectIo,
    /// Type 3: VFs, and a switch between them.
    #[default]
    Switching,
}

impl NicKind {
    /// Whether frames go from one port to another in the card.
    pub const fn switches(self) -> bool {
        matches!(self, NicKind::Switching)
    }

    /// Whether it has ports beside the driver domain's.
    pub const fn has_ports(self) -> bool {
        !matches!(self, NicKind::Plain)
    }

    /// Whether a guest can have one of them.
    pub const fn has_vfs(self) -> bool {
        matches!(self, NicKind::DirectIo | NicKind::Switching)
    }
}

impl fmt::Display for NicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NicKind::Plain => "a plain card",
            NicKind::MultiQueue => "a multi-queue card",
            NicKind::DirectIo => "a direct I/O card without a switch",
            NicKind::Switching => "a direct I/O card with a switch",
        })
    }
}

/// How the card's ports look to the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Functions {
    /// Each is a PCI function of its own (SR-IOV): the toolstack assigns it to a domain.
    #[default]
    Separate,
    /// They are contexts of one PCI device, which is the driver domain's: a domain uses one that
    /// the driver domain's agent has lent to it ([`super::PfControl::lend_context`]).
    Contexts,
}

/// Who turns the addresses that a domain gives the card into the machine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Translation {
    /// The host's IOMMU. A translation that the port's IOTLB does not know is fetched over the bus.
    #[default]
    Iommu,
    /// The card itself, by a table of its own for each port.
    Nic,
    /// Nobody: the card is given machine addresses and reaches all memory. So only the driver
    /// domain, which is trusted with that, may use its ports.
    None,
}
