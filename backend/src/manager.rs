//! Who may reach whom, and by which way.
//!
//! The manager keeps one forwarding table for each frontend that understands envelopes, with the
//! peers that this guest may reach and no others. It chooses a way for each pair (what the
//! person asked for, as far as both sides can do it), and arranges direct channels by relaying
//! what each side must know: guests may not write in each other's part of the store.

mod queues;
mod relay;
mod tables;

pub(crate) use queues::Steering;

use std::collections::{BTreeMap, BTreeSet};

use xenvelope_switch::{MacAddress, Vlan};

/// The way that is asked for between two guests.
// The names are what the daemon's configuration says.
#[cfg_attr(feature = "policy-files", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PairRoute {
    /// The best that both sides can do: envelopes through the card if both have a VF, else
    /// through the driver domain's switch.
    #[default]
    Auto,
    /// Frames through the driver domain's switch, by netif; the driver domain copies.
    Bridge,
    /// Frames by netif to the driver domain, which passes the right to read them on; the
    /// receiving guest copies. Where nothing can be passed on, as [`PairRoute::Bridge`].
    BridgeReceiverCopy,
    /// Envelopes through the driver domain's switch.
    Switch,
    /// Envelopes on a channel of their own.
    Direct,
    /// Frames through the card's switch.
    NicFrame,
    /// Envelopes through the card's switch.
    NicEnvelope,
}

/// The way that frames take for which a guest's table has no entry.
#[cfg_attr(feature = "policy-files", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DefaultRoute {
    /// The VF if there is one, else the driver domain.
    #[default]
    Auto,
    /// The driver domain.
    DriverDomain,
}

/// What the manager is told of a guest's interface beside what the store says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// The networks that it belongs to: two interfaces may reach each other if they share one.
    pub networks: BTreeSet<u16>,
    /// Its default route.
    pub default_route: DefaultRoute,
    /// Its access VLAN in the switch: 0 for none.
    pub vlan: u16,
    /// VLANs whose tags the guest may put on frames itself, beside frames without a tag. Not for
    /// one with an access VLAN, whose frames have none. The card knows one VLAN for each VF, so
    /// frames between two who share such VLANs, and what has no entry in the table, go by the
    /// driver domain.
    pub tagged: BTreeSet<u16>,
}

/// What a person has asked for, and what has been arranged.
#[derive(Debug, Default)]
pub struct Manager {
    members: BTreeMap<MacAddress, Member>,
    routes: BTreeMap<(MacAddress, MacAddress), PairRoute>,
    default_route: PairRoute,
    /// Direct channels, by the two port numbers, lower first.
    channels: BTreeMap<(u32, u32), DirectChannel>,
    dirty: bool,
    /// Whether [`PairRoute::BridgeReceiverCopy`] was ever asked for.
    any_receiver_copies: bool,
}

/// A direct channel that is being arranged or is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct DirectChannel {
    /// Its number at the listening side (the lower port) and at the connecting side.
    numbers: (u16, u16),
    /// Whether the connecting side has been told.
    offered: bool,
    /// Whether the listening side has been told of the other's ring.
    answered: bool,
    /// Both sides said Connected.
    up: bool,
}

impl Manager {
    /// Says which networks an interface belongs to, and its default route. What is not said of
    /// is in network 0.
    pub fn set_member(&mut self, mac: MacAddress, member: Member) {
        self.members.insert(mac, member);
        self.dirty = true;
    }

    /// Asks for a way between two interfaces.
    pub fn set_route(&mut self, one: MacAddress, other: MacAddress, route: PairRoute) {
        self.routes.insert((one.min(other), one.max(other)), route);
        self.route_asked(route);
    }

    /// Asks for a way between all pairs of which nothing else was said.
    pub fn set_all_routes(&mut self, route: PairRoute) {
        self.routes.clear();
        self.default_route = route;
        self.route_asked(route);
    }

    fn route_asked(&mut self, route: PairRoute) {
        self.any_receiver_copies |= route == PairRoute::BridgeReceiverCopy;
        self.dirty = true;
    }

    /// Whether any frame may be the receiver's to copy. Asked for each frame.
    pub(crate) fn any_receiver_copies(&self) -> bool {
        self.any_receiver_copies
    }

    /// Whether frames between the two are the receiver's to copy.
    pub(crate) fn receiver_copies(&self, one: MacAddress, other: MacAddress) -> bool {
        self.route(one, other) == PairRoute::BridgeReceiverCopy
    }

    /// Something that the tables depend on has changed.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(crate) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    pub(crate) fn vlan(&self, mac: MacAddress) -> u16 {
        self.members.get(&mac).map_or(0, |member| member.vlan)
    }

    /// The VLANs whose tags a guest may put on frames itself.
    fn tagged(&self, mac: MacAddress) -> &BTreeSet<u16> {
        const NONE: &BTreeSet<u16> = &BTreeSet::new();
        let member = self.members.get(&mac).filter(|member| member.vlan == 0);
        member.map_or(NONE, |member| &member.tagged)
    }

    /// The VLANs of a guest's port in the switch.
    pub(crate) fn port_vlan(&self, mac: MacAddress) -> Vlan {
        let tagged = self.tagged(mac);
        if tagged.is_empty() {
            return Vlan::Access(self.vlan(mac));
        }
        // 0 is outside of all of them.
        Vlan::Trunk(tagged.iter().copied().chain([0]).collect())
    }

    fn default_route(&self, mac: MacAddress) -> DefaultRoute {
        if !self.tagged(mac).is_empty() {
            return DefaultRoute::DriverDomain;
        }
        self.members.get(&mac).map_or(DefaultRoute::Auto, |member| member.default_route)
    }

    fn route(&self, one: MacAddress, other: MacAddress) -> PairRoute {
        let pair = (one.min(other), one.max(other));
        self.routes.get(&pair).copied().unwrap_or(self.default_route)
    }

    /// Whether policy lets the two reach each other. Asked for each frame.
    pub(crate) fn may_reach(&self, one: MacAddress, other: MacAddress) -> bool {
        let (one, other) = (self.members.get(&one), self.members.get(&other));
        let in_default = |member: &Member| member.vlan == 0 && member.networks.contains(&0);
        match (one, other) {
            (None, None) => true,
            (Some(member), None) | (None, Some(member)) => in_default(member),
            (Some(one), Some(other)) => {
                one.vlan == other.vlan && !one.networks.is_disjoint(&other.networks)
            }
        }
    }

    /// The channel numbers that a port uses.
    fn numbers_of(&self, port: u32) -> BTreeSet<u16> {
        self.channels
            .iter()
            .filter_map(|((a, b), channel)| match port {
                port if port == *a => Some(channel.numbers.0),
                port if port == *b => Some(channel.numbers.1),
                _ => None,
            })
            .collect()
    }
}
