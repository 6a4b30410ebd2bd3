//! Event channels: one bit from one domain to another.
//!
//! The rule against lost wake-ups: an event that arrives while its port is masked stays pending
//! and is seen at the unmask. [`Events::wait`] returns ports masked. So the reader's order is:
//! wait, **unmask, then look at the ring**. Looking first and unmasking after would lose an event
//! only if unmasking forgot it; looking after is right in every case.

use thiserror::Error;

use super::Instant;
use crate::DomId;

/// The local number of a port, as [`Events::wait`] reports it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u32);

/// Why a port could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EventError {
    /// All ports are in use.
    #[error("no free event channel port")]
    NoPort,
    /// No such remote port, or it does not wait for us.
    #[error("the remote event channel port is not open for this domain")]
    NotOpen,
    /// No such domain.
    #[error("no such domain")]
    NoDomain,
}

/// Sends and receives events.
pub trait Events {
    /// A port of ours. Dropping it closes it.
    type Port;

    /// Opens a port that `peer` may connect to (`EVTCHNOP_alloc_unbound`).
    fn listen(&self, peer: DomId) -> Result<Self::Port, EventError>;
    /// Connects to a port that `peer` opened for us (`EVTCHNOP_bind_interdomain`).
    fn connect(&self, peer: DomId, remote: u32) -> Result<Self::Port, EventError>;
    /// The port's number: for xenstore, and to know it again in [`Events::wait`].
    fn id(&self, port: &Self::Port) -> PortId;
    /// Sends an event. One hypercall. Never blocks and never fails: a peer that is gone hears
    /// nothing.
    fn notify(&self, port: &Self::Port);
    /// Waits until an event, a store watch or a device of ours wants attention, or until
    /// `until`. Ports that had an event are put into `out`, **masked**; their number is
    /// returned. It may be 0 for a watch or a device.
    fn wait(&self, out: &mut [PortId], until: Instant) -> usize;
    /// Lets the port fire again. Look at what it announces only after this.
    fn unmask(&self, port: &Self::Port);
}
