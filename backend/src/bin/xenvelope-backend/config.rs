//! The configuration: `etc/backend.toml` shows every key.

mod values;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;
use xenvelope_backend::{DefaultRoute, PairRoute};
use xenvelope_service::interface::Interface;
use xenvelope_service::settings::{SettingsError, Source};
use xenvelope_switch::MacAddress;

pub use values::{Mac, Within};

/// Everything that can be set.
#[derive(Deserialize, Clone, Debug)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Queues that a stock guest may have.
    pub queues: Within<1, 8>,
    /// Pages of each guest's forwarding table.
    pub table_pages: Within<1, 16>,
    /// Whether devices that are not ours are given to the kernel's own drivers.
    pub stock_drivers: bool,
    /// The way between guests of which nothing else is said.
    pub default_route_between_guests: PairRoute,
    /// The way to the outside.
    pub uplink: Uplink,
    /// The card with VFs.
    pub card: Card,
    /// What is known of guests' interfaces.
    pub guest: Vec<Guest>,
    /// Ways between two of them.
    pub pair: Vec<Pair>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            queues: Within::new_const(4),
            table_pages: Within::new_const(4),
            stock_drivers: true,
            default_route_between_guests: PairRoute::Auto,
            uplink: Uplink::default(),
            card: Card::default(),
            guest: Vec::new(),
            pair: Vec::new(),
        }
    }
}

/// The way to the outside: a TAP that is made, or an interface that is joined, or none.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Uplink {
    /// Name of the TAP.
    pub tap: Option<Interface>,
    /// The TAP's MTU.
    pub mtu: Option<Within<68, 65521>>,
    /// Name of the interface.
    pub interface: Option<Spanned<Interface>>,
    /// Whether the interface hears everything on the wire: needed unless it is the card's PF,
    /// which is told the guests' addresses.
    pub promiscuous: Option<bool>,
    /// Whether this domain's own stack keeps away from the interface.
    pub quiet: bool,
}

impl Uplink {
    /// Its interface.
    pub fn name(&self) -> Option<&str> {
        let interface = self.interface.as_ref().map(Spanned::get_ref);
        interface.or(self.tap.as_ref()).map(Interface::as_str)
    }
}

/// The card with VFs.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Card {
    /// The PF's interface.
    pub pf: Option<Interface>,
    /// Whether the card is known to drop what bears a source address that is not the VF's.
    pub anti_spoof: bool,
}

/// One interface of a guest.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guest {
    /// Its address, as in the guest's `vif=`.
    pub mac: Spanned<Mac>,
    /// The networks that it belongs to.
    #[serde(default = "network_0")]
    pub networks: BTreeSet<u16>,
    /// Its VLAN; 0: none.
    #[serde(default)]
    pub vlan: Within<0, 4094>,
    /// The way of what its table has no entry for.
    #[serde(default)]
    pub default_route: DefaultRoute,
    /// Which of the card's VFs gets this address.
    #[serde(default)]
    pub vf: Option<Spanned<Within<0, 255>>>,
}

/// The way between two interfaces.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pair {
    /// Their addresses.
    pub between: Spanned<[Mac; 2]>,
    /// The way.
    pub route: PairRoute,
}

fn network_0() -> BTreeSet<u16> {
    BTreeSet::from([0])
}

impl Config {
    /// What only shows when all of it is read.
    pub fn check(&self, source: &Source) -> Result<(), SettingsError> {
        if let (Some(interface), Some(tap)) = (&self.uplink.interface, &self.uplink.tap) {
            return Err(source.wrong(
                interface.span(),
                format_args!(
                    "the uplink is either a tap ({tap}) or an interface ({}): remove one",
                    interface.get_ref()
                ),
            ));
        }
        let (mut macs, mut vfs) = (BTreeMap::new(), BTreeMap::new());
        for guest in &self.guest {
            let mac = guest.mac.get_ref().0;
            if macs.insert(mac, ()).is_some() {
                let message = format_args!("there is a [[guest]] with mac {mac} already");
                return Err(source.wrong(guest.mac.span(), message));
            }
            let Some(vf) = &guest.vf else { continue };
            let number = vf.get_ref().get();
            if self.card.pf.is_none() {
                let message = "a vf needs a card: say which with pf = \"...\" below [card]";
                return Err(source.wrong(vf.span(), message));
            }
            if let Some(other) = vfs.insert(number, mac) {
                let message = format_args!("VF {number} belongs to {other} already");
                return Err(source.wrong(vf.span(), message));
            }
        }
        let mut pairs = BTreeSet::new();
        for pair in &self.pair {
            let [one, other] = pair.macs();
            if one == other {
                let message = "a pair needs two addresses that differ";
                return Err(source.wrong(pair.between.span(), message));
            }
            if !pairs.insert((one.min(other), one.max(other))) {
                let message = format_args!("there is a [[pair]] of {one} and {other} already");
                return Err(source.wrong(pair.between.span(), message));
            }
        }
        Ok(())
    }

    /// The addresses that VFs get.
    pub fn vfs(&self) -> BTreeMap<u16, MacAddress> {
        let with = self.guest.iter().filter_map(|guest| Some((guest.vf.as_ref()?, guest)));
        with.map(|(vf, guest)| (vf.get_ref().get(), guest.mac.get_ref().0)).collect()
    }

    /// Whether the uplink is to hear everything.
    pub fn promiscuous(&self) -> bool {
        let interface = self.uplink.interface.as_ref().map(Spanned::get_ref);
        self.uplink.promiscuous.unwrap_or(interface != self.card.pf.as_ref())
    }
}

impl Pair {
    /// Their addresses.
    pub fn macs(&self) -> [MacAddress; 2] {
        let [one, other] = self.between.get_ref();
        [one.0, other.0]
    }
}
