//! One entry with a key, with the owner's side from `xenvelope_grant::table`.

use xenvelope_grant::DomId;
use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::Access;
use xenvelope_grant::table::GrantTable;

use super::super::{Purpose, Request};
use super::*;
use crate::memory::{PageRun, Window};

const REF: Gref = Gref(9);
const SECRET: u64 = 0x5eed_0000_0000_0001;
const PART: Extent = Extent::SubPage { frame: 3, offset: 64, length: 100 };
const BYTES: PageExtent = PageExtent { frame: 3, start: 64, length: 100 };

struct Table {
    guest: GrantTable<Window>,
    check: GrantCheck<Window>,
    keys: Window,
    active: ActiveEntry,
}

fn table() -> Table {
    let page = || PageRun::map(1).expect("a page").window(1);
    let (entries, status, keys) = (page(), page(), page());
    let check = GrantCheck::new(DomId(1), 16, entries.clone(), Some(status.clone()));
    let guest = GrantTable::V2 { entries, status };
    Table { guest, check: check.with_keys(keys.clone()), keys, active: ActiveEntry::IDLE }
}

impl Table {
    fn grant(&self, key: u64, extent: Extent) {
        self.keys.store_u64(REF.0 as usize * KEY, key, Relaxed);
        self.guest.grant_keyed(REF, extent).expect("a free entry");
    }
    fn acquire(&mut self, key: u64) -> Result<PageExtent, GrantError> {
        self.check.acquire_keyed(&mut self.active, REF, key)
    }
    fn release(&mut self) {
        self.check.release(&mut self.active, REF, Access::Read);
    }
}

#[test]
fn the_key_opens_the_entry_once() {
    let mut table = table();
    table.grant(SECRET, PART);
    assert_eq!(table.acquire(SECRET), Ok(BYTES));
    table.release();
    assert_eq!(table.acquire(SECRET), Err(GrantError::General), "it was used");
    assert_eq!(table.guest.revoke(REF), Ok(()), "nobody is inside any more");
    table.grant(SECRET + 1, PART);
    assert_eq!(table.acquire(SECRET), Err(GrantError::General), "the key of the use before");
    assert_eq!(table.acquire(SECRET + 1), Ok(BYTES));
}

#[test]
fn another_key_opens_nothing_and_uses_nothing_up() {
    let mut table = table();
    table.grant(SECRET, PART);
    for bit in 0..64 {
        assert_eq!(table.acquire(SECRET ^ 1 << bit), Err(GrantError::General));
    }
    assert_eq!(table.acquire(0), Err(GrantError::General));
    assert!(!table.guest.in_use(REF), "a refused use leaves no bits behind");
    assert_eq!(table.acquire(SECRET), Ok(BYTES));
}

#[test]
fn who_is_inside_keeps_the_owner_and_everybody_else_out() {
    let mut table = table();
    table.grant(SECRET, PART);
    table.acquire(SECRET).expect("the key");
    assert!(table.guest.revoke(REF).is_err(), "somebody is inside");
    assert_eq!(table.acquire(SECRET), Err(GrantError::General));
    // Not even when the owner makes the entry valid again under the use.
    table.grant(SECRET, PART);
    assert_eq!(table.acquire(SECRET), Err(GrantError::General));
    table.release();
    assert_eq!(table.guest.revoke(REF), Ok(()));
}

#[test]
fn a_revoked_entry_is_closed_to_the_key() {
    let mut table = table();
    table.grant(SECRET, PART);
    table.guest.revoke(REF).expect("nobody is inside");
    assert_eq!(table.acquire(SECRET), Err(GrantError::General));
    assert!(!table.guest.in_use(REF));
}

#[test]
fn without_naming_the_key_nobody_gets_in_and_nobody_maps() {
    let mut table = table();
    table.grant(SECRET, Extent::FullPage { frame: 3 });
    for purpose in [Purpose::Copy { transitive: true }, Purpose::Map] {
        for grantee in [DomId(0), DomId(1), DomId(2), DomId::INVALID] {
            for access in [Access::Read, Access::Write] {
                let request = Request { grantee, access, purpose };
                let found = table.check.acquire(&mut table.active, REF, request);
                assert_eq!(found.err(), Some(GrantError::General), "{request:?}");
            }
        }
    }
    assert_eq!(table.acquire(SECRET), Ok(PageExtent::whole(3)));
}

#[test]
fn entries_for_a_domain_have_no_key_and_frames_must_be_the_owners() {
    let mut table = table();
    table.keys.store_u64(REF.0 as usize * KEY, SECRET, Relaxed);
    table.guest.grant(REF, DomId(2), PART, Access::Read).expect("a free entry");
    assert_eq!(table.acquire(SECRET), Err(GrantError::General), "it is domain 2's");
    table.grant(SECRET, Extent::FullPage { frame: 16 });
    assert_eq!(table.acquire(SECRET), Err(GrantError::BadPage));
    assert!(!table.guest.in_use(REF) && !table.active.is_pinned());
    let beyond = Gref(table.check.len() as u32);
    let found = table.check.acquire_keyed(&mut ActiveEntry::IDLE.clone(), beyond, SECRET);
    assert_eq!(found, Err(GrantError::BadRef));
}

#[test]
fn a_table_without_keys_has_no_such_entries() {
    let page = || PageRun::map(1).expect("a page").window(1);
    for status in [None, Some(page())] {
        let check = GrantCheck::new(DomId(1), 16, page(), status);
        let found = check.acquire_keyed(&mut ActiveEntry::IDLE.clone(), REF, 0);
        assert_eq!(found, Err(GrantError::General));
    }
    let version_1 = GrantTable::V1 { entries: page() };
    assert!(version_1.grant_keyed(REF, Extent::FullPage { frame: 0 }).is_err());
}
