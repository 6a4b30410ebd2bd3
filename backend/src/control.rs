//! The control plane: the toolstack makes an interface, the frontend connects, the frontend
//! goes away. All of it is read from the store, and all that a guest wrote there is its word.
//!
//! What a process before us has left is found in the store as well: our own state there says how
//! far an interface was.

mod connect;
mod follow;

use std::collections::BTreeSet;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Hypervisor, NicPort, Pinned};
use xenvelope_grant::xenbus::{Directory, PATH_MAX, Transaction, XenbusState, key};
use xenvelope_switch::{PortConfig, PortId};

use crate::driver_domain::{Backend, BackendError};
use crate::uplink::PfControl;
use crate::vif::{Phase, Vif};

/// Watch token of the directory in which the toolstack makes interfaces. Ports' frontends are
/// watched with their port number, from 1.
const WATCH_TOOLSTACK: u32 = 0;
/// Store events that are looked at in one round.
const EVENTS: usize = 64;
/// Where the toolstack makes interfaces, relative to the driver domain's own directory.
const VIFS: &str = "backend/vif";

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    pub(crate) fn watch_toolstack(&mut self) -> Result<(), BackendError> {
        self.host.watch(VIFS, WATCH_TOOLSTACK)?;
        Ok(())
    }

    /// Ends all watches.
    pub(crate) fn unwatch_all(&mut self) {
        for port in self.vifs.keys() {
            self.host.unwatch(*port);
        }
        self.host.unwatch(WATCH_TOOLSTACK);
    }

    /// Follows the store. Whether anything changed.
    pub(crate) fn poll_store(&mut self) -> bool {
        let mut busy = false;
        let mut path = [0; PATH_MAX];
        // A batch, and each interface once: who writes the store without end must not keep us
        // from the others' frames (XSA-326).
        let (mut made, mut all) = (BTreeSet::new(), false);
        let (mut states, mut relays) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..EVENTS {
            let Some(event) = self.host.next(&mut path) else { break };
            busy = true;
            if event.token == WATCH_TOOLSTACK {
                let named = event.path.rsplit_once("backend/vif/").map(|(_, below)| below);
                let mut parts = named.unwrap_or("").split('/');
                let guest =
                    parts.next().and_then(|part| part.parse().ok()).and_then(DomId::ordinary);
                let handle = parts.next().and_then(|part| part.parse().ok());
                match (guest, handle, parts.next()) {
                    // What only we write says nothing.
                    (_, _, Some(below)) if !OTHERS_WRITE.contains(&below) => {}
                    (Some(guest), Some(handle), _) => drop(made.insert((guest, handle))),
                    _ => all = true,
                }
            } else {
                let direct = event.path.contains("/direct");
                if direct { &mut relays } else { &mut states }.insert(event.token);
            }
        }
        if all {
            self.look_at_all();
        }
        for (guest, handle) in made {
            self.look_at(guest, handle);
        }
        for port in states {
            self.follow_or_close(port);
        }
        for port in relays {
            self.poll_relay(port);
        }
        busy
    }

    fn look_at_all(&mut self) {
        // Those that are known, first: what is gone is not in any list.
        let known: Vec<(DomId, u32)> =
            self.vifs.values().map(|vif| (vif.guest, vif.handle)).collect();
        for (guest, handle) in known {
            self.look_at(guest, handle);
        }
        let mut guests = [0; 4096];
        let guests = self.host.list(VIFS, &mut guests).unwrap_or("").to_owned();
        for guest in guests.split('\0').filter_map(|name| name.parse().ok()) {
            let Some(guest) = DomId::ordinary(guest) else {
                continue;
            };
            let mut handles = [0; 512];
            let directory = format!("{VIFS}/{guest}");
            let handles = self.host.list(&directory, &mut handles).unwrap_or("").to_owned();
            for handle in handles.split('\0').filter_map(|name| name.parse().ok()) {
                self.look_at(guest, handle);
            }
        }
    }

    /// The toolstack has made, changed or removed an interface, or a hotplug script has.
    fn look_at(&mut self, guest: DomId, handle: u32) {
        let known = self
            .vifs
            .iter()
            .find(|(_, vif)| vif.guest == guest && vif.handle == handle)
            .map(|(port, _)| *port);
        let Ok(back) = Directory::new(VIFS)
            .and_then(|directory| directory.child(guest))
            .and_then(|directory| directory.child(handle))
        else {
            return;
        };
        let there = back.text(&self.host, key::FRONTEND).is_ok();
        match (known, there) {
            (None, true) if self.is_ours(&back) => self.find(guest, handle, back),
            (Some(port), false) => {
                self.take_down(port);
                self.forget(port);
            }
            // Ours is past Initialising since we made it: the toolstack has made another
            // interface in its place.
            (Some(port), true) if back.state(&self.host) == XenbusState::Initialising => {
                self.take_down(port);
                self.forget(port);
                self.look_at(guest, handle);
            }
            (Some(port), true) => self.follow_or_close(port),
            _ => {}
        }
    }

    /// Whether an interface is for us: others' are left alone, Linux' netback may serve them.
    fn is_ours(&self, back: &Directory) -> bool {
        let Some(ours) = self.config.script else { return true };
        back.text(&self.host, key::SCRIPT)
            .is_ok_and(|script| script.rsplit('/').next() == Some(ours))
    }

    /// An interface that we do not know yet.
    fn find(&mut self, guest: DomId, handle: u32, back: Directory) {
        let port = self.next_port;
        if let Err(error) = self.create(guest, handle, back) {
            tracing::warn!(%guest, handle, %error, "cannot serve interface");
            // Half an interface would keep its address from being used again. If the switch
            // refused the port, it is not there, and this does nothing.
            self.forget(port);
            // The toolstack waits for this, whatever was wrong.
            if back.state(&self.host) == XenbusState::Closing {
                let mut keys = Transaction::new();
                let _ = keys.state(&back, XenbusState::Closed, Some(guest)).commit(&self.host);
            }
        }
    }

    /// Takes an interface on: a new one, or one that a process before us has left.
    fn create(&mut self, guest: DomId, handle: u32, back: Directory) -> Result<(), BackendError> {
        let front = Directory::new(&back.text(&self.host, key::FRONTEND)?)?;
        let mac: xenvelope_switch::MacAddress =
            back.text(&self.host, key::MAC)?.parse().map_err(|_| BackendError::Mac)?;
        let port = self.next_port;
        let vlan = self.manager.port_vlan(mac);
        self.switch
            .add_port(PortId(port), PortConfig::Guest { macs: vec![mac], vlan: vlan.clone() })?;
        self.next_port += 1;
        let (phase, new) = match back.state(&self.host) {
            XenbusState::Connected => (Phase::Connected, false),
            XenbusState::Closing => (Phase::Closing, false),
            XenbusState::Closed => (Phase::Closed, false),
            _ => (Phase::InitWait, true),
        };
        let vif = Vif {
            guest,
            handle,
            front,
            back,
            mac,
            phase,
            incarnation: self.next_incarnation(),
            vlan,
            lingering: Vec::new(),
            vf: false,
            rings: None,
            table: None,
        };
        self.vifs.insert(port, vif);
        if self.config.envelopes {
            // Direct channels are arranged anew. The guest must be able to list the directory
            // before there is anything in it.
            let direct = back.child(key::DIRECT)?;
            self.host.commit(&[
                Change::Remove { path: direct.path() },
                Change::Write { path: direct.path(), value: "", reader: Some(guest) },
            ])?;
        }
        if new {
            self.offer(port)?;
        }
        self.host.watch(front.path(), port)?;
        Ok(())
    }

    /// Our features, and then it is the frontend's turn.
    fn offer(&mut self, port: u32) -> Result<(), BackendError> {
        let Some(vif) = self.vifs.get_mut(&port) else {
            return Ok(());
        };
        vif.phase = Phase::InitWait;
        let (back, reader) = (vif.back, Some(vif.guest));
        let mut keys = Transaction::new();
        for feature in FEATURES {
            keys.write(&back, feature, 1, reader);
        }
        keys.write(&back, key::MULTI_QUEUE_MAX_QUEUES, self.max_queues(), reader);
        if self.config.envelopes {
            keys.write(&back, key::FEATURE_ENVELOPE, 1, reader);
        }
        if self.card.has_queues() {
            keys.write(&back, key::FEATURE_NIC_QUEUE, 1, reader);
        }
        keys.state(&back, XenbusState::InitWait, reader).commit(&self.host)?;
        Ok(())
    }

    /// How many queues a frontend may have.
    fn max_queues(&self) -> usize {
        self.config.queues.clamp(1, MAX_QUEUES)
    }

    /// An incarnation that this host has not had: 16 bits of the manager's epoch, 32 bits of
    /// count.
    fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        (self.config.epoch & 0xffff) << 32 | self.incarnations & 0xffff_ffff
    }

    fn write_state(&self, port: u32, state: XenbusState) -> Result<(), BackendError> {
        // A directory that the toolstack has removed must not come back with our state in it.
        if let Some(vif) = self.vifs.get(&port)
            && vif.back.text(&self.host, key::STATE).is_ok()
        {
            Transaction::new().state(&vif.back, state, Some(vif.guest)).commit(&self.host)?;
        }
        Ok(())
    }

    /// Takes an interface down and says so.
    pub(crate) fn close_vif(&mut self, port: u32) {
        self.take_down(port);
        let _ = self.write_state(port, XenbusState::Closing);
        let _ = self.write_state(port, XenbusState::Closed);
    }

    /// Takes an interface down: its rings are unmapped, and it leaves all tables.
    fn take_down(&mut self, port: u32) {
        self.nic_queues.remove(&port);
        let Some(vif) = self.vifs.get_mut(&port) else {
            return;
        };
        let mut passed = None;
        if let Some(mut rings) = vif.rings.take() {
            self.awake.remove(port);
            passed = rings.passed.take();
            let waiting: usize = rings.queues.iter().map(|queue| queue.waiting.len()).sum();
            self.counters.drop_frames(crate::DropReason::NoReceiveBuffer, waiting as u64);
        }
        vif.phase = Phase::Closed;
        let table = vif.table.take();
        if let Some(table) = table
            && let Err(Pinned(pages)) = self.host.unexport(table.into_words())
        {
            // While the guest maps it, its pages stay granted and are used for nothing else.
            vif.lingering.push(pages);
        }
        if let Some(passed) = &mut passed {
            self.drop_passed(passed);
        }
        // While it is down nothing is known of a VF of its.
        self.switch.set_flood(PortId(port), true);
        self.manager.touch();
    }

    /// The toolstack has removed an interface.
    fn forget(&mut self, port: u32) {
        self.host.unwatch(port);
        self.switch.remove_port(PortId(port));
        self.vifs.remove(&port);
        self.manager.touch();
    }
}

/// Queues that a frontend may have at most: Linux' netback and netfront use 8 (`max_queues`).
const MAX_QUEUES: usize = 8;

/// What every frontend is offered. No `feature-rx-flip`: absent is no. No multicast control and
/// no control ring: the switch floods by its own rules, and hashes by its own key.
const FEATURES: [&str; 6] = [
    key::FEATURE_SG,
    key::FEATURE_GSO_TCPV4,
    key::FEATURE_GSO_TCPV6,
    key::FEATURE_IPV6_CSUM_OFFLOAD,
    key::FEATURE_RX_COPY,
    key::FEATURE_SPLIT_EVENT_CHANNELS,
];

/// Keys of the backend's directory that others write when it is there already: the toolstack at
/// removal, and the hotplug script.
const OTHERS_WRITE: [&str; 3] = [key::STATE, key::ONLINE, key::HOTPLUG_STATUS];
