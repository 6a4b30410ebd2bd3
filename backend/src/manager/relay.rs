//! Direct channels: relaying between two guests what each must know.
//!
//! The lower port listens. The steps, each driven by a change of the store: tell the listener;
//! when it has opened a port and granted its ring, tell the other; when that has granted its
//! ring, tell the listener; when both are Connected, put the channel into the tables.

use xenvelope_grant::seam::{Change, Hypervisor, NicPort, StoreError};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_switch::channel::RING_PAGES;
use xenvelope_switch::table::{FIRST_DIRECT_CHANNEL, MAX_CHANNEL};

use super::{DirectChannel, Manager};
use crate::driver_domain::Backend;
use crate::uplink::PfControl;

impl Manager {
    /// The number of the channel between two ports at `of`'s side, if it is up.
    pub(super) fn channel_number(&self, of: u32, to: u32) -> Option<u16> {
        let channel = self.channels.get(&(of.min(to), of.max(to))).filter(|channel| channel.up)?;
        Some(if of < to { channel.numbers.0 } else { channel.numbers.1 })
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Ends the channels that are not wanted. They are in no table from now on; which they were,
    /// by port and number at each side.
    pub(super) fn end_channels(&mut self, wanted: &[(u32, u32)]) -> Vec<(u32, u16)> {
        let channels = self.manager.channels.extract_if(.., |pair, _| !wanted.contains(pair));
        channels
            .flat_map(|((a, b), channel)| [(a, channel.numbers.0), (b, channel.numbers.1)])
            .collect()
    }

    /// Tells guests of channels that have ended, which are in no table any more: a guest takes what
    /// lies in a channel then, and nobody may send on it after that. Begins those that are wanted
    /// and not there.
    pub(super) fn arrange_channels(&mut self, ended: &[(u32, u16)], wanted: &[(u32, u32)]) {
        for (port, number) in ended {
            if let Some(directory) = self.arranged(*port, *number) {
                let _ = self.host.commit(&[Change::Remove { path: directory.path() }]);
            }
        }
        for pair in wanted {
            if self.manager.channels.contains_key(pair) {
                continue;
            }
            let numbers = (self.free_number(pair.0), self.free_number(pair.1));
            let channel = DirectChannel { numbers, offered: false, answered: false, up: false };
            if let Err(error) = self.tell(pair.0, numbers.0, pair.1, "listen", |_| Ok(())) {
                tracing::warn!(%error, "cannot arrange a direct channel");
                continue;
            }
            self.manager.channels.insert(*pair, channel);
        }
    }

    /// The lowest channel number that a port does not use, and of whose last use its guest has
    /// left nothing in the store.
    fn free_number(&self, port: u32) -> u16 {
        let used = self.manager.numbers_of(port);
        let clean = |number: &u16| {
            self.said(port, *number)
                .is_none_or(|said| said.state(&self.host) == XenbusState::Unknown)
        };
        (FIRST_DIRECT_CHANNEL..MAX_CHANNEL)
            .find(|number| !used.contains(number) && clean(number))
            .unwrap_or(MAX_CHANNEL)
    }

    /// Something changed in a guest's part of the store: a step forward for its channels.
    pub(crate) fn poll_relay(&mut self, port: u32) {
        let pairs: Vec<(u32, u32)> = self
            .manager
            .channels
            .keys()
            .filter(|(a, b)| *a == port || *b == port)
            .copied()
            .collect();
        for pair in pairs {
            // What is not in the store yet comes with a later change.
            let _ = self.step(pair);
        }
    }

    fn step(&mut self, pair: (u32, u32)) -> Result<(), StoreError> {
        let Some(mut channel) = self.manager.channels.get(&pair).copied() else {
            return Ok(());
        };
        let (listener, connector) = (
            self.said(pair.0, channel.numbers.0).ok_or(StoreError::NoEntry)?,
            self.said(pair.1, channel.numbers.1).ok_or(StoreError::NoEntry)?,
        );
        if !channel.offered && listener.state(&self.host) == XenbusState::Initialised {
            let remote = listener.word(&self.host, key::EVENT_CHANNEL)?;
            let refs =
                listener.refs::<RING_PAGES>(&self.host, key::ENVELOPE_TX_RING_REF, RING_PAGES)?;
            self.tell(pair.1, channel.numbers.1, pair.0, "connect", |telling| {
                let (keys, directory, reader) = telling;
                keys.write(directory, key::EVENT_CHANNEL, remote, reader).refs(
                    directory,
                    key::ENVELOPE_RX_RING_REF,
                    &refs,
                    reader,
                );
                Ok(())
            })?;
            channel.offered = true;
        }
        let heard = connector.state(&self.host);
        if channel.offered && !channel.answered && heard != XenbusState::Unknown {
            let refs =
                connector.refs::<RING_PAGES>(&self.host, key::ENVELOPE_TX_RING_REF, RING_PAGES)?;
            self.tell(pair.0, channel.numbers.0, pair.1, "listen", |telling| {
                let (keys, directory, reader) = telling;
                keys.refs(directory, key::ENVELOPE_RX_RING_REF, &refs, reader);
                Ok(())
            })?;
            channel.answered = true;
        }
        let up = channel.answered
            && heard == XenbusState::Connected
            && listener.state(&self.host) == XenbusState::Connected;
        if up != channel.up {
            channel.up = up;
            self.manager.touch();
        }
        self.manager.channels.insert(pair, channel);
        Ok(())
    }

    /// Writes what a side must know of its channel `number` to `peer`.
    fn tell(
        &self,
        port: u32,
        number: u16,
        peer: u32,
        role: &str,
        more: impl FnOnce(
            (&mut Transaction, &Directory, Option<xenvelope_grant::DomId>),
        ) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let directory = self.arranged(port, number).ok_or(StoreError::NoEntry)?;
        let peer = self.vifs.get(&peer).ok_or(StoreError::NoEntry)?;
        let reader = self.vifs.get(&port).map(|vif| vif.guest);
        let mut keys = Transaction::new();
        // The node itself too: who may not read it does not hear of its end.
        if let Some(vif) = self.vifs.get(&port) {
            keys.write(&vif.back.child(key::DIRECT)?, number, "", reader);
        }
        keys.write(&directory, key::PEER_ID, peer.guest.0, reader)
            .write(&directory, key::PEER_INCARNATION, peer.incarnation, reader)
            .write(&directory, key::ROLE, role, reader);
        more((&mut keys, &directory, reader))?;
        keys.commit(&self.host)
    }

    /// Where we write what a side must know.
    fn arranged(&self, port: u32, number: u16) -> Option<Directory> {
        let vif = self.vifs.get(&port)?;
        vif.back.child(key::DIRECT).and_then(|directory| directory.child(number)).ok()
    }

    /// Where a side says what the other must know.
    fn said(&self, port: u32, number: u16) -> Option<Directory> {
        let vif = self.vifs.get(&port)?;
        vif.front.child(key::DIRECT).and_then(|directory| directory.child(number)).ok()
    }
}
