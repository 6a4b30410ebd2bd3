//! The batched grant copy.

use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::{Access, CallFailed, Host};
use xenvelope_grant::table::GrantTable;
use xenvelope_grant::{GrantError, Words};

use super::*;

fn granted(of: &Domain, to: &Domain, access: Access) -> (super::super::GrantedBuffer, Gref) {
    let out = of.grant(filled(of, 4096, 5), to.peer(), 0..4096, access).expect("references");
    let gref = of.segments(&out)[0].gref;
    (out, gref)
}

#[test]
fn one_failed_operation_does_not_spoil_the_others() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let (_out, gref) = granted(&one, &other, Access::Read);
    let from = |gref, offset| foreign(one.domid(), gref, offset);
    let cases = [
        (from(gref, 0), local(0), 4096, Ok(())),
        (foreign(DomId(99), gref, 0), local(0), 1, Err(GrantError::BadDomain)),
        (from(Gref(16384), 0), local(0), 1, Err(GrantError::BadRef)),
        (from(Gref(500), 0), local(0), 1, Err(GrantError::General)),
        (from(gref, 4095), local(0), 2, Err(GrantError::BadCopyArg)),
        (from(gref, 0), local(4095), 2, Err(GrantError::BadCopyArg)),
        (from(gref, 0), local(4096), 1, Err(GrantError::BadPage)),
        (from(gref, 0), End::Local { buffer: 1, offset: 0 }, 1, Err(GrantError::BadPage)),
        (local(0), from(gref, 0), 1, Err(GrantError::General)),
        (local(0), local(8), 1, Err(GrantError::General)),
        (foreign(DomId(99), gref, 0), local(0), 0, Ok(())),
        (from(gref, 4095), local(4095), 1, Ok(())),
    ];
    let mut ops: Vec<_> = cases.iter().map(|case| CopyOp::new(case.0, case.1, case.2)).collect();
    let before = other.counters();
    other.copy(&mut ops, &mut [filled(&other, 4096, 0)]).expect("the call itself");
    for (op, case) in ops.iter().zip(&cases) {
        assert_eq!(op.status.check(), case.3, "{op:?}");
    }
    let spent = other.counters() - before;
    assert_eq!((spent.hypercalls, spent.copy_calls, spent.copy_ops), (1, 1, 12));
    assert_eq!(spent.copied_bytes, 4097);
}

#[test]
fn a_call_that_fails_touches_no_status_and_no_byte() {
    let (machine, one, other) = two(GrantVersion::V2);
    let (_out, gref) = granted(&one, &other, Access::Read);
    machine.fail_copy_calls(true);
    let mut ops = [CopyOp::new(foreign(one.domid(), gref, 0), local(0), 16)];
    let mut buffers = [filled(&other, 4096, 0)];
    assert_eq!(other.copy(&mut ops, &mut buffers), Err(CallFailed));
    assert_eq!(ops[0].status, Status::PENDING);
    assert!(buffers[0].stack_bytes().iter().all(|byte| *byte == 0));
}

#[test]
fn a_third_party_copy_needs_both_grants_for_the_caller() {
    let (machine, one, other) = two(GrantVersion::V2);
    let driver = machine.create_domain("driver", 16);
    let (_source, from) = granted(&one, &driver, Access::Read);
    let mut buffer = filled(&other, 4096, 0);
    buffer.stack_bytes_mut().fill(0);
    let target = other.grant(buffer, driver.peer(), 0..4096, Access::Write).expect("granted");
    let to = other.segments(&target)[0].gref;
    let (src, dst) = (foreign(one.domid(), from, 0), foreign(other.domid(), to, 0));
    let mut unused = filled(&driver, 1, 0);
    assert_eq!(copy(&driver, src, dst, 4096, &mut unused), Status::OKAY);
    let buffer = other.recycle(target).expect("idle");
    assert!(buffer.stack_bytes().iter().all(|byte| *byte == 5));
    assert_eq!(copy(&driver, src, dst, 1, &mut unused), GrantError::General.status());
    assert_eq!(copy(&other, src, local(0), 1, &mut filled(&other, 1, 0)).0, -1);
}

