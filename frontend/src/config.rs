//! What can be set for an interface.

use core::time::Duration;

/// What can be set for an interface.
///
/// On a slow or crowded host, where a guest that is alive may not run for a while, these matter:
/// `done_timeout`, beyond which frames to it are lost; `table_stale`, beyond which all frames take
/// the default route; and `hold_timeout`, beyond which frames of a flow that changes its route may
/// overtake each other. Longer ones cost little: a peer that is really gone holds its quota of
/// memory for longer, and frames take another way later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Number of the interface in its guest: `device/vif/N`.
    pub handle: u32,
    /// Whether envelopes are offered. Without them this is a netif frontend like any other.
    pub envelopes: bool,
    /// Whether what is granted to other guests is granted to whoever has its key, which travels in
    /// the envelope, and not to their domain. Only where the hypervisor has such grants, and for
    /// all guests alike. See [`Mechanism::Keyed`] for what it costs.
    ///
    /// [`Mechanism::Keyed`]: xenvelope_grant::seam::Mechanism::Keyed
    pub keyed: bool,
    /// After how long without a done a grant to another guest is taken back. Frames that it has
    /// not copied by then are lost. The driver domain has twenty times as long.
    pub done_timeout: Duration,
    /// For how long a done may wait for an envelope to ride on.
    pub done_delay: Duration,
    /// For how long frames of a flow wait for its older route to drain.
    pub hold_timeout: Duration,
    /// Granted frames that one peer may have outstanding or pinned.
    pub peer_quota: usize,
    /// Bytes of granted frames to one peer with which [`Frontend::has_room`](crate::Frontend::has_room) says that there is no
    /// room for more: what is out should fit into the caches, since it is written, copied and
    /// written again. A burst that was begun below the limit may go beyond it.
    pub peer_bytes: usize,
    /// Frames that wait for room in netif's ring, or in the VF's.
    pub backlog: usize,
    /// After how long without a heartbeat the forwarding table is not believed any more; up to a
    /// quarter more if nothing was sent meanwhile.
    pub table_stale: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            handle: 0,
            envelopes: true,
            keyed: false,
            done_timeout: Duration::from_millis(500),
            done_delay: Duration::from_millis(2),
            hold_timeout: Duration::from_millis(20),
            peer_quota: 2048,
            peer_bytes: 4 * 1024 * 1024,
            backlog: 512,
            table_stale: Duration::from_secs(3),
        }
    }
}
