//! The driver domain's switch.
//!
//! Guest ports are static: which addresses a guest may send from, and in which VLANs, is
//! configured and never learned. One uplink leads to the world outside, and only there addresses
//! are learned.
//!
//! | from | to | goes |
//! |---|---|---|
//! | a guest | a guest's address in the same VLAN | to that guest |
//! | a guest | broadcast, multicast | to all others that take floods, and the uplink |
//! | a guest | anything else | to the uplink |
//! | the uplink | a guest's address in the same VLAN | to that guest |
//! | the uplink | broadcast, multicast | to all guests that take floods |
//! | the uplink | anything else | nowhere |
//!
//! An envelope has the Ethernet header of the frames in it, so [`Switch::ingress`] decides alike
//! for both.
//!
//! # Guests with a VF
//! A guest whose default route is a VF sends and receives broadcasts there. It is taken out of
//! the floods here ([`Switch::set_flood`]), so that it gets each once. What it sends by its VF
//! may then come in at the uplink, with its address as source, and is meant for the others. From
//! any other guest a frame at the uplink is its own that comes back, and is dropped.

mod config;
mod learning;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;

use hashbrown::HashMap;
use thiserror::Error;

pub use config::{PortConfig, PortError, PortId, Vlan};

use self::learning::Learned;
use crate::ethernet::{EthernetHeader, MacAddress};

/// The largest number of a VLAN. 4095 is reserved (IEEE 802.1Q, table 9-2).
pub const MAX_VID: u16 = 4094;

/// Most addresses that are learned at the uplink unless said otherwise.
pub const DEFAULT_LEARNED: usize = 4096;

/// How long a learned address is remembered unless said otherwise: 300 s, in ns (IEEE 802.1Q,
/// table 8-6).
pub const DEFAULT_AGE_NS: u64 = 300_000_000_000;

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The VLAN that it is in: 0 for none.
    pub vid: u16,
    /// The ports.
    pub to: Destination,
}

