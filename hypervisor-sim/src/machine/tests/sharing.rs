//! Pages that are shared for longer.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use xenvelope_grant::seam::{Access, Host, Pinned, Share, Shared};
use xenvelope_grant::{GrantError, PAGE_SIZE, Words};

use super::*;

#[test]
fn both_sides_see_the_same_words_and_fresh_pages_are_zero() {
    for version in [GrantVersion::V1, GrantVersion::V2] {
        let (_machine, one, other) = two(version);
        drop(filled(&one, 4 * PAGE_SIZE, 0xff));
        let ours = one.export(other.domid(), 3, Access::Write).expect("pages");
        // In another order: a mapping need not be contiguous.
        let refs = [ours.refs()[2], ours.refs()[0]];
        let theirs = other.import(one.domid(), &refs, Access::Write).expect("granted");
        assert_eq!((ours.size(), theirs.size()), (3 * PAGE_SIZE, 2 * PAGE_SIZE));
        let mut bytes = vec![1; 3 * PAGE_SIZE];
        ours.copy_out(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0));
        theirs.store_u32(PAGE_SIZE + 4, 0x0403_0201, Release);
        assert_eq!(ours.load_u32(4, Acquire), 0x0403_0201);
        assert_eq!(ours.compare_exchange_u16(4, 0x0201, 9), Ok(()));
        assert_eq!(theirs.compare_exchange_u16(PAGE_SIZE + 4, 0x0201, 9), Err(9));
    }
}

#[test]
fn pages_are_taken_back_only_when_nobody_has_them_mapped() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let ours = one.export(other.domid(), 2, Access::Write).expect("pages");
    let refs = ours.refs().to_vec();
    let theirs = other.import(one.domid(), &refs[..1], Access::Write).expect("granted");
    let Err(Pinned(ours)) = one.unexport(ours) else { panic!("taken back while mapped") };
    drop(theirs);
    one.unexport(ours).expect("unmapped");
    let late = other.import(one.domid(), &refs, Access::Write);
    assert_eq!(late.err(), Some(GrantError::General));
}

#[test]
#[should_panic(expected = "read-only")]
fn a_store_to_a_read_only_import_faults() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let ours = one.export(other.domid(), 1, Access::Read).expect("pages");
    let refused = other.import(one.domid(), ours.refs(), Access::Write);
    assert_eq!(refused.err(), Some(GrantError::General));
    let theirs = other.import(one.domid(), ours.refs(), Access::Read).expect("granted");
    theirs.store_u32(0, 1, Relaxed);
}

#[test]
fn an_import_that_fails_half_way_leaves_nothing_pinned() {
    let (machine, one, other) = two(GrantVersion::V2);
    let ours = one.export(other.domid(), 2, Access::Read).expect("pages");
    let refs = [ours.refs()[0], ours.refs()[1], Gref(9999)];
    let failed = other.import(one.domid(), &refs, Access::Read);
    assert_eq!(failed.err(), Some(GrantError::General));
    assert_eq!(machine.memory_snapshot(other.domid()), []);
    one.unexport(ours).expect("nothing is mapped");
}

#[test]
fn a_mapping_outlives_the_domain_that_owns_the_pages() {
    let (machine, one, other) = two(GrantVersion::V2);
    let ours = one.export(other.domid(), 1, Access::Read).expect("pages");
    ours.store_u32(0, 77, Relaxed);
    let theirs = other.import(one.domid(), ours.refs(), Access::Read).expect("granted");
    let refs = ours.refs().to_vec();
    machine.destroy(one.domid());
    drop((ours, one));
    assert_eq!(theirs.load_u32(0, Relaxed), 77);
    let late = other.import(DomId(0), &refs, Access::Read);
    assert_eq!(late.err(), Some(GrantError::BadDomain));
}

#[test]
fn a_snapshot_holds_what_a_domain_used_and_what_it_mapped() {
    let (machine, one, other) = two(GrantVersion::V2);
    let secret = filled(&one, 4096, 0x5a);
    assert!(!machine.readable_bytes(other.domid()).contains(&0x5a));
    assert!(machine.readable_bytes(one.domid()).contains(&0x5a));
    let ours = one.export(other.domid(), 1, Access::Read).expect("pages");
    ours.store_u32(0, 0x6b, Relaxed);
    let _theirs = other.import(one.domid(), ours.refs(), Access::Read).expect("granted");
    let pages = machine.memory_snapshot(other.domid());
    assert_eq!((pages.len(), pages[0].owner, pages[0].bytes[0]), (1, one.domid(), 0x6b));
    drop(secret);
}
