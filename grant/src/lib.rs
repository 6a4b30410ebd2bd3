//! What one Xen domain may do to another's memory, and the seam behind which every hypervisor
//! stands.
//!
//! The frontend and the backend of xenvelope know only the traits of [`seam`]. The simulator,
//! Linux user space under Xen and a bare guest kernel implement them. Beside the traits lives
//! what Xen fixes bit for bit and what all three therefore share:
//!
//! | module | what |
//! |---|---|
//! | [`domain`] | domain ids, grant references, peers |
//! | [`status`] | `GNTST_*` codes as typed errors |
//! | [`entry`] | grant table entries, v1 and v2, `GTF_*` flags |
//! | [`table`] | granting and revoking: the order of the stores, and the compare-exchange |
//! | [`words`] | shared memory as the protocol cores see it: atomic words, private copies |
//! | [`ring`] | Xen's shared ring: indices, events, notify arithmetic |
//! | [`netif`] | the slots of Xen's network protocol |
//! | [`xenbus`] | connection states and the names of xenstore keys |
//! | [`seam`] | the traits |
//!
//! Nothing here trusts a peer: an index that runs ahead is an error, a slot is copied once into
//! a private value and only that value is looked at (XSA-155).
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

pub mod domain;
pub mod entry;
pub mod netif;
pub mod ring;
pub mod seam;
pub mod status;
pub mod table;
pub mod words;
pub mod xenbus;

pub use domain::{DomId, Gref, PAGE_SIZE, Peer};
pub use status::{GrantError, Status};
pub use words::{HasWords, Words};
