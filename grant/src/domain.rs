//! Domain ids, grant references and peers.

use core::fmt;

/// Bytes of a page. Grants, rings and tables are made of these.
pub const PAGE_SIZE: usize = 4096;

/// A domain id (`domid_t`, `xen/include/public/xen.h`). Ordinary domains are below
/// [`DomId::FIRST_RESERVED`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// Domain 0, in whose hands the toolstack is; here also the driver domain by default.
    pub const DOM0: DomId = DomId(0);
    /// `DOMID_FIRST_RESERVED`: ids from here on never name an ordinary domain.
    pub const FIRST_RESERVED: u16 = 0x7FF0;
    /// `DOMID_SELF`: in a hypercall, the caller.
    pub const SELF: DomId = DomId(0x7FF0);
    /// `DOMID_INVALID`: names nobody.
    pub const INVALID: DomId = DomId(0x7FF4);

    /// The id, if it can name an ordinary domain.
    pub const fn ordinary(id: u16) -> Option<DomId> {
        if id < Self::FIRST_RESERVED { Some(DomId(id)) } else { None }
    }
}

impl fmt::Debug for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A grant reference: an index into the granting domain's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gref(pub u32);

impl Gref {
    /// `GNTTAB_NR_RESERVED_ENTRIES`: references below this belong to the toolstack (console,
    /// xenstore).
    pub const FIRST_FREE: u32 = 8;
}

impl fmt::Debug for Gref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// Another domain, in one of its lives. A domid that is used again is another peer, and gets
/// nothing that was meant for its predecessor (XSA-322, XSA-417, XSA-483).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    /// The domain id.
    pub domid: DomId,
    /// Which life of that id: 48 bits, given by the manager, never repeated on a host.
    pub incarnation: u64,
}

impl Peer {
    /// Incarnations are 48 bits wide, as the forwarding table stores them.
    pub const INCARNATION_MASK: u64 = (1 << 48) - 1;
}
