//! Granting, revoking, and pages that a peer holds on to.

use xenvelope_grant::seam::{Access, Buffer, Granter, Host, Pinned, ReceiveArea, Share, Shared};
use xenvelope_grant::{GrantError, PAGE_SIZE, Status};

use super::*;

const BOTH: [GrantVersion; 2] = [GrantVersion::V1, GrantVersion::V2];

#[test]
fn what_was_granted_can_be_copied_by_the_grantee_until_it_is_revoked() {
    for version in BOTH {
        let (machine, one, other) = two(version);
        let third = machine.create_domain("third", 16);
        let out = one.grant(filled(&one, 9000, 7), other.peer(), 10..9000, Access::Read);
        let out = out.expect("references");
        let segments = one.segments(&out).to_vec();
        let lengths: Vec<_> = segments.iter().map(|s| (s.offset, s.len)).collect();
        assert_eq!(lengths, [(10, 4086), (0, 4096), (0, 808)]);
        for segment in &segments {
            let got = fetch(&other, one.domid(), *segment).expect("granted");
            assert!(got.iter().all(|byte| *byte == 7));
            let stolen = fetch(&third, one.domid(), *segment);
            assert_eq!(stolen, Err(GrantError::General.status()));
        }
        assert_eq!(machine.scan_grants(one.domid()).len(), 3);
        let buffer = one.recycle(out).expect("nobody uses it");
        assert_eq!(buffer.capacity(), 4 * PAGE_SIZE);
        assert_eq!(machine.scan_grants(one.domid()), []);
        let late = fetch(&other, one.domid(), segments[0]);
        assert_eq!(late, Err(GrantError::General.status()));
    }
}

#[test]
fn a_version_2_grant_shows_the_used_bytes_and_none_beside_them() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let out = one.grant(filled(&one, 100, 9), other.peer(), 64..128, Access::Read);
    let out = out.expect("references");
    let segment = one.segments(&out)[0];
    for (offset, len) in [(63, 2), (127, 2), (0, 1), (128, 1)] {
        let beside = Segment { offset, len, ..segment };
        let found = fetch(&other, one.domid(), beside);
        assert_eq!(found, Err(GrantError::General.status()), "{offset}+{len}");
    }
    let mapped = other.import(one.domid(), &[segment.gref], Access::Read);
    assert_eq!(mapped.err(), Some(GrantError::General), "sub-pages are not mapped");
}

#[test]
fn a_full_page_grant_holds_nothing_but_the_used_bytes() {
    for (version, access) in [(GrantVersion::V1, Access::Read), (GrantVersion::V2, Access::Write)] {
        let (_machine, one, other) = two(version);
        let out = one.grant(filled(&one, 5000, 9), other.peer(), 100..5000, access);
        let out = out.expect("references");
        let segments = one.segments(&out).to_vec();
        let whole = |page: usize| Segment { offset: 0, len: 4096, ..segments[page] };
        let head = fetch(&other, one.domid(), whole(0)).expect("a full page");
        let tail = fetch(&other, one.domid(), whole(1)).expect("a full page");
        assert!(head[..100].iter().chain(&tail[904..]).all(|byte| *byte == 0), "XSA-403");
        assert!(head[100..].iter().chain(&tail[..904]).all(|byte| *byte == 9));
    }
}

#[test]
fn a_mapped_page_cannot_be_revoked_until_it_is_unmapped() {
    let (_machine, one, other) = two(GrantVersion::V1);
    let out = one.grant(filled(&one, 4096, 1), other.peer(), 0..4096, Access::Read);
    let out = out.expect("references");
    let mapping = other.import(one.domid(), &[one.segments(&out)[0].gref], Access::Read);
    let Err(Pinned(out)) = one.revoke(out) else { panic!("revoked under a mapping") };
    let Err(Pinned(out)) = one.recycle(out) else { panic!("recycled under a mapping") };
    drop(mapping);
    one.revoke(out).expect("unmapped");
}

#[test]
fn a_partly_pinned_buffer_keeps_what_is_left_for_the_next_try() {
    let (machine, one, other) = two(GrantVersion::V1);
    let out = one.grant(filled(&one, 8192, 1), other.peer(), 0..8192, Access::Read);
    let out = out.expect("references");
    let refs: Vec<_> = one.segments(&out).iter().map(|segment| segment.gref).collect();
    let mapping = other.import(one.domid(), &refs[1..], Access::Read).expect("granted");
    let Err(Pinned(out)) = one.revoke(out) else { panic!("revoked under a mapping") };
    let left: Vec<_> = machine.scan_grants(one.domid()).into_iter().map(|g| g.0).collect();
    assert_eq!(left, [refs[1]]);
    drop(mapping);
    one.revoke(out).expect("unmapped");
}

