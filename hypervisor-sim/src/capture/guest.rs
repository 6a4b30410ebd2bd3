//! Taps at a guest: its stack and its channels.

use std::net::Ipv4Addr;

use xenvelope_grant::seam::{Direction, Host, Sight, Travel, Way};
use xenvelope_switch::MacAddress;

use super::{Recorder, Tap};
use crate::machine::Domain;

/// The taps of a guest.
#[derive(Debug)]
pub struct GuestTap {
    stack: Tap,
    channel: Tap,
}

impl GuestTap {
    pub(super) fn new(
        recorder: &Recorder,
        domain: &Domain,
        mac: MacAddress,
        address: Ipv4Addr,
        vf: Option<usize>,
    ) -> GuestTap {
        let (name, domid) = (domain.name(), domain.domid().0);
        let vf = vf.map_or_else(|| "no VF".to_owned(), |vf| format!("vf{vf}"));
        let stack = recorder.interface(
            name.to_owned(),
            format!("the stack of guest {name}: domid {domid}, {mac}, {address}, {vf}"),
            Some(mac.0),
            Some(address),
        );
        let channel = recorder.interface(
            format!("{name}/channel"),
            format!("envelopes on the channels of guest {name}: domid {domid}"),
            None,
            None,
        );
        GuestTap { stack, channel }
    }

    /// What the guest's driver lets be seen.
    pub fn see(&self, sight: Sight<'_>) {
        match sight {
            Sight::Frame { direction, travel, bytes } => {
                self.stack.capture(direction, bytes, || Some(self.route(direction, &travel)));
            }
            Sight::Envelope { direction, bytes } => {
                let envelope = bytes;
                self.channel.capture(direction, envelope, || None);
            }
        }
    }

    /// The route of a frame, in the words of the table of routes.
    fn route(&self, direction: Direction, travel: &Travel) -> String {
        let Some(enclosed) = travel.enclosed else {
            return match travel.way {
                Way::Nic => "nic-frame".to_owned(),
                Way::DriverDomain | Way::Direct => "netif".to_owned(),
            };
        };
        let route = match travel.way {
            Way::Nic => "nic-envelope",
            Way::DriverDomain => "switch-envelope",
            Way::Direct => "direct-envelope",
        };
        let towards = if direction == Direction::Out { "to" } else { "from" };
        let other = self.stack.name(enclosed.peer.domid);
        let how = if enclosed.inline { "inline" } else { "granted" };
        format!("{route} {towards} {other}, {how}")
    }
}
