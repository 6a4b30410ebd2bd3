//! A grant entry between its owner and the hypervisor, model checked: after a revoke that
//! succeeded nobody is in the page, and nobody gets in.
//!
//! The owner's side is `xenvelope_grant::table`, the hypervisor's is `GrantCheck` of the
//! simulator, which does what Xen does.
//!
//! **Bounds.** Two threads, one entry, one use, pages of 8 bytes; all executions, with any number
//! of preemptions. Versions 1 and 2, full pages and sub-pages.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::thread;
use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::Access;
use xenvelope_grant::table::{ENTRY_V1, ENTRY_V2, GrantTable};
use xenvelope_grant::{DomId, GrantError, Gref, Words};
use xenvelope_hypervisor_sim::machine::PageExtent;
use xenvelope_hypervisor_sim::machine::grant_check::{
    Acquired, ActiveEntry, GrantCheck, Purpose, Request,
};
use xenvelope_tests::loom_words::{LoomMemory, LoomWords, Weakness, caught, check};

const OWNER: DomId = DomId(1);
const PEER: DomId = DomId(2);
const STRANGER: DomId = DomId(3);
const REF: Gref = Gref(0);
const FRAMES: u64 = 3;
/// Bytes of a modelled page that are ever looked at.
const PAGE: usize = 8;
const OLD: [u8; PAGE] = [0x11; PAGE];
const NEW: [u8; PAGE] = [0x22; PAGE];
const LEAK: &str = "not the bytes that were granted";

/// What is granted: frame 1, and what of it the version can express.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    V1,
    V2,
    V2SubPage,
}

const KINDS: [Kind; 3] = [Kind::V1, Kind::V2, Kind::V2SubPage];

impl Kind {
    fn extent(self, frame: u64) -> Extent {
        match self {
            Kind::V1 | Kind::V2 => Extent::FullPage { frame },
            Kind::V2SubPage => Extent::SubPage { frame, offset: 0, length: PAGE as u16 },
        }
    }

    fn seen(self, frame: u64) -> PageExtent {
        match self {
            Kind::V1 | Kind::V2 => PageExtent::whole(frame),
            Kind::V2SubPage => PageExtent { frame, start: 0, length: PAGE as u16 },
        }
    }
}

/// A domain's table and pages.
struct Domain {
    kind: Kind,
    entries: Arc<LoomMemory>,
    status: Arc<LoomMemory>,
    pages: Arc<LoomMemory>,
}

impl Domain {
    fn new(kind: Kind) -> Domain {
        let entries = LoomMemory::new().with_u16(0..4);
        let entries = match kind {
            Kind::V1 => entries.with_u32(4..ENTRY_V1),
            Kind::V2 | Kind::V2SubPage => entries.with_u32(4..8).with_u64(8..ENTRY_V2),
        };
        Domain {
            kind,
            entries: entries.share(),
            status: LoomMemory::new().with_u16(0..2).share(),
            pages: LoomMemory::new().with_u32(0..FRAMES as usize * PAGE).share(),
        }
    }

    fn owner(&self, weakness: Weakness) -> Owner {
        let entries = LoomWords::weakened(&self.entries, weakness);
        let table = match self.kind {
            Kind::V1 => GrantTable::V1 { entries },
            _ => GrantTable::V2 { entries, status: LoomWords::weakened(&self.status, weakness) },
        };
        Owner { kind: self.kind, table, pages: LoomWords::of(&self.pages) }
    }

    fn hypervisor(&self, weakness: Weakness) -> Hypervisor {
        let entries = LoomWords::weakened(&self.entries, weakness);
        let status = (self.kind != Kind::V1).then(|| LoomWords::weakened(&self.status, weakness));
        Hypervisor {
            check: GrantCheck::new(OWNER, FRAMES, entries, status),
            active: ActiveEntry::IDLE,
            pages: LoomWords::of(&self.pages),
        }
    }
}

struct Owner {
    kind: Kind,
    table: GrantTable<LoomWords>,
    pages: LoomWords,
}

impl Owner {
    fn grant(&self, frame: u64, to: DomId, access: Access) {
        self.table.grant(REF, to, self.kind.extent(frame), access).expect("a free entry");
    }

    fn write(&self, frame: u64, bytes: [u8; PAGE]) {
        self.pages.copy_in(frame as usize * PAGE, &bytes);
    }

    fn read(&self, frame: u64) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        self.pages.copy_out(frame as usize * PAGE, &mut bytes);
        bytes
    }
}

struct Hypervisor {
    check: GrantCheck<LoomWords>,
    active: ActiveEntry,
    pages: LoomWords,
}

impl Hypervisor {
    /// One copy for `PEER`: what is done with the page is done while it is pinned.
    fn copy<R>(
        &mut self,
        access: Access,
        body: impl FnOnce(&LoomWords, PageExtent) -> R,
    ) -> Result<R, GrantError> {
        let purpose = Purpose::Copy { transitive: true };
        let request = Request { grantee: PEER, access, purpose };
        let Acquired::Extent(extent) = self.check.acquire(&mut self.active, REF, request)? else {
            panic!("nothing transitive was granted");
        };
        let result = body(&self.pages, extent);
        self.check.release(&mut self.active, REF, access);
        Ok(result)
    }
}

