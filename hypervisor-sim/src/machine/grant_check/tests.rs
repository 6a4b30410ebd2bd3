//! The checks of one entry, with the grantor's side from `xenvelope_grant::table`.

use xenvelope_grant::entry::Extent;
use xenvelope_grant::table::GrantTable;

use super::*;
use crate::memory::{PageRun, Window};

const OWNER: DomId = DomId(1);
const PEER: DomId = DomId(2);
const REF: Gref = Gref(9);
const READ: Request =
    Request { grantee: PEER, access: Access::Read, purpose: Purpose::Copy { transitive: true } };
const WRITE: Request = Request { access: Access::Write, ..READ };
const MAP: Request = Request { purpose: Purpose::Map, ..READ };

struct Table {
    guest: GrantTable<Window>,
    check: GrantCheck<Window>,
    entries: Window,
    active: ActiveEntry,
}

fn table(version: u8) -> Table {
    let page = || PageRun::map(1).expect("a page").window(1);
    let (entries, status) = (page(), (version == 2).then(page));
    let check = GrantCheck::new(OWNER, 16, entries.clone(), status.clone());
    let guest = match status {
        None => GrantTable::V1 { entries: entries.clone() },
        Some(status) => GrantTable::V2 { entries: entries.clone(), status },
    };
    Table { guest, check, entries, active: ActiveEntry::IDLE }
}

impl Table {
    fn grant(&self, extent: Extent, access: Access) {
        self.guest.grant(REF, PEER, extent, access).expect("a free entry");
    }
    fn acquire(&mut self, request: Request) -> Result<Acquired, GrantError> {
        self.check.acquire(&mut self.active, REF, request)
    }
    fn release(&mut self, access: Access) {
        self.check.release(&mut self.active, REF, access);
    }
}

const PAGE: Extent = Extent::FullPage { frame: 3 };
const PART: Extent = Extent::SubPage { frame: 3, offset: 64, length: 100 };

#[test]
fn a_use_keeps_the_owner_from_revoking_until_the_last_user_has_left() {
    for version in [1, 2] {
        let mut table = table(version);
        table.grant(PAGE, Access::Write);
        assert_eq!(table.acquire(READ), Ok(Acquired::Extent(PageExtent::whole(3))));
        table.acquire(WRITE).expect("a writer beside a reader");
        table.acquire(READ).expect("a second reader");
        assert!(table.guest.revoke(REF).is_err());
        // A copy that ends must not clear the bits of a mapping (XSA-230).
        table.release(Access::Write);
        table.release(Access::Read);
        assert!(table.guest.revoke(REF).is_err(), "version {version}");
        table.release(Access::Read);
        assert_eq!(table.guest.revoke(REF), Ok(()), "version {version}");
        assert_eq!(table.acquire(READ), Err(GrantError::General));
    }
}

#[test]
fn wrong_domains_types_accesses_frames_and_references_get_xens_codes() {
    for version in [1, 2] {
        let mut table = table(version);
        assert_eq!(table.acquire(READ), Err(GrantError::General), "an invalid entry");
        table.grant(PAGE, Access::Read);
        let stranger = Request { grantee: DomId(3), ..READ };
        assert_eq!(table.acquire(stranger), Err(GrantError::General));
        assert_eq!(table.acquire(WRITE), Err(GrantError::General), "read-only");
        let beyond = Gref(table.check.len() as u32);
        let found = table.check.acquire(&mut ActiveEntry::IDLE.clone(), beyond, READ);
        assert_eq!(found, Err(GrantError::BadRef));
        table.grant(Extent::FullPage { frame: 16 }, Access::Read);
        assert_eq!(table.acquire(READ), Err(GrantError::BadPage));
        assert!(!table.active.is_pinned());
        assert!(!table.guest.in_use(REF), "a refused use leaves no bits behind");
    }
}

#[test]
fn sub_pages_are_copied_but_never_mapped() {
    let mut table = table(2);
    table.grant(PART, Access::Read);
    assert_eq!(table.acquire(MAP), Err(GrantError::General));
    let extent = PageExtent { frame: 3, start: 64, length: 100 };
    assert_eq!(table.acquire(READ), Ok(Acquired::Extent(extent)));
    // Not even when the owner widens the entry under a use.
    table.grant(PAGE, Access::Read);
    assert_eq!(table.acquire(MAP), Err(GrantError::General));
}

