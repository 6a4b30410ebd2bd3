//! Connection states of a split device, and the names of its keys in xenstore.
//!
//! States: `xen/include/public/io/xenbus.h`. Standard keys: `xen/include/public/io/netif.h`.
//! Keys that are ours alone stand at the end, and follow the standard ones' naming.

mod directory;

pub use directory::{Directory, PATH_MAX, Transaction};

/// `enum xenbus_state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XenbusState {
    /// The node is not there, or what it says is not a state.
    Unknown = 0,
    /// The other side has not looked yet.
    Initialising = 1,
    /// The backend has written its features and waits for the frontend.
    InitWait = 2,
    /// The frontend waits for the backend.
    Initialised = 3,
    /// Ready to carry frames.
    Connected = 4,
    /// Going down.
    Closing = 5,
    /// Down.
    Closed = 6,
    /// Changing its configuration while connected.
    Reconfiguring = 7,
    /// The other side of that.
    Reconfigured = 8,
}

impl XenbusState {
    /// What a peer wrote; anything that is not a state is [`XenbusState::Unknown`].
    pub fn parse(value: &str) -> XenbusState {
        match value {
            "1" => XenbusState::Initialising,
            "2" => XenbusState::InitWait,
            "3" => XenbusState::Initialised,
            "4" => XenbusState::Connected,
            "5" => XenbusState::Closing,
            "6" => XenbusState::Closed,
            "7" => XenbusState::Reconfiguring,
            "8" => XenbusState::Reconfigured,
            _ => XenbusState::Unknown,
        }
    }

    /// The value to write.
    pub const fn as_str(self) -> &'static str {
        match self {
            XenbusState::Unknown => "0",
            XenbusState::Initialising => "1",
            XenbusState::InitWait => "2",
            XenbusState::Initialised => "3",
            XenbusState::Connected => "4",
            XenbusState::Closing => "5",
            XenbusState::Closed => "6",
            XenbusState::Reconfiguring => "7",
            XenbusState::Reconfigured => "8",
        }
    }
}

/// Names of keys.
pub mod key {
    /// Connection state, both sides.
    pub const STATE: &str = "state";
    /// In the frontend's directory: path of the backend's.
    pub const BACKEND: &str = "backend";
    /// In the frontend's directory: domid of the backend.
    pub const BACKEND_ID: &str = "backend-id";
    /// In the backend's directory: path of the frontend's.
    pub const FRONTEND: &str = "frontend";
    /// In the backend's directory: domid of the frontend.
    pub const FRONTEND_ID: &str = "frontend-id";
    /// MAC address of the interface, written by the toolstack.
    pub const MAC: &str = "mac";
    /// Number of the interface in its guest.
    pub const HANDLE: &str = "handle";
    /// Whether the device is meant to stay, in the backend's directory.
    pub const ONLINE: &str = "online";
    /// Written by the hotplug script when the interface is plugged into its network.
    pub const HOTPLUG_STATUS: &str = "hotplug-status";