/// The owner sends a page and wants it back without a done, to use it for something else.
fn send(kind: Kind, owner: Weakness, hypervisor: Weakness) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    let receiver = thread::spawn(move || {
        // It fails, or sees what was granted and nothing else.
        let _ = hypervisor.copy(Access::Read, |pages, extent| {
            assert_eq!(extent, kind.seen(1), "{LEAK}");
            let mut bytes = [0; PAGE];
            pages.copy_out(PAGE, &mut bytes);
            assert_eq!(bytes, OLD, "{LEAK}");
        });
    });
    owner.write(1, OLD);
    owner.grant(1, PEER, Access::Read);
    if owner.table.revoke(REF).is_ok() {
        owner.write(1, NEW);
    }
    receiver.join().expect("the copy ends");
    assert_eq!(owner.table.revoke(REF), Ok(()), "a use that has ended leaves no bits behind");
}

/// The owner lets a backend write a page, takes it back and reads it.
fn receive(kind: Kind, owner: Weakness, hypervisor: Weakness) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    owner.write(1, OLD);
    owner.grant(1, PEER, Access::Write);
    let sender = thread::spawn(move || {
        hypervisor.copy(Access::Write, |pages, _| pages.copy_in(PAGE, &NEW)).is_ok()
    });
    let found = owner.table.revoke(REF).is_ok().then(|| owner.read(1));
    let written = sender.join().expect("the copy ends");
    if let Some(found) = found {
        assert_eq!(found, if written { NEW } else { OLD }, "{LEAK}");
    }
}

/// The owner takes an entry back and grants it to somebody else, for another page. The reference
/// that `PEER` still has leads to nothing of that.
fn grant_again(kind: Kind, owner: Weakness, hypervisor: Weakness) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    owner.grant(1, PEER, Access::Read);
    let late = thread::spawn(move || {
        let _ = hypervisor.copy(Access::Read, |_, extent| {
            assert_eq!(extent, kind.seen(1), "{LEAK}");
        });
    });
    if owner.table.revoke(REF).is_ok() {
        owner.grant(2, STRANGER, Access::Read);
    }
    late.join().expect("the copy ends");
}

#[test]
fn a_copy_sees_only_what_was_granted_or_fails() {
    for kind in KINDS {
        check(None, move || send(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn what_a_user_wrote_is_visible_after_the_revoke() {
    for kind in KINDS {
        check(None, move || receive(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn an_old_reference_does_not_lead_to_what_another_domain_was_granted() {
    for kind in KINDS {
        check(None, move || grant_again(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn a_revoke_fails_while_a_copy_is_under_way() {
    for kind in KINDS {
        check(None, move || {
            let domain = Domain::new(kind);
            let mut hypervisor = domain.hypervisor(Weakness::None);
            let owner = domain.owner(Weakness::None);
            owner.grant(1, PEER, Access::Read);
            let copied = hypervisor.copy(Access::Read, |_, _| {
                assert!(owner.table.revoke(REF).is_err() && owner.table.in_use(REF));
            });
            assert_eq!(copied, Ok(()));
            assert_eq!(owner.table.revoke(REF), Ok(()));
            let flags = LoomWords::of(&domain.entries).load_u16(0, Relaxed);
            assert_eq!(flags, 0, "nothing of the entry is left");
        });
    }
}

#[test]
fn a_grant_without_release_is_caught() {
    for kind in KINDS {
        caught(None, LEAK, move || send(kind, Weakness::ReleaseRelaxed(0), Weakness::None));
    }
}

#[test]
fn a_hypervisor_that_looks_at_the_flags_without_acquire_is_caught() {
    // The second look is the one that needs it: an entry that was granted again in between. In
    // version 1 the compare-exchange acquires.
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || grant_again(kind, Weakness::None, Weakness::AcquireRelaxed(0)));
    }
}

#[test]
fn a_version_2_revoke_without_a_full_barrier_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || send(kind, Weakness::NoFullBarrier, Weakness::None));
    }
}

#[test]
fn a_hypervisor_that_sets_the_status_without_a_full_barrier_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || send(kind, Weakness::None, Weakness::NoFullBarrier));
    }
}

#[test]
fn a_version_2_use_that_ends_without_release_or_acquire_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || receive(kind, Weakness::None, Weakness::ReleaseRelaxed(0)));
        caught(None, LEAK, move || receive(kind, Weakness::AcquireRelaxed(0), Weakness::None));
    }
}

#[test]
fn version_1_exchanges_without_ordering_are_caught() {
    let weak = Weakness::ExchangeRelaxed;
    // The owner's acquires what a writer has left, the hypervisor's releases it.
    caught(None, LEAK, move || receive(Kind::V1, weak, Weakness::None));
    caught(None, LEAK, move || receive(Kind::V1, Weakness::None, weak));
    // The hypervisor's also makes the second look at the domid see the entry that it pinned.
    caught(None, LEAK, move || grant_again(Kind::V1, Weakness::None, weak));
}
