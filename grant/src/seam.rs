//! The seam: what a frontend or a backend may ask of the hypervisor it runs on.
//!
//! Small traits that take `&self`: a simulator holds many domains in one process, so nothing may
//! be global. All of them together are a [`Hypervisor`]. A network card's queue is a
//! [`NicPort`], which is not the hypervisor's and therefore stands apart.
//!
//! No method panics on anything that a peer did.

mod copier;
mod events;
mod granter;
mod host;
mod mechanism;
mod nic;
mod observe;
mod queue;
mod share;
mod store;

pub use copier::{CallFailed, Copier, CopyBatch, CopyOp, CopyTicket, End, Submitted};
pub use events::{EventError, Events, PortId};
pub use granter::{
    Access, Buffer, Granter, MAX_SEGMENTS, NoBuffer, Pinned, ReceiveArea, Refused, Segment,
    pages_touched, piece_in_page,
};
pub use host::{Host, Instant};
pub use mechanism::{Lacks, Mechanism, MechanismError};
pub use nic::{Arrival, NicCapabilities, NicError, NicPort, Offload, StackPort, Unsent};
pub use observe::{Direction, Enclosed, Sight, Travel, Way};
pub use queue::{Filled, GuestQueue, Unfilled};
pub use share::{Share, Shared};
pub use store::{Change, Store, StoreError, WatchEvent};

/// Everything that a driver needs of the hypervisor that it runs on.
pub trait Hypervisor: Host + Granter + Copier + Share + Events + Store {}

impl<H: Host + Granter + Copier + Share + Events + Store> Hypervisor for H {}
