//! What a driver domain takes by netif.

use core::ops::Range;

use xenvelope_grant::netif::{
    GSO_TYPE_TCPV4, GSO_TYPE_TCPV6, MAX_TX_SIZE, NR_SLOTS_MIN, gso_from_virtio,
};
use xenvelope_grant::seam::{Offload, Store, pages_touched};
use xenvelope_grant::xenbus::{Directory, key};
use xenvelope_switch::ethernet::ether_type;

/// What a driver domain takes by netif. What it does not offer it need not take, and nothing is
/// segmented or filled in for it: such frames are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetifOffloads {
    /// Frames that touch more than one page.
    pub scatter_gather: bool,
    /// TCP over IPv4 that is to be cut.
    pub gso_tcpv4: bool,
    /// TCP over IPv6 that is to be cut.
    pub gso_tcpv6: bool,
    /// Blank transport checksums over IPv6. (Over IPv4 everybody takes them.)
    pub checksum_ipv6: bool,
}

impl NetifOffloads {
    /// What a backend offers.
    pub(crate) fn offered(store: &impl Store, back: &Directory) -> NetifOffloads {
        NetifOffloads {
            scatter_gather: back.feature(store, key::FEATURE_SG),
            gso_tcpv4: back.feature(store, key::FEATURE_GSO_TCPV4),
            gso_tcpv6: back.feature(store, key::FEATURE_GSO_TCPV6),
            checksum_ipv6: back.feature(store, key::FEATURE_IPV6_CSUM_OFFLOAD),
        }
    }

    /// Whether it takes a frame that lies so in its buffer.
    pub(crate) fn can_take(
        &self,
        ether_type: u16,
        frame: &Range<usize>,
        offload: &Offload,
    ) -> bool {
        let pages = pages_touched(frame);
        let cut = match (offload.gso_size, gso_from_virtio(offload.gso_type)) {
            (0, _) => true,
            (_, Some(GSO_TYPE_TCPV4)) => self.gso_tcpv4,
            (_, Some(GSO_TYPE_TCPV6)) => self.gso_tcpv6,
            _ => false,
        };
        cut && (self.scatter_gather || pages <= 1)
            && pages <= NR_SLOTS_MIN
            && frame.len() <= MAX_TX_SIZE
            && (self.checksum_ipv6 || !offload.needs_checksum || ether_type != ether_type::IPV6)
    }
}