#[test]
fn an_entry_that_is_retargeted_while_pinned_cannot_be_upgraded_to_another_page() {
    for version in [1, 2] {
        let mut table = table(version);
        table.grant(PAGE, Access::Write);
        table.acquire(READ).expect("granted");
        table.grant(Extent::FullPage { frame: 4 }, Access::Write);
        assert_eq!(table.acquire(WRITE), Err(GrantError::General), "XSA-500");
        // Who is in already keeps what was checked.
        assert_eq!(table.acquire(READ), Ok(Acquired::Extent(PageExtent::whole(3))));
    }
}

#[test]
fn pins_are_counted_up_to_xens_limit() {
    let mut table = table(2);
    table.grant(PAGE, Access::Read);
    for _ in 0..MAX_PINS {
        table.acquire(READ).expect("below the limit");
    }
    assert_eq!(table.acquire(READ), Err(GrantError::General));
    for _ in 0..MAX_PINS {
        table.release(Access::Read);
    }
    assert_eq!(table.guest.revoke(REF), Ok(()));
}

#[test]
fn a_pinned_entry_is_not_lent_to_another_domain() {
    let mut table = table(2);
    table.grant(PAGE, Access::Read);
    table.acquire(READ).expect("granted");
    table.guest.grant(REF, DomId(3), PAGE, Access::Read).expect("rewritten");
    assert_eq!(table.acquire(Request { grantee: DomId(3), ..READ }), Err(GrantError::General));
}

#[test]
fn transitive_entries_name_another_domain_and_only_for_copies() {
    let mut table = table(2);
    let via = Extent::Transitive { domain: DomId(7), gref: Gref(70_000) };
    table.grant(via, Access::Read);
    assert_eq!(table.acquire(MAP), Err(GrantError::General));
    let second_level = Request { purpose: Purpose::Copy { transitive: false }, ..READ };
    assert_eq!(table.acquire(second_level), Err(GrantError::General));
    let before = ActiveEntry::IDLE;
    let found = Acquired::Transitive { domain: DomId(7), gref: Gref(70_000), before };
    assert_eq!(table.acquire(READ), Ok(found));
    assert!(table.guest.in_use(REF), "the entry is in use while the other is looked at");
    table.check.abandon(&mut table.active, REF, Access::Read);
    assert!(!table.guest.in_use(REF));
    table.grant(Extent::Transitive { domain: OWNER, gref: Gref(8) }, Access::Read);
    assert_eq!(table.acquire(READ), Err(GrantError::General), "self-referential");
    assert!(!table.guest.in_use(REF));
}

#[test]
fn a_transitive_entry_that_somebody_else_pinned_meanwhile_is_tried_again() {
    let mut table = table(2);
    table.grant(Extent::Transitive { domain: DomId(7), gref: Gref(70) }, Access::Read);
    let Ok(Acquired::Transitive { domain, gref, before }) = table.acquire(READ) else {
        panic!("a transitive entry");
    };
    let (via, extent) = ((domain, gref), PageExtent::whole(1));
    let first = table.check.complete(&mut table.active, READ, before, via, extent);
    assert_eq!(first, Ok(()));
    let second = table.check.complete(&mut table.active, READ, before, via, extent);
    assert_eq!(second, Err(Unstable));
    let elsewhere = PageExtent::whole(2);
    let now = table.active;
    let third = table.check.complete(&mut table.active, READ, now, via, elsewhere);
    assert_eq!(third, Err(Unstable));
}

/// The owner rewrites the entry all the time. Whatever is acquired must be what some complete
/// entry granted, and a revoke that succeeds must keep everybody out.
#[test]
fn a_spinning_owner_neither_holds_up_nor_fools_the_check() {
    for version in [1, 2] {
        let mut table = table(version);
        let entries = table.entries.clone();
        let at = REF.0 as usize * if version == 1 { ENTRY_V1 } else { ENTRY_V2 };
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    entries.store_u16(at, 1, Relaxed);
                    entries.store_u16(at + 2, PEER.0, Relaxed);
                    entries.store_u16(at, 0, Relaxed);
                    entries.store_u16(at + 2, 77, Relaxed);
                }
            });
            for _ in 0..50_000 {
                match table.acquire(READ) {
                    Ok(_) => table.release(Access::Read),
                    Err(error) => assert_eq!(error, GrantError::General),
                }
            }
            stop.store(true, Relaxed);
        });
        assert!(!table.active.is_pinned());
    }
}
