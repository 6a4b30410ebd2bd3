//! Taps at the card: its ports, and the wire.

use xenvelope_grant::seam::Direction;
use xenvelope_switch::MacAddress;

use super::{Recorder, Tap};
use crate::nic::{DropReason, NicConfig};

/// The taps of a card.
#[derive(Debug)]
pub struct CardTaps {
    /// The PF, and then the VFs.
    ports: Vec<Tap>,
    wire: Tap,
}

impl CardTaps {
    pub(super) fn new(recorder: &Recorder, config: &NicConfig) -> CardTaps {
        let pf = recorder.interface(
            "pf".to_owned(),
            format!("the card's PF, the driver domain's: {}", MacAddress(config.pf_mac)),
            Some(config.pf_mac),
            None,
        );
        let vf = |number| {
            let description = format!("VF {number} of the card");
            recorder.interface(format!("vf{number}"), description, None, None)
        };
        let ports = std::iter::once(pf).chain((0..config.vfs).map(vf)).collect();
        let wire = recorder.interface("wire".to_owned(), "the card's wire".to_owned(), None, None);
        CardTaps { ports, wire }
    }

    /// A frame at a port: the PF is 0, VF `n` is `n + 1`. Outbound is what its domain sends.
    pub fn port(
        &self,
        number: usize,
        direction: Direction,
        frame: &[u8],
        dropped: Option<DropReason>,
    ) {
        if let Some(tap) = self.ports.get(number) {
            tap.capture(direction, frame, || dropped.map(comment));
        }
    }

    /// A frame on the wire. Outbound is what leaves the host.
    pub fn wire(&self, direction: Direction, frame: &[u8], dropped: Option<DropReason>) {
        self.wire.capture(direction, frame, || dropped.map(comment));
    }
}

fn comment(reason: DropReason) -> String {
    format!("dropped: {}", reason.name())
}
