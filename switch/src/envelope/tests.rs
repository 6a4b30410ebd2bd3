//! Golden vectors, round trips, and bytes of strangers.

mod golden;
mod hostile;
mod round_trip;

use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Offload, Segment};

use super::{Addresses, Done, FrameHead};
use crate::ethernet::MacAddress;

const UNTAGGED: Addresses = Addresses {
    destination: MacAddress([0x02, 0, 0, 0, 0, 0xBB]),
    source: MacAddress([0x02, 0, 0, 0, 0, 0xAA]),
    tci: None,
};

const DONE: Done = Done {
    epoch: 0x0102_0304,
    cumulative: 0x1112_1314,
    selective: 0x2122_2324_2526_2728,
    nonce: 0x3132_3334_3536_3738,
};

fn plain(ether_type: u16, total: u16) -> FrameHead {
    FrameHead { ether_type, total, offload: Offload::default() }
}

fn segment(gref: u32, offset: u16, len: u16) -> Segment {
    Segment { gref: Gref(gref), offset, len }
}
