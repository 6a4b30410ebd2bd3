//! The configuration's part that the manager follows, and that can change while guests run.

use std::collections::{BTreeMap, BTreeSet};

use xenvelope_backend::{Manager, Member, PairRoute};
use xenvelope_switch::MacAddress;

use crate::config::Config;

/// What is asked of the manager.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    members: BTreeMap<MacAddress, Member>,
    routes: BTreeMap<(MacAddress, MacAddress), PairRoute>,
    default_route: PairRoute,
}

impl Policy {
    /// What a configuration asks for.
    pub fn of(config: &Config) -> Policy {
        let members = config.guest.iter().map(|guest| {
            let member = Member {
                networks: guest.networks.clone(),
                default_route: guest.default_route,
                vlan: guest.vlan.get(),
                ..Member::default()
            };
            (guest.mac.get_ref().0, member)
        });
        let routes = config.pair.iter().map(|pair| {
            let [one, other] = pair.macs();
            ((one.min(other), one.max(other)), pair.route)
        });
        Policy {
            members: members.collect(),
            routes: routes.collect(),
            default_route: config.default_route_between_guests,
        }
    }

    /// Tells the manager what differs from `before`.
    pub fn apply(&self, before: &Policy, manager: &mut Manager) {
        for (mac, member) in &self.members {
            if before.members.get(mac) != Some(member) {
                manager.set_member(*mac, member.clone());
            }
        }
        for mac in before.members.keys().filter(|mac| !self.members.contains_key(mac)) {
            manager.set_member(*mac, not_named());
        }
        if (&self.routes, self.default_route) != (&before.routes, before.default_route) {
            // This forgets the pairs.
            manager.set_all_routes(self.default_route);
            for ((one, other), route) in &self.routes {
                manager.set_route(*one, *other, *route);
            }
        }
    }
}

/// An interface that is in no configuration.
fn not_named() -> Member {
    Member { networks: BTreeSet::from([0]), ..Member::default() }
}
