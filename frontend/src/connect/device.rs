//! The device in the store: where its two directories are, what a former owner left in ours, and
//! whether it is still there.

use arrayvec::ArrayVec;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Instant, Store, StoreError};
use xenvelope_grant::xenbus::{Directory, XenbusState, key};
use xenvelope_switch::MacAddress;

use super::handshake::{Handshake, Seen};
use crate::interface::FrontendError;

/// Watch token of the backend's directory.
pub(super) const WATCH_BACKEND: u32 = 0x0ba0;
/// Watch token of our own.
pub(super) const WATCH_FRONTEND: u32 = 0x0ba1;

/// Keys of a frontend's directory that are ours to write. A former owner may have written others
/// than we do: Linux' netback takes `event-channel-tx` before `event-channel`, and reads rings
/// below `queue-N` if there is more than one.
const LEFT: [&str; 18] = [
    key::TX_RING_REF,
    key::RX_RING_REF,
    key::EVENT_CHANNEL,
    key::EVENT_CHANNEL_TX,
    key::EVENT_CHANNEL_RX,
    key::MULTI_QUEUE_NUM_QUEUES,
    key::FEATURE_NO_CSUM_OFFLOAD,
    key::FEATURE_IPV6_CSUM_OFFLOAD,
    key::FEATURE_GSO_TCPV4,
    key::FEATURE_GSO_TCPV6,
    key::FEATURE_ENVELOPE,
    key::NIC_QUEUE_RING_REF,
    key::VF_LINK,
    key::DIRECT,
    "ctrl-ring-ref",
    "event-channel-ctrl",
    "request-multicast-control",
    "xdp-headroom",
];
/// What the directory of one of several queues is called.
const QUEUE: &str = "queue-";
/// Most keys that are removed together.
const LEFT_MAX: usize = 64;

/// The two directories of the device, and how far we are with it.
pub(crate) struct Control {
    pub front: Directory,
    pub back: Directory,
    pub backend: DomId,
    /// `None` while the device is not there, or has not been looked at.
    pub handshake: Option<Handshake>,
    /// When to look at the store although nothing was heard.
    pub look_at: Instant,
    /// We have said goodbye.
    pub left: bool,
}

/// What the store says of the device.
pub(super) enum Device {
    /// There is none.
    Gone,
    /// There is one, whose backend is at the path that we know.
    There(XenbusState),
    /// There is one with another backend.
    Moved,
}

impl Control {
    /// Finds the device that the toolstack made for us, and watches both sides.
    pub fn open<S: Store>(store: &S, handle: u32) -> Result<(Control, MacAddress), FrontendError> {
        let front = Directory::new("device/vif")?.child(handle)?;
        let (back, backend, mac) = places(store, &front)?;
        store.watch(front.path(), WATCH_FRONTEND)?;
        store.watch(back.path(), WATCH_BACKEND)?;
        let look_at = Instant::default();
        Ok((Control { front, back, backend, handshake: None, look_at, left: false }, mac))
    }

    /// The toolstack has made the device again, perhaps with another backend.
    pub fn reopen<S: Store>(&mut self, store: &S) -> Result<MacAddress, FrontendError> {
        let (back, backend, mac) = places(store, &self.front)?;
        if back != self.back {
            store.unwatch(WATCH_BACKEND);
            store.watch(back.path(), WATCH_BACKEND)?;
            self.back = back;
        }
        self.backend = backend;
        Ok(mac)
    }

    /// Whether the device is there, and our state.
    pub(super) fn device<S: Store>(&self, store: &S) -> Result<Device, StoreError> {
        match self.front.text(store, key::BACKEND) {
            Ok(path) if path.as_str() == self.back.path() => {
                state_of(store, &self.front).map(Device::There)
            }
            Ok(_) => Ok(Device::Moved),
            Err(error) if absent(error) => Ok(Device::Gone),
            Err(error) => Err(error),
        }
    }

    /// What the backend says.
    pub(super) fn seen<S: Store>(&self, store: &S) -> Result<Seen, StoreError> {
        let theirs = state_of(store, &self.back)?;
        // A toolstack that does not write it keeps its devices.
        let stays = self.back.number(store, key::ONLINE) != Ok(0);
        Ok(Seen { theirs, stays })
    }

    /// Removes what a former owner left.
    pub(super) fn tidy<S: Store>(&self, store: &S) -> Result<(), FrontendError> {
        let mut names = [0; 4096];
        let names = store.list(self.front.path(), &mut names)?;
        let mut left = ArrayVec::<Directory, LEFT_MAX>::new();
        for name in names.split('\0') {
            let queue =
                name.strip_prefix(QUEUE).is_some_and(|number| number.parse::<u16>().is_ok());
            let ring = name.starts_with(key::ENVELOPE_TX_RING_REF)
                || name.starts_with(key::ENVELOPE_RX_RING_REF);
            if queue || ring || LEFT.contains(&name) {
                left.try_push(self.front.child(name)?).map_err(|_| StoreError::TooLong)?;
            }
        }
        if !left.is_empty() {
            let changes: ArrayVec<Change<'_>, LEFT_MAX> =
                left.iter().map(|key| Change::Remove { path: key.path() }).collect();
            store.commit(&changes)?;
        }
        Ok(())
    }
}

fn places<S: Store>(
    store: &S,
    front: &Directory,
) -> Result<(Directory, DomId, MacAddress), FrontendError> {
    let backend = front.domid(store, key::BACKEND_ID)?;
    let back = Directory::new(&front.text(store, key::BACKEND)?)?;
    let mac = front.text(store, key::MAC)?.parse().map_err(|_| FrontendError::Mac)?;
    Ok((back, backend, mac))
}

/// A state; what is not there or is no state is Unknown. An error is that of a store that did not
/// answer: it says nothing of the state.
fn state_of<S: Store>(store: &S, directory: &Directory) -> Result<XenbusState, StoreError> {
    match directory.text(store, key::STATE) {
        Ok(text) => Ok(XenbusState::parse(&text)),
        Err(StoreError::TooLong | StoreError::Malformed) => Ok(XenbusState::Unknown),
        Err(error) if absent(error) => Ok(XenbusState::Unknown),
        Err(error) => Err(error),
    }
}

/// Whether there is no such node. Of one whose parents are not ours to read the store says only
/// that it may not be read (xenstored, `errno_from_parents`).
fn absent(error: StoreError) -> bool {
    matches!(error, StoreError::NoEntry | StoreError::NoPermission)
}