/// The ports that a frame leaves by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// This one.
    Port(PortId),
    /// Those that [`Switch::flood_ports`] gives.
    Flood,
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum Discard {
    /// There is no such port.
    #[error("it came in at a port that does not exist")]
    UnknownPort,
    /// The source is not an address that may send at this port. At the uplink: it is a group's,
    /// or that of a guest whose frames do not come from there.
    #[error("its source may not send at this port")]
    SourceMac,
    /// The frame is in a VLAN that this port is not in, or tagged where it must not be.
    #[error("its VLAN is not allowed at this port")]
    Vlan,
    /// The destination is one that no bridge forwards (01:80:c2:00:00:00 to 0f).
    #[error("no bridge forwards its destination")]
    ReservedAddress,
    /// The destination is where the frame comes from.
    #[error("its destination is where it comes from")]
    Looped,
    /// There is nobody it could go to.
    #[error("its destination is not known")]
    NoDestination,
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Switch {
    ports: BTreeMap<PortId, Port>,
    uplink: Option<PortId>,
    /// Which port a guest's address in a VLAN belongs to.
    guests: HashMap<(u16, MacAddress), PortId>,
    learned: Learned,
}

#[derive(Clone, Debug)]
struct Port {
    config: PortConfig,
    flood: bool,
}

impl Default for Switch {
    fn default() -> Switch {
        Switch::new()
    }
}

impl Switch {
    /// A switch without ports, with the default limits.
    pub fn new() -> Switch {
        Switch::with_limits(DEFAULT_LEARNED, DEFAULT_AGE_NS)
    }

    /// A switch without ports that learns at most `learned` addresses at the uplink and forgets
    /// each `age_ns` nanoseconds after it was last seen.
    pub fn with_limits(learned: usize, age_ns: u64) -> Switch {
        Switch {
            ports: BTreeMap::new(),
            uplink: None,
            guests: HashMap::new(),
            learned: Learned::new(learned, age_ns),
        }
    }

    /// Adds a port. It takes floods.
    ///
    /// # Errors
    /// [`PortError`] if the port exists, the configuration contradicts itself or another port's.
    /// The switch is unchanged then.
    pub fn add_port(&mut self, port: PortId, config: PortConfig) -> Result<(), PortError> {
        if self.ports.contains_key(&port) {
            return Err(PortError::InUse(port));
        }
        config.check()?;
        if let (PortConfig::Uplink, Some(other)) = (&config, self.uplink) {
            return Err(PortError::SecondUplink(other));
        }
        for (vid, mac) in config.addresses() {
            if let Some(&by) = self.guests.get(&(vid, mac)) {
                return Err(PortError::MacTaken { mac, vid, by });
            }
        }
        for (vid, mac) in config.addresses() {
            self.guests.insert((vid, mac), port);
            self.learned.forget(vid, mac);
        }
        if let PortConfig::Uplink = config {
            self.uplink = Some(port);
        }
        self.ports.insert(port, Port { config, flood: true });
        Ok(())
    }

    /// Takes a port away; `false` if there is none. With the uplink goes what was learned there.
    pub fn remove_port(&mut self, port: PortId) -> bool {
        let Some(removed) = self.ports.remove(&port) else {
            return false;
        };
        for address in removed.config.addresses() {
            self.guests.remove(&address);
        }
        if self.uplink == Some(port) {
            self.uplink = None;
            self.learned.clear();
        }
        true
    }

    /// Sets whether a guest port takes floods; `false` if there is no such guest port. The
    /// uplink always does.
    pub fn set_flood(&mut self, port: PortId, flood: bool) -> bool {
        match self.ports.get_mut(&port) {
            Some(Port { config: PortConfig::Guest { .. }, flood: current }) => {
                *current = flood;
                true
            }
            _ => false,
        }
    }

    /// How a port is configured.
    pub fn port(&self, port: PortId) -> Option<&PortConfig> {
        self.ports.get(&port).map(|port| &port.config)
    }

    /// All ports, in order.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + '_ {
        self.ports.keys().copied()
    }

    /// How many addresses were learned at the uplink and not forgotten.
    pub fn learned(&self) -> usize {
        self.learned.len()
    }

    /// Where a frame, or an envelope, that came in at `port` goes. `now_ns` is any clock in
    /// nanoseconds that does not go backwards.
    ///
    /// # Errors
    /// [`Discard`] if it goes nowhere.
    pub fn ingress(
        &mut self,
        port: PortId,
        header: &EthernetHeader,
        now_ns: u64,
    ) -> Result<Forward, Discard> {
        let config = &self.ports.get(&port).ok_or(Discard::UnknownPort)?.config;
        let vid = config.ingress_vid(header).ok_or(Discard::Vlan)?;
        if let PortConfig::Uplink = config {
            self.check_uplink_source(vid, header)?;
            self.learned.see(vid, header.source, now_ns);
        } else if self.guests.get(&(vid, header.source)) != Some(&port) {
            return Err(Discard::SourceMac);
        }
        let to = self.destination(port, vid, header.destination, now_ns)?;
        Ok(Forward { vid, to })
    }

    fn check_uplink_source(&self, vid: u16, header: &EthernetHeader) -> Result<(), Discard> {
        let source = header.source;
        if source.is_multicast() {
            return Err(Discard::SourceMac);
        }
        let Some(owner) = self.guests.get(&(vid, source)) else {
            return Ok(());
        };
        // The frame's owner takes floods here, so it also sends here, and nowhere else.
        if self.ports.get(owner).is_some_and(|port| port.flood) {
            return Err(Discard::SourceMac);
        }
        if self.guests.get(&(vid, header.destination)) == Some(owner) {
            return Err(Discard::Looped);
        }
        Ok(())
    }

    fn destination(
        &self,
        ingress: PortId,
        vid: u16,
        destination: MacAddress,
        now_ns: u64,
    ) -> Result<Destination, Discard> {
        if is_reserved(destination) {
            return Err(Discard::ReservedAddress);
        }
        if destination.is_multicast() {
            return Ok(Destination::Flood);
        }
        if let Some(&port) = self.guests.get(&(vid, destination)) {
            return if port == ingress {
                Err(Discard::Looped)
            } else {
                Ok(Destination::Port(port))
            };
        }
        match self.uplink {
            Some(uplink) if uplink != ingress => Ok(Destination::Port(uplink)),
            Some(_) if self.learned.knows(vid, destination, now_ns) => Err(Discard::Looped),
            _ => Err(Discard::NoDestination),
        }
    }

    /// The ports that a flood in a VLAN leaves by, in order: all in that VLAN but the one it
    /// came in at and the guests that take no floods.
    pub fn flood_ports(&self, vid: u16, ingress: PortId) -> impl Iterator<Item = PortId> + '_ {
        self.ports
            .iter()
            .filter(move |&(&id, port)| id != ingress && port.flood && port.config.is_member(vid))
            .map(|(&id, _)| id)
    }

    /// The VLAN to tag a frame with that leaves by `port`; `None` if it leaves untagged.
    pub fn egress_tag(&self, port: PortId, vid: u16) -> Option<u16> {
        let config = &self.ports.get(&port)?.config;
        (vid != 0 && config.is_tagged()).then_some(vid)
    }
}

/// Bridges do not forward these: spanning tree, pause, LLDP (IEEE 802.1Q, table 8-1).
fn is_reserved(mac: MacAddress) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xC2, 0x00, 0x00, 0x00..=0x0F])
}
