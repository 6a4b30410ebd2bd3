//! A domain whose grant entry is model checked: the owner's side is `xenvelope_grant::table`, the
//! hypervisor's is `GrantCheck` of the simulator, which does what Xen does. Two entries, of which most
//! models use one, and pages of 8 bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::entry::{EntryKind, Extent};
use xenvelope_grant::seam::Access;
use xenvelope_grant::table::{ENTRY_V1, ENTRY_V2, GrantTable, STATUS_V2};
use xenvelope_grant::{DomId, GrantError, Gref, Words};
use xenvelope_hypervisor_sim::machine::PageExtent;
use xenvelope_hypervisor_sim::machine::grant_check::{
    Acquired, ActiveEntry, GrantCheck, KEY, Purpose, Request,
};

use crate::loom_words::{LoomMemory, LoomWords, Weakness};

/// The domain whose entry it is.
pub const OWNER: DomId = DomId(1);
/// The domain that uses it.
pub const PEER: DomId = DomId(2);
/// A domain that has nothing to look for there.
pub const STRANGER: DomId = DomId(3);
/// The entry.
pub const REF: Gref = Gref(0);
/// Another one.
pub const OTHER: Gref = Gref(1);
/// How many there are.
const ENTRIES: usize = 2;
/// Frames of the owner's memory.
pub const FRAMES: u64 = 3;
/// Bytes of a modelled page that are ever looked at.
pub const PAGE: usize = 8;

/// Which version of the table, and what of a frame is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Version 1.
    V1,
    /// Version 2, a whole page.
    V2,
    /// Version 2, a part of a page.
    V2SubPage,
}

/// All kinds.
pub const KINDS: [Kind; 3] = [Kind::V1, Kind::V2, Kind::V2SubPage];

impl Kind {
    /// What the owner grants of a frame.
    pub fn extent(self, frame: u64) -> Extent {
        match self {
            Kind::V1 | Kind::V2 => Extent::FullPage { frame },
            Kind::V2SubPage => Extent::SubPage { frame, offset: 0, length: PAGE as u16 },
        }
    }

    /// The same as the hypervisor says it.
    pub fn seen(self, frame: u64) -> PageExtent {
        match self {
            Kind::V1 | Kind::V2 => PageExtent::whole(frame),
            Kind::V2SubPage => PageExtent { frame, start: 0, length: PAGE as u16 },
        }
    }
}

/// A domain's table and pages.
pub struct Domain {
    kind: Kind,
    entries: Arc<LoomMemory>,
    status: Arc<LoomMemory>,
    keys: Arc<LoomMemory>,
    pages: Arc<LoomMemory>,
}

impl Domain {
    /// A domain that has granted nothing.
    pub fn new(kind: Kind) -> Domain {
        let mut entries = LoomMemory::new();
        for entry in 0..ENTRIES {
            entries = match kind {
                Kind::V1 => {
                    let at = entry * ENTRY_V1;
                    entries.with_u16(at..at + 4).with_u32(at + 4..at + ENTRY_V1)
                }
                Kind::V2 | Kind::V2SubPage => {
                    let at = entry * ENTRY_V2;
                    let entries = entries.with_u16(at..at + 4).with_u32(at + 4..at + 8);
                    entries.with_u64(at + 8..at + ENTRY_V2)
                }
            };
        }
        Domain {
            kind,
            entries: entries.share(),
            status: LoomMemory::new().with_u16(0..ENTRIES * STATUS_V2).share(),
            keys: LoomMemory::new().with_u64(0..ENTRIES * KEY).share(),
            pages: LoomMemory::new().with_u32(0..FRAMES as usize * PAGE).share(),
        }
    }

    /// The entries' words.
    pub fn entries(&self) -> LoomWords {
        LoomWords::of(&self.entries)
    }

    /// The granting domain's side of it.
    pub fn owner(&self, weakness: Weakness) -> Owner {
        let entries = LoomWords::weakened(&self.entries, weakness);
        let table = match self.kind {
            Kind::V1 => GrantTable::V1 { entries },
            _ => GrantTable::V2 { entries, status: LoomWords::weakened(&self.status, weakness) },
        };
        let keys = LoomWords::of(&self.keys);
        Owner { kind: self.kind, table, keys, pages: LoomWords::of(&self.pages) }
    }

    /// The hypervisor's.
    pub fn hypervisor(&self, weakness: Weakness) -> Hypervisor {
        self.hypervisor_with_keys(weakness, Weakness::None)
    }