    /// Grant reference of the transmit ring.
    pub const TX_RING_REF: &str = "tx-ring-ref";
    /// Grant reference of the receive ring.
    pub const RX_RING_REF: &str = "rx-ring-ref";
    /// Event channel for both rings.
    pub const EVENT_CHANNEL: &str = "event-channel";
    /// The frontend asks that received frames be copied; every backend of today demands it.
    pub const REQUEST_RX_COPY: &str = "request-rx-copy";
    /// The frontend sends an event when it has posted receive buffers.
    pub const FEATURE_RX_NOTIFY: &str = "feature-rx-notify";
    /// The backend copies received frames.
    pub const FEATURE_RX_COPY: &str = "feature-rx-copy";
    /// Frames may have more than one fragment.
    pub const FEATURE_SG: &str = "feature-sg";
    /// TCP over IPv4 frames may be longer than the MTU.
    pub const FEATURE_GSO_TCPV4: &str = "feature-gso-tcpv4";
    /// TCP over IPv6 frames may be longer than the MTU.
    pub const FEATURE_GSO_TCPV6: &str = "feature-gso-tcpv6";
    /// Transport checksums over IPv6 may be blank. Absent: they may not.
    pub const FEATURE_IPV6_CSUM_OFFLOAD: &str = "feature-ipv6-csum-offload";
    /// Transport checksums over IPv4 may *not* be blank. Absent: they may.
    pub const FEATURE_NO_CSUM_OFFLOAD: &str = "feature-no-csum-offload";
    /// Transmit and receive ring may have event channels of their own.
    pub const FEATURE_SPLIT_EVENT_CHANNELS: &str = "feature-split-event-channels";
    /// Event channel for the transmit ring, where there are two.
    pub const EVENT_CHANNEL_TX: &str = "event-channel-tx";
    /// Event channel for the receive ring, where there are two.
    pub const EVENT_CHANNEL_RX: &str = "event-channel-rx";
    /// In the backend's directory: how many queues a frontend may have.
    pub const MULTI_QUEUE_MAX_QUEUES: &str = "multi-queue-max-queues";
    /// In the frontend's directory: how many queues it has. Rings and event channels of queue N
    /// are then below `queue-N`, if it is more than one.
    pub const MULTI_QUEUE_NUM_QUEUES: &str = "multi-queue-num-queues";
    /// Written by the toolstack: path of the hotplug script (`script=` in xl's `vif`).
    pub const SCRIPT: &str = "script";

    /// Ours: the side understands envelopes. Value: the version of the format, 1.
    pub const FEATURE_ENVELOPE: &str = "feature-envelope";
    /// Ours, in the frontend's directory: it takes envelopes of frames that the backend passes on
    /// by transitive grants.
    pub const FEATURE_TRANSITIVE: &str = "feature-envelope-transitive";
    /// Ours: grant references of the envelope ring towards the backend, `…0` to `…N-1`.
    pub const ENVELOPE_TX_RING_REF: &str = "envelope-tx-ring-ref";
    /// Ours: grant references of the envelope ring towards the frontend.
    pub const ENVELOPE_RX_RING_REF: &str = "envelope-rx-ring-ref";
    /// Ours, in the backend's directory: grant references of the forwarding table's pages, and
    /// how many.
    pub const FORWARDING_TABLE_REF: &str = "forwarding-table-ref";
    /// Ours: how many pages the forwarding table has.
    pub const FORWARDING_TABLE_PAGES: &str = "forwarding-table-pages";
    /// Ours, in the frontend's directory: whether it has a VF with a link.
    pub const VF_LINK: &str = "vf-link";
    /// Ours, in the backend's directory: the guest may have a queue of the card, which receives
    /// straight into its pages.
    pub const FEATURE_NIC_QUEUE: &str = "feature-nic-queue";
    /// Ours, in the frontend's directory: grant reference of a second receive ring. What is posted
    /// there goes to the guest's queue of the card.
    pub const NIC_QUEUE_RING_REF: &str = "nic-queue-ring-ref";
    /// Ours, in the backend's directory: which context of the card was lent to the guest, where
    /// contexts are no PCI functions that a toolstack could assign.
    pub const NIC_CONTEXT: &str = "nic-context";
    /// Ours, both directories: direct channels, one child for each, named by channel number.
    pub const DIRECT: &str = "direct";
    /// Ours, in a direct channel of the backend's directory: domid of the other guest.
    pub const PEER_ID: &str = "peer-id";
    /// Ours, same place: incarnation of the other guest.
    pub const PEER_INCARNATION: &str = "peer-incarnation";
    /// Ours, same place: `listen` for the side that allocates rings and port, `connect` for the
    /// other.
    pub const ROLE: &str = "role";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_makes_no_sense_is_unknown() {
        for text in ["", "9", "-1", "04", " 4", "connected"] {
            assert_eq!(XenbusState::parse(text), XenbusState::Unknown);
        }
        for number in 0..9 {
            let text = std::format!("{number}");
            assert_eq!(XenbusState::parse(&text).as_str(), text);
        }
    }
    extern crate std;
}
