//! Grants with keys between domains, and what happens when several use one at once.

use std::sync::Barrier;

use xenvelope_grant::seam::{Access, Buffer, Granter, Host, Mechanism, MechanismError, Pinned};
use xenvelope_grant::{GrantError, Status};

use super::*;

fn keyed(dom: DomId, segment: Segment, key: u64) -> End {
    End::Keyed { dom, gref: segment.gref, offset: segment.offset, key }
}

fn fetch_keyed(by: &Domain, from: DomId, segment: Segment, key: u64) -> Result<Vec<u8>, Status> {
    let mut buffer = filled(by, 4096, 0);
    match copy(by, keyed(from, segment, key), local(0), segment.len, &mut buffer) {
        Status::OKAY => Ok(buffer.stack_bytes()[..usize::from(segment.len)].to_vec()),
        status => Err(status),
    }
}

#[test]
fn whoever_has_the_key_copies_each_piece_once_and_the_owner_gets_it_back() {
    let (machine, one, other) = two(GrantVersion::V2);
    let third = machine.create_domain("third", 16);
    let out = one.grant_keyed(filled(&one, 9000, 7), 42, 10..9000).expect("references");
    let segments = one.segments(&out).to_vec();
    for (by, segment) in [&other, &third, &other].into_iter().zip(&segments) {
        assert_eq!(fetch_keyed(by, one.domid(), *segment, 41), Err(GrantError::General.status()));
        assert_eq!(fetch(by, one.domid(), *segment), Err(GrantError::General.status()));
        let got = fetch_keyed(by, one.domid(), *segment, 42).expect("the key");
        assert!(got.iter().all(|byte| *byte == 7));
        assert_eq!(fetch_keyed(by, one.domid(), *segment, 42), Err(GrantError::General.status()));
    }
    assert_eq!(machine.scan_grants(one.domid()), [], "use revokes");
    let buffer = one.recycle(out).expect("nobody uses it");
    assert!(buffer.capacity() >= 9000);
}

#[test]
fn what_nobody_used_is_revoked_by_its_owner() {
    let (machine, one, other) = two(GrantVersion::V2);
    let out = one.grant_keyed(filled(&one, 100, 7), 42, 0..100).expect("references");
    let segment = one.segments(&out)[0];
    one.revoke(out).expect("nobody uses it");
    assert_eq!(machine.scan_grants(one.domid()), []);
    assert_eq!(fetch_keyed(&other, one.domid(), segment, 42), Err(GrantError::General.status()));
}

#[test]
fn a_key_lets_nobody_write_or_map_or_see_beside() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let out = one.grant_keyed(filled(&one, 100, 9), 42, 64..128).expect("references");
    let segment = one.segments(&out)[0];
    let mut frame = filled(&other, 4096, 1);
    let written = copy(&other, local(0), keyed(one.domid(), segment, 42), 8, &mut frame);
    assert_eq!(written, GrantError::General.status());
    use xenvelope_grant::seam::Share;
    let mapped = other.import(one.domid(), &[segment.gref], Access::Read);
    assert_eq!(mapped.err(), Some(GrantError::General));
    let beside = Segment { offset: 63, ..segment };
    assert_eq!(fetch_keyed(&other, one.domid(), beside, 42), Err(GrantError::General.status()));
}

#[test]
fn a_table_of_version_1_says_that_it_lacks_all_but_one_mechanism() {
    let (_machine, one, other) = two(GrantVersion::V1);
    assert_eq!(one.has(Mechanism::Destination), Ok(()));
    let refused = one.grant_keyed(filled(&one, 100, 9), 42, 0..100).expect_err("version 1");
    assert!(matches!(refused.cause, MechanismError::Lacks(lacks) if lacks.0 == Mechanism::Keyed));
    assert_eq!(refused.buffer.stack_bytes()[0], 9, "the buffer comes back");
    let reserved = one.reserve();
    assert!(
        matches!(reserved, Err(MechanismError::Lacks(lacks)) if lacks.0 == Mechanism::Transitive)
    );
    assert!(one.pass_on(Gref(20), other.domid(), Gref(8), other.peer()).is_err());
}