#[test]
fn a_buffer_that_is_dropped_while_pinned_is_not_used_again_before_it_is_released() {
    for version in BOTH {
        let (machine, one, other) = two(version);
        let buffer = filled(&one, 4096, 1);
        let address = buffer.dma_address();
        let out = one.grant(buffer, other.peer(), 0..4096, Access::Write).expect("references");
        let refs = [one.segments(&out)[0].gref];
        let mapping = other.import(one.domid(), &refs, Access::Write).expect("granted");
        drop(out);
        let held: Vec<_> = (0..10).map(|_| one.take(None, 1).expect("memory")).collect();
        assert!(held.iter().all(|other| other.dma_address() != address), "XSA-396");
        drop(mapping);
        drop(held);
        let again: Vec<_> = (0..11).map(|_| one.take(None, 1).expect("memory")).collect();
        assert!(again.iter().any(|buffer| buffer.dma_address() == address));
        assert_eq!(machine.scan_grants(one.domid()), []);
    }
}

#[test]
fn granting_without_free_references_gives_the_buffer_back() {
    let machine = Machine::new(Costs::ideal());
    let options = DomainOptions { grant_frames: 1, ..DomainOptions::new("small", 300) };
    let one = machine.create(&options).expect("a domain");
    let peer = one.peer();
    let mut held = Vec::new();
    let refused = loop {
        match one.grant(filled(&one, 1, 0), peer, 0..1, Access::Read) {
            Ok(out) => held.push(out),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.cause, GrantError::NoSpace);
    assert_eq!(held.len(), 256 - 8);
    assert!(held.iter().all(|out| one.segments(out)[0].gref.0 >= Gref::FIRST_FREE));
    one.revoke(held.pop().expect("one of them")).expect("idle");
    one.grant(refused.buffer, peer, 0..1, Access::Read).expect("a reference was freed");
}

#[test]
fn somebody_elses_buffer_is_neither_granted_nor_a_local_end() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let refused = one.grant(filled(&other, 1, 0), other.peer(), 0..1, Access::Read);
    assert_eq!(refused.expect_err("not its own").cause, GrantError::BadPage);
    let out = one.grant(filled(&one, 1, 5), other.peer(), 0..1, Access::Read).expect("granted");
    let source = foreign(one.domid(), one.segments(&out)[0].gref, 0);
    let mut smuggled = filled(&one, 1, 0);
    let status = copy(&other, source, local(0), 1, &mut smuggled);
    assert_eq!(status, GrantError::BadPage.status());
}

#[test]
fn an_areas_page_is_read_only_after_its_writer_is_locked_out() {
    for version in BOTH {
        let (_machine, one, other) = two(version);
        drop(filled(&one, 3 * PAGE_SIZE, 0xee));
        let mut area = one.receive_area(other.domid(), 3).expect("memory");
        let gref = area.open(1).expect("a reference");
        assert_eq!(area.open(1), Ok(gref));
        let mut frame = filled(&other, 4096, 3);
        let target = foreign(one.domid(), gref, 8);
        assert_eq!(copy(&other, local(0), target, 100, &mut frame), Status::OKAY);
        assert_eq!(area.stack_bytes(4000..5000), None);
        assert!(!area.get(4096, &mut [0; 4]));
        assert_eq!(area.stack_bytes(0..4096).map(<[u8]>::len), Some(4096));
        let mapping = other.import(one.domid(), &[gref], Access::Write).expect("granted");
        area.close(1).expect_err("mapped");
        assert_eq!(area.stack_bytes(4096..4097), None);
        drop(mapping);
        area.close(1).expect("unmapped");
        let bytes = area.stack_bytes(4096..8192).expect("closed");
        assert!(bytes[..8].iter().chain(&bytes[108..]).all(|byte| *byte == 0), "XSA-403");
        assert!(bytes[8..108].iter().all(|byte| *byte == 3));
        assert_eq!(area.stack_bytes(0..3 * 4096 + 1), None);
        assert_eq!(copy(&other, local(0), target, 1, &mut frame), GrantError::General.status());
    }
}

#[test]
fn an_area_that_is_dropped_while_its_writer_is_inside_is_not_used_again() {
    let (machine, one, other) = two(GrantVersion::V2);
    let mut area = one.receive_area(other.domid(), 1).expect("memory");
    let gref = area.open(0).expect("a reference");
    let frame = machine.scan_grants(one.domid()).len();
    let mapping = other.import(one.domid(), &[gref], Access::Write).expect("granted");
    drop(area);
    let fresh = one.export(other.domid(), 1, Access::Read).expect("another page");
    assert_ne!(fresh.refs(), [gref]);
    use std::sync::atomic::Ordering::Relaxed;
    use xenvelope_grant::Words;
    mapping.store_u32(0, 0xdead, Relaxed);
    assert_eq!((frame, fresh.load_u32(0, Relaxed)), (1, 0));
}
