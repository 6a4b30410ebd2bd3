//! What is made: names, addresses, the host, its policy.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use xenvelope_backend::{Member, PairRoute};

use super::{INTERFACE, TapError};
use crate::cli::{TapArguments, TapRoute};
use crate::host::{GuestKind, GuestSpec, Host, HostError, HostSpec};
use crate::measure::{RouteName, exists_under};
use crate::nic::NicConfig;

/// Bytes of an Ethernet header with a tag.
const HEADER: usize = 18;

/// An interface that a namespace gets.
pub(super) struct Interface {
    pub namespace: String,
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
    /// What it is, for people.
    what: &'static str,
}

/// All that is made.
pub(super) struct Plan {
    pub host: HostSpec,
    pub mtu: u16,
    route: TapRoute,
    vlans: BTreeSet<u16>,
    /// Of the guests in their order, and of the peer outside.
    interfaces: Vec<Interface>,
}

impl Plan {
    pub(super) fn new(arguments: &TapArguments) -> Result<Plan, TapError> {
        let asked = &arguments.host;
        asked.check().map_err(|cause| TapError::Lacks(cause.to_string()))?;
        let (count, vfs) = (usize::from(arguments.guests), asked.card.vfs_for_guests());
        let route = arguments.route;
        let vlans: BTreeSet<u16> = arguments.vlan.iter().copied().collect();
        check_route(arguments, !vlans.is_empty())?;
        let guests: Vec<GuestSpec> = (0..count)
            .map(|index| {
                // Every second one, so that the route has both its ends.
                let stock = route == TapRoute::Named(RouteName::Stock) && index % 2 == 1;
                let made = GuestSpec::envelope(
                    index,
                    GuestSpec::numbered_mac(index),
                    index < vfs && !stock,
                );
                if stock { GuestSpec { kind: GuestKind::Stock, ..made } } else { made }
            })
            .collect();
        let mut interfaces: Vec<Interface> = guests
            .iter()
            .zip(1u16..)
            .map(|(guest, number)| Interface {
                namespace: format!("{}-{}", arguments.prefix, guest.name),
                ipv4: Ipv4Addr::new(10, 0, 0, number as u8),
                ipv6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number),
                what: match (guest.kind, guest.vf) {
                    (GuestKind::Stock, _) => "guest with netif only",
                    (GuestKind::Envelope, true) => "guest with a VF",
                    (GuestKind::Envelope, false) => "guest",
                },
            })
            .collect();
        interfaces.push(Interface {
            namespace: format!("{}-outside", arguments.prefix),
            ipv4: Ipv4Addr::new(10, 0, 255, 1),
            ipv6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xffff),
            what: "peer behind the card's wire",
        });
        let nic =
            NicConfig { max_frame: usize::from(arguments.mtu) + HEADER, ..asked.card.config() };
        let host = asked.spec(nic, guests);
        host.check()?;
        Ok(Plan { host, mtu: arguments.mtu, route, vlans, interfaces })
    }

    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter()
    }

    /// Tells the manager which route and which VLANs were asked for.
    pub(super) fn tell_manager(&self, host: &Host) -> Result<(), HostError> {
        let route = self.pair_route();
        let macs: Vec<_> = self.host.guests.iter().map(|guest| guest.mac).collect();
        let tagged = self.vlans.clone();
        host.driver_domain.call(move |backend| {
            let manager = backend.manager();
            manager.set_all_routes(route);
            if tagged.is_empty() {
                return;
            }
            for mac in macs {
                let networks = BTreeSet::from([0]);
                let member = Member { networks, tagged: tagged.clone(), ..Member::default() };
                manager.set_member(mac, member);
            }
        })
    }

    /// Waits until each guest has its direct channels, if that is the route.
    pub(super) fn wait_for_channels(
        &self,
        host: &Host,
        patience: Duration,
        stopped: &impl Fn() -> bool,
    ) -> Result<(), HostError> {
        if self.pair_route() != PairRoute::Direct {
            return Ok(());
        }
        let wanted = host.guests.len() - 1;
        let end = Instant::now() + patience + Duration::from_millis((wanted * wanted) as u64);
        for guest in &host.guests {
            while guest.snapshot()?.direct < wanted && !stopped() {
                if Instant::now() > end {
                    let what = format!("the direct channels of guest {}", guest.name);
                    return Err(HostError::TimedOut(what));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn pair_route(&self) -> PairRoute {
        match self.route {
            TapRoute::Auto => PairRoute::Auto,
            TapRoute::Named(route) => route.asks(),
        }
    }

    /// What was made and how to use it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let width = self.interfaces.iter().map(|of| of.namespace.len()).max().unwrap_or(0);
        for Interface { namespace, ipv4, ipv6, what } in &self.interfaces {
            let ipv4 = format!("{ipv4}/16");
            let ipv6 = format!("{ipv6}/64");
            // Writing to a string does not fail.
            let _ = writeln!(text, "{namespace:width$}  {ipv4:13} {ipv6:13} {what}");
        }
        let (first, last) = (&self.interfaces[0], &self.interfaces[self.interfaces.len() - 1]);
        let other = &self.interfaces[1];
        let (from, to, outside) = (&first.namespace, &other.namespace, &last.namespace);
        let _ = write!(
            text,
            "\n  ip netns exec {from} ping {}\n  ip netns exec {from} ping {}\n  \
             ip netns exec {to} iperf3 -s -D -1\n  ip netns exec {from} iperf3 -c {} --bidir\n  \
             ip netns exec {outside} ping {}\n",
            other.ipv4, other.ipv6, other.ipv4, first.ipv4
        );
        for vid in &self.vlans {
            let (high, low) = (vid >> 8, vid & 0xff);
            for (interface, number) in [(first, 1), (other, 2)] {
                let name = &interface.namespace;
                let tagged = format!("{INTERFACE}.{vid}");
                let _ = writeln!(
                    text,
                    "  ip -n {name} link add link {INTERFACE} name {tagged} type vlan id {vid} && \
                     ip -n {name} addr add 172.{}.{low}.{number}/24 dev {tagged} && \
                     ip -n {name} link set {tagged} up",
                    16 + high,
                );
            }
        }
        let guests = self.host.guests.len();
        let plural = if guests == 1 { "" } else { "s" };
        let _ = write!(
            text,
            "\nready: {guests} guest{plural} and a peer outside, route {}, MTU {}; Ctrl-C ends it \
             and removes the namespaces",
            self.route.name(),
            self.mtu
        );
        text
    }
}

fn check_route(arguments: &TapArguments, vlans: bool) -> Result<(), TapError> {
    let TapRoute::Named(route) = arguments.route else { return Ok(()) };
    let asked = &arguments.host;
    exists_under(route, asked.mechanism).map_err(|why| TapError::Lacks(why.to_string()))?;
    let (guests, card, vfs) = (arguments.guests, asked.card.kind(), asked.card.vfs_for_guests());
    let lacks = |what: &str| {
        let name = route.name();
        Err(TapError::Lacks(format!("route {name} is between two guests{what}")))
    };
    match route {
        _ if guests < 2 => lacks(": give --guests 2 or more"),
        RouteName::NicFrame | RouteName::NicEnvelope if vlans => lacks(
            " whose frames have no tags: leave --vlan out, or choose a route without the card",
        ),
        RouteName::NicFrame | RouteName::NicEnvelope if !card.switches() => lacks(&format!(
            " on a card that switches between VFs, and this is {card}: give --nic 3"
        )),
        RouteName::NicFrame | RouteName::NicEnvelope if vfs < 2 => {
            lacks(" with a VF: give --vfs 2 or more")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn plan(options: &[&str]) -> Result<Plan, TapError> {
        let line = ["xenvelope-sim", "tap"].iter().chain(options);
        let arguments = Arguments::try_parse_from(line).expect("options that clap takes");
        let Some(Command::Tap(arguments)) = arguments.command else { panic!("it is for tap") };
        Plan::new(&arguments)
    }

    #[test]
    fn two_hundred_guests_and_the_peer_outside_have_names_and_addresses_of_their_own() {
        let plan = plan(&["--guests", "200", "--prefix", "p"]).expect("a plan");
        assert_eq!(plan.interfaces.len(), 201);
        let names: BTreeSet<_> = plan.interfaces().map(|of| &of.namespace).collect();
        let ipv4: BTreeSet<_> = plan.interfaces().map(|of| of.ipv4).collect();
        let ipv6: BTreeSet<_> = plan.interfaces().map(|of| of.ipv6).collect();
        assert_eq!([names.len(), ipv4.len(), ipv6.len()], [201; 3]);
        assert!(ipv4.iter().all(|address| address.octets()[..2] == [10, 0]));
        assert!(names.contains(&"p-a".to_owned()) && names.contains(&"p-outside".to_owned()));
    }

    #[test]
    fn the_card_carries_a_packet_of_the_mtu_with_a_tag() {
        for mtu in [1280, 1500, 9000, 9216] {
            let plan = plan(&["--mtu", &mtu.to_string()]).expect("a plan");
            assert_eq!(plan.host.nic.max_frame, mtu + 14 + 4);
        }
    }

    #[test]
    fn by_route_stock_every_second_guest_knows_netif_only() {
        let plan = plan(&["--guests", "4", "--route", "stock"]).expect("a plan");
        let kinds: Vec<_> = plan.host.guests.iter().map(|guest| guest.kind).collect();
        use GuestKind::{Envelope, Stock};
        assert_eq!(kinds, [Envelope, Stock, Envelope, Stock]);
        assert!(plan.host.guests.iter().all(|guest| !(guest.vf && guest.kind == Stock)));
    }

    #[test]
    fn a_route_without_what_it_needs_is_refused() {
        for options in [
            &["--route", "nic-frame", "--vfs", "1"][..],
            &["--route", "nic-envelope", "--vfs", "0"],
            &["--route", "direct-envelope", "--guests", "1"],
            &["--route", "nic-envelope", "--vlan", "5"],
            &["--route", "nic-envelope", "--nic", "2"],
            &["--route", "bridge-receiver-copy"],
            &["--route", "nic-envelope", "--mechanism", "transitive"],
            &["--nic", "0", "--vfs", "3"],
            &["--nic", "3-driver-domain", "--no-anti-spoof"],
            &["--engine-gbit", "5"],
        ] {
            let refused = plan(options).err().expect("it is refused");
            assert!(refused.is_input(), "{refused}");
        }
        for options in [
            &["--guests", "1"][..],
            &["--nic", "0", "--route", "bridge-copy"],
            &["--nic", "1"],
            &["--nic", "2", "--route", "direct-envelope"],
            &["--nic", "3-driver-domain", "--route", "switch-envelope", "--mover", "engine"],
            &["--route", "bridge-receiver-copy", "--mechanism", "transitive"],
            &["--route", "nic-envelope", "--mechanism", "keyed"],
        ] {
            assert!(plan(options).is_ok(), "{options:?}");
        }
    }
}
