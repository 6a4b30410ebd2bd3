//! Which way a frame goes.

use core::time::Duration;

use xenvelope_grant::seam::{Hypervisor, Instant, NicPort, Way};
use xenvelope_switch::table::{
    CHANNEL_DRIVER_DOMAIN, CHANNEL_VF, Entry, EntryFlags, FIRST_DIRECT_CHANNEL,
};
use xenvelope_switch::{EthernetHeader, MacAddress};

use crate::interface::Frontend;
use crate::peers::Path;

/// By how much two copies of a frame that is flooded on two paths may be apart. What has been taken
/// from one of them is not taken from the other when that is the one to use.
const SKEW: Duration = Duration::from_millis(20);

/// A frame's way, and the table entry behind it if there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub path: Path,
    pub entry: Option<Entry>,
}

/// By which way envelopes of a channel travel.
pub(crate) fn way_of(channel: u16) -> Way {
    match channel {
        CHANNEL_VF => Way::Nic,
        CHANNEL_DRIVER_DOMAIN => Way::DriverDomain,
        _ => Way::Direct,
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// The table's entry for an address. No entry, and no table that is believed, are the same.
    pub(crate) fn lookup(&self, mac: MacAddress, vid: u16) -> Option<Entry> {
        self.table.as_ref().filter(|table| table.fresh)?.reader.lookup(mac, vid)
    }

    /// The way of a frame with this header, if any path is up.
    pub(crate) fn route(&self, header: &EthernetHeader) -> Option<Route> {
        let entry = if header.destination.is_multicast() {
            None
        } else {
            self.lookup(header.destination, header.vid())
        };
        let path = match entry {
            None if header.destination.is_multicast() => self.flood_path(),
            None => self.default_path(),
            Some(entry) => self.path_of(&entry),
        }?;
        Some(Route { path, entry })
    }

    /// The default route: what the manager set, or whatever is up.
    pub(crate) fn default_path(&self) -> Option<Path> {
        let by_vf = self
            .table
            .as_ref()
            .is_some_and(|table| table.fresh && table.reader.default_route() == CHANNEL_VF);
        if by_vf && self.vf_up() {
            Some(Path::VfFrame)
        } else if self.driver.is_some() {
            Some(Path::Netif)
        } else {
            self.vf_up().then_some(Path::VfFrame)
        }
    }

    /// Whether broadcast and multicast have a way of their own: the driver domain, while the
    /// default route is another.
    pub(crate) fn floods_apart(&self) -> bool {
        self.driver.is_some()
            && self
                .table
                .as_ref()
                .is_some_and(|table| table.fresh && table.reader.floods_by_driver_domain())
    }

    /// The way of broadcast and multicast, out and in.
    pub(crate) fn flood_path(&self) -> Option<Path> {
        if self.floods_apart() { Some(Path::Netif) } else { self.default_path() }
    }

    /// Notes by which way broadcast and multicast are to come in. When it is another than before,
    /// they are taken from neither for a moment.
    pub(crate) fn follow_floods(&mut self, now: Instant) {
        if self.vf.is_none() && self.floods_by == Some(Path::Netif) {
            // The only one that there is.
            return;
        }
        let Some(path) = self.flood_path() else { return };
        if self.floods_by.replace(path).is_some_and(|before| before != path) {
            self.floods_after = now + SKEW;
        }
    }

    /// Whether broadcast and multicast are taken in from this path.
    pub(crate) fn takes_floods(&self, path: Path) -> bool {
        self.floods_by == Some(path) && self.now >= self.floods_after
    }

    /// The path of an entry; if its channel is down, the driver domain's.
    pub(crate) fn path_of(&self, entry: &Entry) -> Option<Path> {
        let envelope = entry.flags.contains(EntryFlags::ENVELOPE);
        if entry.channel == CHANNEL_VF && self.vf_up() {
            return Some(if envelope { Path::Envelope(CHANNEL_VF) } else { Path::VfFrame });
        }
        if envelope && entry.channel >= FIRST_DIRECT_CHANNEL && self.direct_is_up(entry) {
            return Some(Path::Envelope(entry.channel));
        }
        let driver = self.driver.as_ref()?;
        Some(if envelope && driver.envelopes.is_some() {
            Path::Envelope(CHANNEL_DRIVER_DOMAIN)
        } else {
            Path::Netif
        })
    }

    pub(crate) fn vf_up(&self) -> bool {
        self.vf.as_ref().is_some_and(NicPort::link)
    }

    fn direct_is_up(&self, entry: &Entry) -> bool {
        self.direct.iter().any(|direct| {
            direct.number == entry.channel
                && direct.peer == entry.peer
                && direct.channel.is_some()
                && direct.ending.is_none()
        })
    }
}