#[test]
fn a_transitive_grant_passes_on_one_grant_and_only_one_level_deep() {
    let (machine, one, relay) = two(GrantVersion::V2);
    let reader = machine.create_domain("reader", 16);
    let (out, gref) = granted(&one, &relay, Access::Read);
    let mut passed = [Gref(0); 2];
    relay.reserve_refs(&mut passed).expect("references");
    let pass_on = |to: &Domain, at, domain: &Domain, gref| {
        let extent = Extent::Transitive { domain: domain.domid(), gref };
        relay.grant_table().grant(at, to.domid(), extent, Access::Read).expect("version 2");
    };
    pass_on(&reader, passed[0], &one, gref);
    let segment = Segment { gref: passed[0], offset: 0, len: 4096 };
    let got = fetch(&reader, relay.domid(), segment).expect("passed on");
    assert!(got.iter().all(|byte| *byte == 5));
    // The copy is over: neither entry is in use.
    assert!(!relay.grant_table().in_use(passed[0]));
    // A second level.
    let mut deeper = [Gref(0)];
    reader.reserve_refs(&mut deeper).expect("references");
    let extent = Extent::Transitive { domain: relay.domid(), gref: passed[0] };
    let table = reader.grant_table();
    table.grant(deeper[0], one.domid(), extent, Access::Read).expect("version 2");
    let twice = fetch(&one, reader.domid(), Segment { gref: deeper[0], ..segment });
    assert_eq!(twice, Err(GrantError::General.status()));
    assert!(!table.in_use(deeper[0]) && !relay.grant_table().in_use(passed[0]));
    // The first grant goes, and with it all that stood on it.
    one.revoke(out).expect("idle");
    assert_eq!(fetch(&reader, relay.domid(), segment), Err(GrantError::General.status()));
}

#[test]
fn copies_never_follow_an_entry_out_of_the_domain() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let mut gref = [Gref(0)];
    one.reserve_refs(&mut gref).expect("references");
    for frame in [256, u64::MAX, 1 << 52] {
        let extent = Extent::FullPage { frame };
        one.grant_table().grant(gref[0], other.domid(), extent, Access::Read).expect("written");
        let got = fetch(&other, one.domid(), Segment { gref: gref[0], offset: 0, len: 1 });
        assert_eq!(got, Err(GrantError::BadPage.status()), "{frame:#x}");
    }
}

#[test]
fn a_revoke_that_succeeds_during_copies_keeps_later_ones_out() {
    const ROUNDS: usize = 3000;
    let (_machine, one, other) = two(GrantVersion::V2);
    let (grefs, stop) = (std::sync::Mutex::new(None), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = filled(&other, 4096, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let Some(gref) = *grefs.lock().expect("no panic") else {
                    continue;
                };
                let source = foreign(one.domid(), gref, 0);
                if copy(&other, source, local(0), 4096, &mut buffer) == Status::OKAY {
                    // The page is 1 while it is granted, and 2 as soon as it is not.
                    assert!(buffer.stack_bytes().iter().all(|byte| *byte == 1));
                }
            }
        });
        let mut buffer = filled(&one, 4096, 1);
        for _ in 0..ROUNDS {
            buffer.stack_bytes_mut().fill(1);
            let mut out = one.grant(buffer, other.peer(), 0..4096, Access::Read).expect("granted");
            *grefs.lock().expect("no panic") = Some(one.segments(&out)[0].gref);
            std::thread::yield_now();
            buffer = loop {
                match one.recycle(out) {
                    Ok(buffer) => break buffer,
                    Err(pinned) => out = pinned.0,
                }
            };
            buffer.stack_bytes_mut().fill(2);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn status_words_and_entries_are_xens_bit_for_bit() {
    let (_machine, one, other) = two(GrantVersion::V2);
    let (_out, gref) = granted(&one, &other, Access::Read);
    let GrantTable::V2 { entries, .. } = one.grant_table() else {
        panic!("version 2 by default");
    };
    let mut entry = [0; 16];
    entries.copy_out(gref.0 as usize * 16, &mut entry);
    // permit_access | readonly | sub_page, domid, offset 0, length 4096, frame 0.
    assert_eq!(entry, [5, 1, other.domid().0 as u8, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0]);
}
