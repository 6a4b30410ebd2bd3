//! The forwarding tables: one for each frontend, with what it may reach.

use std::collections::BTreeMap;

use xenvelope_grant::Peer;
use xenvelope_grant::seam::{Hypervisor, Mechanism, NicPort};
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, Entry, EntryFlags};
use xenvelope_switch::{MacAddress, PortConfig, PortId};

use super::{DefaultRoute, PairRoute};
use crate::driver_domain::Backend;
use crate::uplink::PfControl;

/// What the manager knows of an interface that is connected.
#[derive(Clone, Copy)]
struct Endpoint {
    port: u32,
    mac: MacAddress,
    peer: Peer,
    envelopes: bool,
    vf: bool,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Brings tables, floods and direct channels in line with what is asked for and what is
    /// there. Whether anything had changed.
    pub(crate) fn poll_manager(&mut self) -> bool {
        if !self.manager.take_dirty() {
            return false;
        }
        self.wake_all();
        let endpoints: Vec<Endpoint> = self
            .vifs
            .iter()
            .filter_map(|(port, vif)| {
                let rings = vif.rings.as_ref()?;
                let peer = Peer { domid: vif.guest, incarnation: vif.incarnation };
                let envelopes = rings.envelopes.is_some();
                Some(Endpoint { port: *port, mac: vif.mac, peer, envelopes, vf: vif.vf })
            })
            .collect();
        if self.manager.any_receiver_copies()
            && let Err(lacks) = self.host.has(Mechanism::Transitive)
        {
            tracing::warn!(%lacks, "receivers were to copy; this domain copies for them");
        }
        self.apply_vlans();
        let queues = self.assign_queues();
        let channels = self.wanted_channels(&endpoints);
        let ended = self.end_channels(&channels);
        for stock in endpoints.iter().filter(|endpoint| !endpoint.envelopes) {
            self.switch.set_flood(PortId(stock.port), true);
        }
        for of in endpoints.iter().filter(|endpoint| endpoint.envelopes) {
            let wanted: BTreeMap<(MacAddress, u16), Entry> = endpoints
                .iter()
                .filter(|to| to.port != of.port)
                .filter(|to| self.manager.may_reach(of.mac, to.mac))
                .flat_map(|to| self.entries(of, to))
                .map(|entry| ((entry.mac, entry.vid), entry))
                .collect();
            let default = if of.vf && self.manager.default_route(of.mac) == DefaultRoute::Auto {
                CHANNEL_VF
            } else {
                CHANNEL_DRIVER_DOMAIN
            };
            // A card that does not switch would take floods to the outside and to no guest.
            let floods_by_us = default != CHANNEL_VF || !self.card.switches();
            // Who gets floods by its VF does not get them from us too.
            self.switch.set_flood(PortId(of.port), floods_by_us);
            let Some(table) = self.vifs.get_mut(&of.port).and_then(|vif| vif.table.as_mut()) else {
                continue;
            };
            let stale: Vec<Entry> =
                table.entries().filter(|of| !wanted.contains_key(&(of.mac, of.vid))).collect();
            for entry in stale {
                table.remove(entry.mac, entry.vid);
            }
            let present: BTreeMap<(MacAddress, u16), Entry> =
                table.entries().map(|entry| ((entry.mac, entry.vid), entry)).collect();
            for ((mac, vid), entry) in wanted {
                if present.get(&(mac, vid)) != Some(&entry) && table.insert(entry).is_err() {
                    // Frames to it take the default route, where the same rules hold.
                    tracing::warn!(%mac, vid, "forwarding table is full");
                }
            }
            table.set_default_route(default);
            table.set_floods_by_driver_domain(floods_by_us && default == CHANNEL_VF);
        }
        self.drop_overtaken();
        self.arrange_channels(&ended, &channels);
        for endpoint in &endpoints {
            // The card must pass frames for guests without a VF or a queue on to us.
            let vid = self.manager.vlan(endpoint.mac);
            let behind_us = !endpoint.vf && !queues.contains(&endpoint.port);
            self.card.reach(endpoint.mac, vid, behind_us);
        }
        true
    }