    /// The hypervisor's, with a weakness of its own for the keys.
    pub fn hypervisor_with_keys(&self, weakness: Weakness, of_keys: Weakness) -> Hypervisor {
        let entries = LoomWords::weakened(&self.entries, weakness);
        // Only the hypervisor writes there: its looks at it are no part of the protocol.
        let of_status =
            if matches!(weakness, Weakness::LooksOnce(_)) { Weakness::None } else { weakness };
        let status = (self.kind != Kind::V1).then(|| LoomWords::weakened(&self.status, of_status));
        let keys = LoomWords::weakened(&self.keys, of_keys);
        Hypervisor {
            check: GrantCheck::new(OWNER, FRAMES, entries, status).with_keys(keys),
            active: [ActiveEntry::IDLE; ENTRIES],
            pages: LoomWords::of(&self.pages),
        }
    }
}

/// Who grants.
pub struct Owner {
    kind: Kind,
    /// Its side of the grant table.
    pub table: GrantTable<LoomWords>,
    keys: LoomWords,
    pages: LoomWords,
}

impl Owner {
    /// Grants a frame.
    pub fn grant(&self, frame: u64, to: DomId, access: Access) {
        self.grant_as(REF, frame, to, access);
    }

    /// Grants a frame by that entry.
    pub fn grant_as(&self, gref: Gref, frame: u64, to: DomId, access: Access) {
        self.table.grant(gref, to, self.kind.extent(frame), access).expect("a free entry");
    }

    /// Grants a frame to whoever has the key, as a domain of the simulator does.
    pub fn grant_keyed(&self, frame: u64, key: u64) {
        self.keys.store_u64(REF.0 as usize * KEY, key, Relaxed);
        self.table.grant_keyed(REF, self.kind.extent(frame)).expect("a free entry");
    }

    /// Fills a page.
    pub fn write(&self, frame: u64, bytes: [u8; PAGE]) {
        self.pages.copy_in(frame as usize * PAGE, &bytes);
    }

    /// Looks at a page.
    pub fn read(&self, frame: u64) -> [u8; PAGE] {
        page(&self.pages, frame)
    }
}

/// Who does for `PEER` what it may.
pub struct Hypervisor {
    check: GrantCheck<LoomWords>,
    active: [ActiveEntry; ENTRIES],
    pages: LoomWords,
}

impl Hypervisor {
    /// One copy for `PEER`: what is done with the page is done while it is pinned.
    pub fn copy<R>(
        &mut self,
        access: Access,
        body: impl FnOnce(&LoomWords, PageExtent) -> R,
    ) -> Result<R, GrantError> {
        self.copy_from(REF, access, body)
    }

    /// One copy for `PEER` by that entry.
    pub fn copy_from<R>(
        &mut self,
        gref: Gref,
        access: Access,
        body: impl FnOnce(&LoomWords, PageExtent) -> R,
    ) -> Result<R, GrantError> {
        self.hold(gref, access, Purpose::Copy { transitive: true }, body)
    }

    /// A mapping for `PEER`, from the map to the unmap.
    pub fn map<R>(
        &mut self,
        access: Access,
        body: impl FnOnce(&LoomWords, PageExtent) -> R,
    ) -> Result<R, GrantError> {
        self.hold(REF, access, Purpose::Map, body)
    }

    fn hold<R>(
        &mut self,
        gref: Gref,
        access: Access,
        purpose: Purpose,
        body: impl FnOnce(&LoomWords, PageExtent) -> R,
    ) -> Result<R, GrantError> {
        let request = Request { grantee: PEER, access, purpose };
        let active = &mut self.active[gref.0 as usize];
        let Acquired::Extent(extent) = self.check.acquire(active, gref, request)? else {
            panic!("nothing transitive was granted");
        };
        let result = body(&self.pages, extent);
        self.check.release(active, gref, access);
        Ok(result)
    }

    /// The one copy that a key is good for.
    pub fn copy_keyed<R>(
        &mut self,
        key: u64,
        body: impl FnOnce(&LoomWords, PageExtent) -> R,
    ) -> Result<R, GrantError> {
        let active = &mut self.active[REF.0 as usize];
        let extent = self.check.acquire_keyed(active, REF, key)?;
        let result = body(&self.pages, extent);
        self.check.release(active, REF, Access::Read);
        Ok(result)
    }

    /// Whether `PEER` may use the entry, as the hypervisor sees it now.
    pub fn permits_peer(&self) -> bool {
        let (flags, domid) = self.check.header(REF);
        flags.kind() == EntryKind::PermitAccess && domid == PEER
    }
}

/// The bytes of a page, copied out of it.
pub fn page(pages: &LoomWords, frame: u64) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    pages.copy_out(frame as usize * PAGE, &mut bytes);
    bytes
}
