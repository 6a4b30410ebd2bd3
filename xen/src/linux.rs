//! Linux user space under Xen: the traits of `xenvelope_grant::seam` over `/dev/xen/gntalloc`,
//! `/dev/xen/gntdev`, `/dev/xen/evtchn` and xenstore.
//!
//! What the devices cannot do shapes what is here:
//!
//! - **gntalloc** grants a page when it is allocated, to one domain, whole, and takes it back when
//!   it is freed. So a frame is built in private memory and copied into pages that are kept
//!   granted to its destination ([`Xen`]'s pool for each peer); a page never changes its peer.
//! - A page that is freed while the other side still maps it goes to the kernel's deferred list:
//!   success is returned, and the device's limit is credited. So what a peer may keep is counted
//!   here ([`Limits::unproven_pages`]).
//! - **gntdev** makes one hypercall for every 16 copies of a batch; a call that fails says nothing
//!   of any of them.
//! - **evtchn** gives ports masked; writing a port unmasks it.
//!
//! Everything is for one thread: a driver owns its queues, and another thread opens its own
//! [`Xen`].

mod account;
mod area;
mod buffer;
mod clock;
mod copier;
mod descriptors;
mod devices;
mod error;
mod events;
mod frame_queues;
mod granter;
mod host;
mod packet;
mod pool;
mod port;
mod share;
pub mod store;
mod sys;
mod tap;
#[cfg(test)]
mod tests;
mod unit;
mod vnet;
#[cfg(feature = "xenstore-rs")]
mod xenstore_rs;

pub use area::MirroredArea;
pub use buffer::Buffer;
pub use descriptors::Descriptors;
pub use error::XenError;
pub use events::Port as EventPort;
pub use granter::Granted;
pub use host::{Limits, Xen};
pub use packet::{PacketConfig, PacketPort};
pub use port::Port;
pub use share::SharedPages;
pub use tap::{Tap, TapConfig, TapOffloads};
