//! How a port is configured.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use super::MAX_VID;
use crate::ethernet::{EthernetHeader, MacAddress};

/// A port of the switch. The number is the caller's choice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u32);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What is behind a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortConfig {
    /// A guest. It sends from its own addresses in its own VLANs, or not at all.
    Guest {
        /// The addresses that it may send from, and is reached at: usually one.
        macs: Vec<MacAddress>,
        /// The VLANs that it is in.
        vlan: Vlan,
    },
    /// The world outside, in all VLANs. There is at most one.
    Uplink,
}

/// The VLANs of a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Vlan {
    /// One, 0 to [`MAX_VID`], of which the guest knows nothing: it sends and receives untagged.
    /// 0 is no VLAN.
    Access(u16),
    /// These, each 0 to [`MAX_VID`]; the guest sends and receives tagged. With 0 among them it
    /// may send untagged too, outside of all VLANs.
    Trunk(BTreeSet<u16>),
}

/// Why a port cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PortError {
    /// The port exists.
    #[error("port {0} exists already")]
    InUse(PortId),
    /// There is an uplink.
    #[error("port {0} is the uplink already")]
    SecondUplink(PortId),
    /// Another guest has that address in that VLAN.
    #[error("{mac} in VLAN {vid} belongs to port {by}")]
    MacTaken {
        /// The address.
        mac: MacAddress,
        /// The VLAN.
        vid: u16,
        /// Who has it.
        by: PortId,
    },
    /// A group's address, or one of zeros, cannot be a guest's.
    #[error("{0} cannot be a guest's address")]
    Mac(MacAddress),
    /// There is no such VLAN.
    #[error("there is no VLAN {0}")]
    Vid(u16),
}

impl PortConfig {
    pub(super) fn check(&self) -> Result<(), PortError> {
        let PortConfig::Guest { macs, vlan } = self else {
            return Ok(());
        };
        if let Some(&mac) = macs.iter().find(|mac| mac.is_multicast() || mac.to_bits() == 0) {
            return Err(PortError::Mac(mac));
        }
        vlan.vids().find(|&vid| vid > MAX_VID).map_or(Ok(()), |vid| Err(PortError::Vid(vid)))
    }

    /// Each of a guest's addresses in each of its VLANs.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (u16, MacAddress)> + '_ {
        let (macs, vlan) = match self {
            PortConfig::Guest { macs, vlan } => (macs.as_slice(), Some(vlan)),
            PortConfig::Uplink => (&[][..], None),
        };
        let vids = move || vlan.into_iter().flat_map(Vlan::vids);
        macs.iter().flat_map(move |&mac| vids().map(move |vid| (vid, mac)))
    }

    /// The VLAN that a frame is in that came in at this port, if it may be there.
    pub(super) fn ingress_vid(&self, header: &EthernetHeader) -> Option<u16> {
        let said = header.vid();
        match self {
            PortConfig::Guest { vlan: Vlan::Access(vid), .. } => (said == 0).then_some(*vid),
            PortConfig::Guest { vlan: Vlan::Trunk(vids), .. } => {
                vids.contains(&said).then_some(said)
            }
            PortConfig::Uplink => (said <= MAX_VID).then_some(said),
        }
    }

    pub(super) fn is_member(&self, vid: u16) -> bool {
        match self {
            PortConfig::Guest { vlan: Vlan::Access(own), .. } => *own == vid,
            PortConfig::Guest { vlan: Vlan::Trunk(vids), .. } => vids.contains(&vid),
            PortConfig::Uplink => true,
        }
    }

    /// Whether frames of a VLAN leave this port with its tag.
    pub(super) fn is_tagged(&self) -> bool {
        !matches!(self, PortConfig::Guest { vlan: Vlan::Access(_), .. })
    }
}

impl Vlan {
    fn vids(&self) -> impl Iterator<Item = u16> + '_ {
        let (one, many) = match self {
            Vlan::Access(vid) => (Some(*vid), None),
            Vlan::Trunk(vids) => (None, Some(vids)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}
