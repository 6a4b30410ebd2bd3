//! The routes that are compared, and between whom each is measured.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use xenvelope_backend::PairRoute;

use super::Cell;
use crate::host::{Guest, Host};

/// A route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RouteName {
    /// Frames by netif through the driver domain's switch; the driver domain copies.
    BridgeCopy,
    /// Frames by netif to the driver domain, which passes the right to read them on; the receiver
    /// copies.
    BridgeReceiverCopy,
    /// Envelopes through the driver domain's switch.
    SwitchEnvelope,
    /// Envelopes on a channel between the two guests.
    DirectEnvelope,
    /// Frames through the card's switch, by DMA.
    NicFrame,
    /// Envelopes through the card's switch.
    NicEnvelope,
    /// To and from a guest that knows netif only.
    Stock,
    /// To a peer outside, by the default route.
    External,
    /// From a peer outside, by DMA into the buffers that the guest posted to its queue.
    NicQueue,
}

/// No route has that name.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("there is no route {0:?}; the routes are {names}", names = RouteName::names())]
pub struct UnknownRoute(pub String);

impl RouteName {
    /// All of them, in the order of the table.
    pub const ALL: [RouteName; 9] = [
        RouteName::BridgeCopy,
        RouteName::BridgeReceiverCopy,
        RouteName::SwitchEnvelope,
        RouteName::DirectEnvelope,
        RouteName::NicFrame,
        RouteName::NicEnvelope,
        RouteName::Stock,
        RouteName::External,
        RouteName::NicQueue,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            RouteName::BridgeCopy => "bridge-copy",
            RouteName::BridgeReceiverCopy => "bridge-receiver-copy",
            RouteName::SwitchEnvelope => "switch-envelope",
            RouteName::DirectEnvelope => "direct-envelope",
            RouteName::NicFrame => "nic-frame",
            RouteName::NicEnvelope => "nic-envelope",
            RouteName::Stock => "stock",
            RouteName::External => "external",
            RouteName::NicQueue => "nic-queue",
        }
    }

    fn names() -> String {
        RouteName::ALL.map(RouteName::name).join(", ")
    }

    /// What it asks of the manager for the pair.
    pub const fn asks(self) -> PairRoute {
        match self {
            RouteName::BridgeCopy => PairRoute::Bridge,
            RouteName::BridgeReceiverCopy => PairRoute::BridgeReceiverCopy,
            RouteName::SwitchEnvelope => PairRoute::Switch,
            RouteName::DirectEnvelope => PairRoute::Direct,
            RouteName::NicFrame => PairRoute::NicFrame,
            RouteName::NicEnvelope => PairRoute::NicEnvelope,
            RouteName::Stock | RouteName::External | RouteName::NicQueue => PairRoute::Auto,
        }
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RouteName {
    type Err = UnknownRoute;
    fn from_str(text: &str) -> Result<RouteName, UnknownRoute> {
        RouteName::ALL
            .into_iter()
            .find(|route| route.name() == text)
            .ok_or_else(|| UnknownRoute(text.to_owned()))
    }
}

/// The transfers of a route on this host, or what it lacks for it.
pub fn plan(host: &Host, route: RouteName) -> Result<Vec<Cell>, String> {
    let envelope: Vec<&Guest> = host.guests.iter().filter(|guest| guest.envelopes).collect();
    let with_vf: Vec<&Guest> =
        envelope.iter().copied().filter(|guest| guest.vf.is_some()).collect();
    let stock = host.guests.iter().find(|guest| !guest.envelopes);
    let cell = |from: &str, to: &str| Cell { route, from: from.to_owned(), to: to.to_owned() };
    match route {
        RouteName::NicFrame | RouteName::NicEnvelope if !host.nic.config().kind.switches() => {
            let (name, card) = (route.name(), host.nic.config().kind);
            Err(format!("route {name} needs a card that switches between VFs, not {card}"))
        }
        RouteName::NicFrame | RouteName::NicEnvelope => match with_vf[..] {
            [one, other, ..] => Ok(vec![cell(&one.name, &other.name)]),
            _ => Err(format!("route {} needs two guests with a VF", route.name())),
        },
        RouteName::Stock => match (envelope.first(), stock) {
            (Some(guest), Some(stock)) => {
                Ok(vec![cell(&guest.name, &stock.name), cell(&stock.name, &guest.name)])
            }
            _ => Err("route stock needs a stock guest and an envelope guest".to_owned()),
        },
        RouteName::External => match envelope.first() {
            Some(guest) => Ok(vec![cell(&guest.name, EXTERNAL)]),
            None => Err("route external needs an envelope guest".to_owned()),
        },
        RouteName::NicQueue => {
            let card = host.card();
            if !card.vfs_held_by.has_queues(card.kind) {
                return Err(format!(
                    "route nic-queue needs a multi-queue card, or VFs that the driver domain \
                     holds, not {}",
                    card.kind
                ));
            }
            let served = |guest: &&&Guest| host.has_queue(guest.mac).unwrap_or(false);
            match envelope.iter().find(served) {
                Some(guest) => Ok(vec![cell(EXTERNAL, &guest.name)]),
                None => Err("route nic-queue needs an envelope guest that has a queue".to_owned()),
            }
        }
        _ => match envelope[..] {
            [one, other, ..] => Ok(vec![cell(&one.name, &other.name)]),
            _ => Err(format!("route {} needs two envelope guests", route.name())),
        },
    }
}

/// The name of the peer outside.
pub(super) const EXTERNAL: &str = "external";
