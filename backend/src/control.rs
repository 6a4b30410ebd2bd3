//! The control plane: the toolstack makes an interface, the frontend connects, the frontend
//! goes away. All of it is read from the store, and all that a guest wrote there is its word.

use std::collections::BTreeSet;
use xenvelope_grant::ring::{Back, Front};
use xenvelope_grant::seam::{Access, Hypervisor, NicPort, Pinned, Shared};
use xenvelope_grant::xenbus::{Directory, PATH_MAX, Transaction, XenbusState, key};

use xenvelope_grant::{DomId, Gref};
use xenvelope_switch::channel::{EnvelopeChannel, LAYOUT, RING_PAGES};
use xenvelope_switch::table::TableWriter;
use xenvelope_switch::{PortConfig, PortId, Vlan};

use crate::driver_domain::{Backend, BackendError};
use crate::uplink::PfControl;
use crate::vif::{Phase, RX_LAYOUT, Rings, TX_LAYOUT, Vif};

/// Watch token of the directory in which the toolstack makes interfaces. Ports' frontends are
/// watched with their port number, from 1.
const WATCH_TOOLSTACK: u32 = 0;
/// Store events that are looked at in one round.
const EVENTS: usize = 64;
/// Forwarding tables of earlier lives that a guest may keep mapped. Beyond that it gets no new
/// one: each costs us pages and references.
const LINGERING: usize = 4;
/// Where the toolstack makes interfaces, relative to the driver domain's own directory.
const VIFS: &str = "backend/vif";

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    pub(crate) fn watch_toolstack(&mut self) -> Result<(), BackendError> {
        self.host.watch(VIFS, WATCH_TOOLSTACK)?;
        Ok(())
    }

    /// Follows the store. Whether anything changed.
    pub(crate) fn poll_store(&mut self) -> bool {
        let mut busy = false;
        let mut path = [0; PATH_MAX];
        // A batch, and each port once: who writes the store without end must not keep us from
        // the others' frames (XSA-326).
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
                match (guest, handle) {
                    (Some(guest), Some(handle)) => self.look_at(guest, handle),
                    _ => self.look_at_all(),
                }
            } else {
                let direct = event.path.contains("/direct");
                if direct { &mut relays } else { &mut states }.insert(event.token);
            }
        }
        for port in states {
            if let Err(error) = self.follow(port) {
                tracing::warn!(port, %error, "interface failed, closing");
                self.close_vif(port);
            }
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

    /// The toolstack has made, changed or removed an interface.
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
            (None, true) => {
                let port = self.next_port;
                if let Err(error) = self.create(guest, handle, back) {
                    tracing::warn!(%guest, handle, %error, "cannot serve interface");
                    // Half an interface would keep its address from being used again. If the
                    // switch refused the port, it is not there, and this does nothing.
                    self.forget(port);
                }
            }
            (Some(port), false) => {
                self.close_vif(port);
                self.forget(port);
            }
            // Ours is past Initialising since we made it: the toolstack has made another
            // interface in its place.
            (Some(port), true) if back.state(&self.host) == XenbusState::Initialising => {
                self.take_down(port);
                self.forget(port);
                self.look_at(guest, handle);
            }
            _ => {}
        }
    }

    /// A new interface: its features, and then it is the frontend's turn.
    fn create(&mut self, guest: DomId, handle: u32, back: Directory) -> Result<(), BackendError> {
        let front = Directory::new(&back.text(&self.host, key::FRONTEND)?)?;
        let mac: xenvelope_switch::MacAddress =
            back.text(&self.host, key::MAC)?.parse().map_err(|_| BackendError::Mac)?;
        let port = self.next_port;
        let vid = self.manager.vlan(mac);
        self.switch.add_port(
            PortId(port),
            PortConfig::Guest { macs: vec![mac], vlan: Vlan::Access(vid) },
        )?;
        self.next_port += 1;
        let incarnation = self.next_incarnation();
        let reader = Some(guest);
        let mut keys = Transaction::new();
        keys.write(&back, key::FEATURE_SG, 1, reader)
            .write(&back, key::FEATURE_GSO_TCPV4, 1, reader)
            .write(&back, key::FEATURE_RX_COPY, 1, reader);
        if self.config.envelopes {
            // The guest must be able to list it before there is anything in it.
            keys.write(&back, key::FEATURE_ENVELOPE, 1, reader).write(
                &back,
                key::DIRECT,
                "",
                reader,
            );
        }
        keys.write(&back, key::HOTPLUG_STATUS, "connected", reader)
            .state(&back, XenbusState::InitWait, reader)
            .commit(&self.host)?;
        let vif = Vif {
            guest,
            handle,
            front,
            back,
            mac,
            phase: Phase::InitWait,
            incarnation,
            vlan: vid,
            lingering: Vec::new(),
            vf: false,
            rings: None,
            table: None,
        };
        self.vifs.insert(port, vif);
        self.host.watch(front.path(), port)?;
        Ok(())
    }

    /// Follows a frontend's state.
    fn follow(&mut self, port: u32) -> Result<(), BackendError> {
        let Some(vif) = self.vifs.get(&port) else {
            return Ok(());
        };
        let (phase, theirs) = (vif.phase, vif.front.state(&self.host));
        match theirs {
            XenbusState::Connected if phase == Phase::InitWait => self.connect(port)?,
            XenbusState::Connected if phase == Phase::Connected => {
                let vf = vif.front.feature(&self.host, key::VF_LINK);
                if vf != vif.vf {
                    if let Some(vif) = self.vifs.get_mut(&port) {
                        vif.vf = vf;
                    }
                    self.manager.touch();
                }
            }
            XenbusState::Initialising if phase != Phase::InitWait => {
                // It comes back, or somebody else came in its place: a new life, and the
                // handshake from the start. Nothing is said of the old life's end: who waits for
                // InitWait must not read Closing.
                self.take_down(port);
                let incarnation = self.next_incarnation();
                if let Some(vif) = self.vifs.get_mut(&port) {
                    vif.phase = Phase::InitWait;
                    vif.incarnation = incarnation;
                }
                self.write_state(port, XenbusState::InitWait)?;
            }
            XenbusState::Closing | XenbusState::Closed | XenbusState::Unknown
                if phase == Phase::Connected =>
            {
                self.close_vif(port);
            }
            _ => {}
        }
        Ok(())
    }

    /// Maps the rings, keeps a forwarding table for the guest, and says Connected.
    fn connect(&mut self, port: u32) -> Result<(), BackendError> {
        let Some(vif) = self.vifs.get(&port) else {
            return Ok(());
        };
        let (host, front, back, guest) = (&self.host, vif.front, vif.back, vif.guest);
        if vif.lingering.len() >= LINGERING {
            return Err(BackendError::Lingering);
        }
        if !front.feature(host, key::REQUEST_RX_COPY) {
            return Err(BackendError::NoRxCopy);
        }
        let tx = Gref(front.word(host, key::TX_RING_REF)?);
        let rx = Gref(front.word(host, key::RX_RING_REF)?);
        let tx = host.import(guest, &[tx], Access::Write)?;
        let rx = host.import(guest, &[rx], Access::Write)?;
        let remote = front.word(host, key::EVENT_CHANNEL)?;
        let envelopes = self.config.envelopes && front.feature(host, key::FEATURE_ENVELOPE);
        let channel = if envelopes {
            let send = front.refs::<RING_PAGES>(host, key::ENVELOPE_RX_RING_REF, RING_PAGES)?;
            let receive = front.refs::<RING_PAGES>(host, key::ENVELOPE_TX_RING_REF, RING_PAGES)?;
            let send = host.import(guest, &send, Access::Write)?;
            let receive = host.import(guest, &receive, Access::Write)?;
            let send = Front::attach(send, LAYOUT);
            Some(EnvelopeChannel::new(send, Back::attach(receive, LAYOUT)))
        } else {
            None
        };
        let rings = Rings {
            tx: Back::attach(tx, TX_LAYOUT),
            rx: Back::attach(rx, RX_LAYOUT),
            port: host.connect(guest, remote)?,
            envelopes: channel,
            window: Box::default(),
            done_to: None,
            gso: front.feature(host, key::FEATURE_GSO_TCPV4),
            sg: front.feature(host, key::FEATURE_SG),
            kick: true,
        };
        let mut keys = Transaction::new();
        let table =
            if envelopes {
                let pages = host.export(guest, self.config.table_pages, Access::Read)?;
                keys.write(&back, key::FORWARDING_TABLE_PAGES, pages.refs().len(), Some(guest))
                    .refs(&back, key::FORWARDING_TABLE_REF, pages.refs(), Some(guest));
                Some(TableWriter::new(pages, host.random(), self.config.epoch)?)
            } else {
                None
            };
        keys.state(&back, XenbusState::Connected, Some(guest));
        let vf = front.feature(host, key::VF_LINK);
        if let Some(vif) = self.vifs.get_mut(&port) {
            vif.rings = Some(rings);
            vif.table = table;
            vif.phase = Phase::Connected;
            vif.vf = vf;
        }
        // The table is filled before the guest can see it.
        self.manager.touch();
        self.poll_manager();
        keys.commit(&self.host)?;
        Ok(())
    }

    /// An incarnation that this host has not had: 16 bits of the manager's epoch, 32 bits of
    /// count.
    fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        (self.config.epoch & 0xffff) << 32 | self.incarnations & 0xffff_ffff
    }

    fn write_state(&self, port: u32, state: XenbusState) -> Result<(), BackendError> {
        if let Some(vif) = self.vifs.get(&port) {
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
        let Some(vif) = self.vifs.get_mut(&port) else {
            return;
        };
        vif.rings = None;
        vif.phase = Phase::Closed;
        let table = vif.table.take();
        if let Some(table) = table
            && let Err(Pinned(pages)) = self.host.unexport(table.into_words())
        {
            // While the guest maps it, its pages stay granted and are used for nothing else.
            vif.lingering.push(pages);
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
