//! By which mechanism the right to read a page reaches the domain that reads it, and which of
//! them a hypervisor has.
//!
//! The paper that envelopes come from compares three in its section 3.3 and chooses the first.

use core::fmt;

use thiserror::Error;

use crate::GrantError;

/// By which mechanism the right to read reaches the reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Mechanism {
    /// Guest destination mapping: the sender finds out who will read, and grants to that domain.
    #[default]
    Destination,
    /// The sender grants to the driver domain, which finds out who will read and passes the right
    /// on (`GTF_transitive`, version 2 of the grant table).
    Transitive,
    /// The sender grants to whoever has a key, for one use. No Xen has it.
    Keyed,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Mechanism; 3] =
        [Mechanism::Destination, Mechanism::Transitive, Mechanism::Keyed];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Destination => "destination",
            Mechanism::Transitive => "transitive",
            Mechanism::Keyed => "keyed",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The hypervisor that we run on, or the version of our grant table, has no such grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("this hypervisor, or this version of the grant table, has no {0} grants")]
pub struct Lacks(pub Mechanism);

/// Why a grant by a mechanism other than [`Mechanism::Destination`] did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MechanismError {
    /// There are no such grants here.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// Granting failed.
    #[error(transparent)]
    Grant(#[from] GrantError),
}
