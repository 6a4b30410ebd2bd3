//! How a domain is to be made.

use nix::errno::Errno;
use thiserror::Error;
use xenvelope_grant::DomId;

pub use crate::memory::Backing;

/// Which version of grant tables a domain uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GrantVersion {
    /// Full pages only. All that Arm has.
    V1,
    /// Sub-page and transitive grants too.
    #[default]
    V2,
}

/// How a domain is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomainOptions {
    /// Its name, for people and for the store.
    pub name: String,
    /// Its memory, in pages. A page costs something only once it is used.
    pub pages: usize,
    /// Its id; the lowest free one if it does not matter.
    pub domid: Option<DomId>,
    /// The version of its grant table.
    pub grant_version: GrantVersion,
    /// The size of its grant table in frames: 512 entries each in version 1, 256 in version 2.
    pub grant_frames: usize,
    /// What its memory is made of.
    pub backing: Backing,
}

impl DomainOptions {
    /// Xen's defaults.
    pub fn new(name: &str, pages: usize) -> DomainOptions {
        DomainOptions {
            name: name.to_owned(),
            pages,
            domid: None,
            grant_version: GrantVersion::V2,
            grant_frames: 64,
            backing: Backing::default(),
        }
    }
}

/// Why a domain could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CreateError {
    /// There is a domain with that id.
    #[error("domain id {0} is in use")]
    InUse(DomId),
    /// Not an id that a domain can have, or none is free.
    #[error("not a domain id that can be used")]
    BadId,
    /// No memory, no grant table, or more pages than version 1's 32-bit frame numbers can name.
    #[error("a domain cannot have that much, or that little, memory")]
    BadSize,
    /// The system gave no memory.
    #[error("no memory for the domain: {0}")]
    NoMemory(#[from] Errno),
}