    /// The pairs that are to have a direct channel.
    fn wanted_channels(&self, endpoints: &[Endpoint]) -> Vec<(u32, u32)> {
        let mut wanted = Vec::new();
        for (index, one) in endpoints.iter().enumerate() {
            for other in &endpoints[index + 1..] {
                if one.envelopes
                    && other.envelopes
                    && self.manager.route(one.mac, other.mac) == PairRoute::Direct
                    && self.manager.may_reach(one.mac, other.mac)
                {
                    wanted.push((one.port, other.port));
                }
            }
        }
        wanted
    }

    /// Puts ports into the VLANs that were asked for.
    fn apply_vlans(&mut self) {
        for (port, vif) in &mut self.vifs {
            let vlan = self.manager.port_vlan(vif.mac);
            if vlan == vif.vlan {
                continue;
            }
            self.switch.remove_port(PortId(*port));
            let config = PortConfig::Guest { macs: vec![vif.mac], vlan: vlan.clone() };
            match self.switch.add_port(PortId(*port), config) {
                // Whether it takes floods is set for all ports below.
                Ok(()) => vif.vlan = vlan,
                // Without a port it reaches nobody; the next change tries again.
                Err(error) => tracing::warn!(mac = %vif.mac, %error, "cannot change VLAN"),
            }
        }
    }

    /// The entries for `to` in the table of `of`: one for frames without a tag, and one for each
    /// VLAN whose tags both may use.
    fn entries(&self, of: &Endpoint, to: &Endpoint) -> impl Iterator<Item = Entry> {
        let mut entry = self.entry(of, to);
        let mut tagged =
            self.manager.tagged(of.mac).intersection(self.manager.tagged(to.mac)).peekable();
        if entry.channel == CHANNEL_VF && tagged.peek().is_some() {
            // No VF sends or receives a tag. Frames without one take the same way: those of a pair
            // are kept in order, so two ways would wait for each other all the time.
            entry.channel = CHANNEL_DRIVER_DOMAIN;
            entry.flags |= EntryFlags::ENVELOPE;
        }
        std::iter::once(entry).chain(tagged.map(move |vid| Entry { vid: *vid, ..entry }))
    }

    /// The entry for `to` in the table of `of`.
    fn entry(&self, of: &Endpoint, to: &Endpoint) -> Entry {
        let mut entry = self.route_entry(of, to);
        if of.vf && !self.card.anti_spoof() {
            // Whatever way envelopes should come: one that comes by the VF needs a tag.
            entry.flags |= EntryFlags::TAGGED;
        }
        entry
    }

    fn route_entry(&self, of: &Endpoint, to: &Endpoint) -> Entry {
        let mut entry = Entry {
            mac: to.mac,
            vid: 0,
            peer: to.peer,
            channel: CHANNEL_DRIVER_DOMAIN,
            flags: EntryFlags::ENVELOPE,
        };
        let asked = self.manager.route(of.mac, to.mac);
        if matches!(asked, PairRoute::Bridge | PairRoute::BridgeReceiverCopy) {
            entry.flags = EntryFlags::empty();
            return entry;
        }
        if !to.envelopes {
            // For a guest without envelopes we are the destination.
            entry.peer = Peer { domid: self.host.domid(), incarnation: 0 };
            return entry;
        }
        let both_vf = of.vf && to.vf && self.card.switches();
        match asked {
            PairRoute::NicFrame if both_vf => {
                entry.channel = CHANNEL_VF;
                entry.flags = EntryFlags::empty();
            }
            PairRoute::NicEnvelope | PairRoute::Auto if both_vf => {
                entry.channel = CHANNEL_VF;
            }
            PairRoute::Direct => {
                if let Some(number) = self.manager.channel_number(of.port, to.port) {
                    entry.channel = number;
                }
            }
            _ => {}
        }
        entry
    }
}
