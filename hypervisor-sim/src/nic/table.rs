//! The card's switch: where a frame goes. A card that does not switch sends all that its ports
//! send out of the wire, and steers what comes in.
//!
//! Static, as in an 82576: addresses are set by the PF's owner, and nothing is learned. What no
//! port owns is beyond the wire. The PF is a trunk, a VF sees one VLAN and no tags.

use std::collections::{HashMap, HashSet};

/// A MAC address.
pub type Mac = [u8; 6];

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A port of the host: the PF is 0, VF `n` is `n + 1`.
    Port(usize),
    /// The wire.
    Wire,
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Destinations {
    /// One bit for each port.
    pub(super) ports: u64,
    /// Whether it leaves the host.
    pub(super) wire: bool,
}

/// What the switch decides by.
#[derive(Debug, Default)]
pub(super) struct Table {
    owners: HashMap<(Mac, u16), usize>,
    /// For each VLAN, the ports in it: what a broadcast reaches.
    members: HashMap<u16, u64>,
    promiscuous: bool,
    /// Whether frames go from one port to another.
    switches: bool,
}

/// What a VF with a link owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owned {
    /// Its number.
    pub(super) port: usize,
    /// Its address.
    pub(super) mac: Mac,
    /// Its VLAN, 0 if none.
    pub(super) vid: u16,
    /// Whether broadcast and multicast of that VLAN reach it.
    pub(super) floods: bool,
}

/// The PF, as a bit of [`Destinations::ports`].
const PF_BIT: u64 = 1;

impl Table {
    /// Made anew from what each port with a link owns: the VFs, and the
    /// PF's filters, if it has a link.
    pub(super) fn new(
        vfs: impl Iterator<Item = Owned>,
        pf: Option<&HashSet<(Mac, u16)>>,
        promiscuous: bool,
        switches: bool,
    ) -> Table {
        let promiscuous = promiscuous && pf.is_some();
        let mut table = Table { promiscuous, switches, ..Table::default() };
        for &filter in pf.into_iter().flatten() {
            table.owners.insert(filter, 0);
            *table.members.entry(filter.1).or_default() |= PF_BIT;
        }
        if pf.is_some() {
            *table.members.entry(0).or_default() |= PF_BIT;
        }
        for Owned { port, mac, vid, floods } in vfs {
            table.owners.insert((mac, vid), port);
            *table.members.entry(vid).or_default() |= u64::from(floods) << port;
        }
        table
    }

    /// Where a frame for `to` in VLAN `vid` goes.
    pub(super) fn route(&self, from: Source, to: Mac, vid: u16) -> Destinations {
        let back = match from {
            Source::Port(port) => 1u64 << port,
            Source::Wire => 0,
        };
        let outwards = from != Source::Wire;
        if outwards && !self.switches {
            return Destinations { ports: 0, wire: true };
        }
        let promiscuous = if self.promiscuous { PF_BIT } else { 0 };
        if to[0] & 1 != 0 {
            let members = self.members.get(&vid).copied().unwrap_or(0) | promiscuous;
            return Destinations { ports: members & !back, wire: outwards };
        }
        match self.owners.get(&(to, vid)) {
            Some(&port) => Destinations { ports: (1 << port) & !back, wire: false },
            None if outwards => Destinations { ports: 0, wire: true },
            None => Destinations { ports: promiscuous, wire: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];
    const C: Mac = [2, 0, 0, 0, 0, 3];
    const ALL: Mac = [0xFF; 6];

    fn table(promiscuous: bool) -> Table {
        let filters = HashSet::from([(C, 5)]);
        Table::new(vfs().into_iter(), Some(&filters), promiscuous, true)
    }

    fn vfs() -> [Owned; 2] {
        [(1, A, 0), (2, B, 5)].map(|(port, mac, vid)| Owned { port, mac, vid, floods: true })
    }

    #[test]
    fn without_a_switch_what_is_sent_leaves_and_what_comes_is_steered() {
        let quiet = vfs().map(|vf| Owned { floods: vf.port == 1, ..vf });
        let table = Table::new(quiet.into_iter(), Some(&HashSet::new()), true, false);
        let wire = Destinations { ports: 0, wire: true };
        for from in [0, 1, 2] {
            for to in [A, ALL] {
                assert_eq!(table.route(Source::Port(from), to, 0), wire, "{from}");
            }
        }
        let ports = |ports| Destinations { ports, wire: false };
        assert_eq!(table.route(Source::Wire, A, 0), ports(0b010));
        assert_eq!(table.route(Source::Wire, C, 0), ports(0b001), "nobody's: the PF's");
        assert_eq!(table.route(Source::Wire, ALL, 0), ports(0b011));
        assert_eq!(table.route(Source::Wire, ALL, 5), ports(0b001), "no floods to port 2");
    }

    #[test]
    fn known_unicast_only_in_its_vlan() {
        let table = table(true);
        let port = |ports| Destinations { ports, wire: false };
        let wire = Destinations { ports: 0, wire: true };
        assert_eq!(table.route(Source::Port(2), C, 5), port(1));
        assert_eq!(table.route(Source::Port(2), A, 5), wire);
        assert_eq!(table.route(Source::Port(1), A, 0), port(0), "never back");
        assert_eq!(table.route(Source::Wire, A, 0), port(2));
        assert_eq!(table.route(Source::Wire, A, 5), port(1), "unknown: promiscuous PF");
    }

    #[test]
    fn broadcast_reaches_the_vlan() {
        let quiet = table(false);
        let to = |ports, wire| Destinations { ports, wire };
        assert_eq!(quiet.route(Source::Port(1), ALL, 0), to(0b001, true));
        assert_eq!(quiet.route(Source::Port(2), ALL, 5), to(0b001, true));
        assert_eq!(quiet.route(Source::Port(0), ALL, 5), to(0b100, true));
        assert_eq!(quiet.route(Source::Wire, ALL, 9), to(0, false));
        assert_eq!(table(true).route(Source::Wire, ALL, 9), to(1, false));
        assert_eq!(quiet.route(Source::Wire, B, 9), to(0, false));
    }
}
