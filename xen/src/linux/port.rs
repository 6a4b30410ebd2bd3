//! One type for the driver domain's uplink, whichever kind it is.

use std::ops::Range;

use xenvelope_grant::seam::{Arrival, NicCapabilities, NicPort, Offload, PortId, Unsent};

use super::{Buffer, PacketPort, Tap};

/// A TAP or a packet socket.
pub enum Port {
    /// Towards this domain's own stack.
    Tap(Tap),
    /// On an interface of this domain's.
    Packet(PacketPort),
}

/// The same call on whichever it is.
macro_rules! either {
    ($port:expr, $name:ident => $call:expr) => {
        match $port {
            Port::Tap($name) => $call,
            Port::Packet($name) => $call,
        }
    };
}

impl Port {
    /// Frames that were lost without its owner being told, as on a wire.
    pub fn lost(&self) -> u64 {
        either!(self, port => port.lost())
    }
}

impl NicPort for Port {
    type Buf = Buffer;

    fn capabilities(&self) -> NicCapabilities {
        either!(self, port => port.capabilities())
    }
    fn link(&self) -> bool {
        either!(self, port => port.link())
    }
    fn interrupt(&self) -> PortId {
        either!(self, port => port.interrupt())
    }
    fn unmask(&self) {
        either!(self, port => port.unmask());
    }
    fn send(
        &self,
        buffer: Buffer,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), Unsent<Buffer>> {
        either!(self, port => port.send(buffer, frame, offload))
    }
    fn kick(&self) {
        either!(self, port => port.kick());
    }
    fn completed(&self) -> Option<Buffer> {
        either!(self, port => port.completed())
    }
    fn in_flight(&self) -> usize {
        either!(self, port => port.in_flight())
    }
    fn wanted(&self) -> (usize, usize) {
        either!(self, port => port.wanted())
    }
    fn post(&self, buffer: Buffer, headroom: usize) -> Result<(), Buffer> {
        either!(self, port => port.post(buffer, headroom))
    }
    fn receive(&self) -> Option<Arrival<Buffer>> {
        either!(self, port => port.receive())
    }
}
