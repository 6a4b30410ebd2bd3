//! Which routes there are under which grant mechanism, and why not the others.

use thiserror::Error;
use xenvelope_grant::seam::Mechanism;

use super::RouteName;

/// Why a route does not exist under a mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotUnder {
    /// The card's switch would have to make a grant.
    #[error(
        "route {0} does not exist under --mechanism transitive: the card's switch cannot make a \
         transitive grant"
    )]
    CardCannotGrant(RouteName),
    /// Nobody stands between the two who could pass a grant on.
    #[error(
        "route {0} does not exist under --mechanism transitive: no driver domain is on the way \
         that could pass the grant on"
    )]
    NobodyBetween(RouteName),
    /// The sender has found out who reads.
    #[error(
        "route {0} does not exist under --mechanism transitive: it grants to the receiver itself; \
         ask for route bridge-receiver-copy"
    )]
    GrantsToReceiver(RouteName),
    /// Only a transitive grant does it.
    #[error(
        "route {0} needs --mechanism transitive: the sender grants to the driver domain, and no \
         other grant can be passed on"
    )]
    NeedsTransitive(RouteName),
    /// The mechanism makes no difference to it.
    #[error(
        "route {0} is the same under every mechanism, since nothing is granted to a receiving \
         guest for reading; measure it without --mechanism"
    )]
    NoDifference(RouteName),
}

/// Whether a route exists under a mechanism.
///
/// # Errors
/// Why it does not.
pub fn exists_under(route: RouteName, mechanism: Mechanism) -> Result<(), NotUnder> {
    use Mechanism::{Destination, Keyed, Transitive};
    use RouteName::{
        BridgeCopy, BridgeReceiverCopy, DirectEnvelope, External, NicEnvelope, NicFrame, NicQueue,
        Stock, SwitchEnvelope,
    };
    Err(match (mechanism, route) {
        (Transitive, BridgeReceiverCopy) => return Ok(()),
        (Destination | Keyed, BridgeReceiverCopy) => NotUnder::NeedsTransitive(route),
        (Destination, _) | (Keyed, SwitchEnvelope | DirectEnvelope | NicEnvelope) => return Ok(()),
        (Transitive, NicEnvelope) => NotUnder::CardCannotGrant(route),
        (Transitive, DirectEnvelope) => NotUnder::NobodyBetween(route),
        (Transitive, SwitchEnvelope) => NotUnder::GrantsToReceiver(route),
        (Transitive | Keyed, BridgeCopy | NicFrame | NicQueue | Stock | External) => {
            NotUnder::NoDifference(route)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_has_its_routes_and_a_reason_for_the_others() {
        let routes = |mechanism| {
            let exists = |route: &RouteName| exists_under(*route, mechanism).is_ok();
            RouteName::ALL.into_iter().filter(exists).map(RouteName::name).collect::<Vec<_>>()
        };
        let envelopes = ["switch-envelope", "direct-envelope", "nic-envelope"];
        assert_eq!(routes(Mechanism::Transitive), ["bridge-receiver-copy"]);
        assert_eq!(routes(Mechanism::Keyed), envelopes);
        let destination = routes(Mechanism::Destination);
        assert!(!destination.contains(&"bridge-receiver-copy"));
        assert_eq!(destination.len(), RouteName::ALL.len() - 1);
        for mechanism in Mechanism::ALL {
            for route in RouteName::ALL {
                if let Err(why) = exists_under(route, mechanism) {
                    let why = why.to_string();
                    assert!(why.contains(route.name()) && !why.contains('\n'), "{why}");
                }
            }
        }
    }
}
