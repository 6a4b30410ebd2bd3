//! Arbitrary frames at arbitrary ports: what must hold whatever is decided.

use proptest::prelude::*;

use super::super::{Destination, PortId};
use super::{ALICE, BOB, CAROL, STRANGER, TRUNK, UPLINK, frame, mac, switch};
use crate::ethernet::MacAddress;

fn address() -> impl Strategy<Value = MacAddress> {
    prop_oneof![
        4 => (1u8..5).prop_map(mac),
        1 => Just(STRANGER),
        1 => Just(MacAddress::BROADCAST),
        1 => any::<[u8; 6]>().prop_map(MacAddress),
    ]
}

fn tci() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![Just(None), Just(Some(10)), Just(Some(20)), any::<Option<u16>>()]
}

/// Who owns an address, and in which VLANs, said once more and differently.
fn owns(port: PortId, mac_address: MacAddress, vid: u16) -> bool {
    let (number, vids): (u8, &[u16]) = match port {
        ALICE => (1, &[10]),
        BOB => (2, &[10]),
        CAROL => (3, &[20]),
        TRUNK => (4, &[0, 10, 20]),
        _ => return false,
    };
    mac_address == mac(number) && vids.contains(&vid)
}

proptest! {
    #[test]
    fn whatever_comes_in_the_rules_hold(
        frames in proptest::collection::vec((0u32..6, address(), address(), tci(), 0u64..10), 1..100),
    ) {
        let mut switch = switch();
        for (port, source, destination, tci, now_ns) in frames {
            let port = PortId(port);
            let Ok(forward) = switch.ingress(port, &frame(source, destination, tci), now_ns) else {
                continue;
            };
            let vid = forward.vid;
            // Only who owns the source has sent it.
            if port == UPLINK {
                prop_assert!(![ALICE, BOB, CAROL, TRUNK].iter().any(|&p| owns(p, source, vid)));
            } else {
                prop_assert!(owns(port, source, vid));
            }
            match forward.to {
                // Only who owns the destination gets it, or the world outside.
                Destination::Port(to) => {
                    prop_assert!(to != port && !destination.is_multicast());
                    prop_assert!(to == UPLINK || owns(to, destination, vid));
                }
                Destination::Flood => {
                    prop_assert!(destination.is_multicast());
                    for to in switch.flood_ports(vid, port) {
                        let member = (1..5).any(|number| owns(to, mac(number), vid));
                        prop_assert!(to != port && (to == UPLINK || member));
                    }
                }
            }
        }
    }
}