#[test]
fn what_is_passed_on_can_be_copied_until_it_is_withdrawn() {
    let (machine, driver, sender) = two(GrantVersion::V2);
    let (receiver, third) =
        (machine.create_domain("receiver", 64), machine.create_domain("third", 64));
    let out = sender.grant(filled(&sender, 100, 5), driver.peer(), 0..100, Access::Read);
    let out = out.expect("references");
    let theirs = sender.segments(&out)[0];
    let ours = driver.reserve().expect("a reference");
    driver.pass_on(ours, sender.domid(), theirs.gref, receiver.peer()).expect("version 2");
    let segment = Segment { gref: ours, ..theirs };
    let got = fetch(&receiver, driver.domid(), segment).expect("passed on");
    assert_eq!(got, [5; 100]);
    let refused = Err(GrantError::General.status());
    assert_eq!(fetch(&third, driver.domid(), segment), refused, "not passed on to it");
    assert_eq!(fetch(&receiver, sender.domid(), theirs), refused, "not granted to it");
    driver.withdraw(ours).expect("nobody is inside");
    assert_eq!(fetch(&receiver, driver.domid(), segment), refused);
    // And what the sender takes back is gone for whoever it was passed on to.
    driver.pass_on(ours, sender.domid(), theirs.gref, receiver.peer()).expect("version 2");
    sender.revoke(out).expect("nobody is inside");
    assert!(fetch(&receiver, driver.domid(), segment).is_err());
}

/// Two domains use one reference at the same moment: one of them gets the bytes.
#[test]
fn of_two_that_use_a_key_at_once_one_gets_the_bytes() {
    let (machine, one, other) = two(GrantVersion::V2);
    let third = machine.create_domain("third", 256);
    for round in 0..2000 {
        let out = one.grant_keyed(filled(&one, 4096, 7), round, 0..4096).expect("references");
        let segment = one.segments(&out)[0];
        let start = Barrier::new(2);
        let used = std::thread::scope(|scope| {
            let threads = [&other, &third].map(|by| {
                let (start, owner) = (&start, one.domid());
                scope.spawn(move || {
                    start.wait();
                    fetch_keyed(by, owner, segment, round).is_ok()
                })
            });
            threads.map(|thread| thread.join().expect("it ends")).iter().filter(|got| **got).count()
        });
        assert_eq!(used, 1, "round {round}");
        one.revoke(out).expect("nobody is inside any more");
    }
}

/// The owner takes a page back and grants it anew, for somebody else, while an old key is used
/// without end: the old key never opens the new grant.
#[test]
fn an_old_key_never_opens_what_is_granted_later() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let (_machine, one, other) = two(GrantVersion::V2);
    let (stop, gref) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (stop, gref) = (&stop, &gref);
        let (thief, owner) = (&other, one.domid());
        let thief = scope.spawn(move || {
            let mut opened = 0;
            while !stop.load(Ordering::Acquire) {
                let gref = Gref(gref.load(Ordering::Acquire) as u32);
                let segment = Segment { gref, offset: 0, len: 64 };
                if let Ok(bytes) = fetch_keyed(thief, owner, segment, 1) {
                    assert!(bytes.iter().all(|byte| *byte == 1), "bytes of another grant");
                    opened += 1;
                }
            }
            opened
        });
        for round in 0..20_000 {
            // Old and new in turn, in the same entry.
            let key = 1 + round % 2;
            let out = one.grant_keyed(filled(&one, 64, key as u8), key, 0..64).expect("references");
            gref.store(u64::from(one.segments(&out)[0].gref.0), Ordering::Release);
            let mut out = Some(out);
            while let Some(granted) = out.take() {
                if let Err(Pinned(granted)) = one.revoke(granted) {
                    out = Some(granted);
                }
            }
        }
        stop.store(true, Ordering::Release);
        thief.join().expect("no byte of another grant");
    });
}
