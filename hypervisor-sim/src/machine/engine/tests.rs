//! The copy engine: the same outcomes as a processor's copies, later.

use std::time::{Duration, Instant as StdInstant};

use xenvelope_grant::seam::{Access, Buffer, CopyOp, End, Events, Granter, Host, Instant};
use xenvelope_grant::{DomId, GrantError, Gref, Status};

use super::super::{Costs, DomainOptions, GrantVersion, Machine};
use super::slots::SLOTS;
use super::*;

/// Longer than a test needs for what it does meanwhile.
const SLOW: EngineCosts = EngineCosts { latency_ns: 200_000_000, gbit_per_s: 0.0 };
/// How long a copy may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

fn two(costs: EngineCosts) -> (Arc<Machine>, Domain, Domain) {
    let machine = Machine::new(Costs::ideal());
    let create = |name| {
        let version = GrantVersion::V2;
        let options = DomainOptions { grant_version: version, ..DomainOptions::new(name, 256) };
        machine.create(&options).expect("a domain")
    };
    let domains = (create("one"), create("other"));
    assert!(machine.start_engine(costs).expect("a thread"));
    (machine, domains.0, domains.1)
}

fn filled(domain: &Domain, byte: u8) -> FrameBuffer {
    let mut buffer = domain.take(None, 4096).expect("memory");
    buffer.stack_bytes_mut().fill(byte);
    buffer
}

/// A page of `of`'s with fives, and its reference.
fn granted(of: &Domain, to: &Domain) -> (super::super::GrantedBuffer, Gref) {
    let out = of.grant(filled(of, 5), to.peer(), 0..4096, Access::Read).expect("references");
    let gref = of.segments(&out)[0].gref;
    (out, gref)
}

fn from(dom: DomId, gref: Gref, offset: u16) -> End {
    End::Foreign { dom, gref, offset }
}

fn to(offset: u32) -> End {
    End::Local { buffer: 0, offset }
}

fn batch(of: &Domain, ops: Vec<CopyOp>) -> CopyBatch<FrameBuffer> {
    CopyBatch { ops, buffers: vec![filled(of, 0)] }
}

fn underway(submitted: Submitted) -> CopyTicket {
    match submitted {
        Submitted::Underway(ticket) => ticket,
        Submitted::Finished(result) => panic!("copied at once: {result:?}"),
    }
}

fn finish(domain: &Domain, ticket: CopyTicket) -> CopyBatch<FrameBuffer> {
    let end = StdInstant::now() + PATIENCE;
    let mut batch = CopyBatch::default();
    loop {
        if let Some(result) = domain.finished(ticket, &mut batch) {
            assert_eq!(result, Ok(()));
            return batch;
        }
        assert!(StdInstant::now() < end, "the engine does not finish");
        thread::yield_now();
    }
}

#[test]
fn each_operation_has_the_status_that_a_copy_has() {
    let (_machine, one, other) = two(EngineCosts::ideal());
    let (_out, gref) = granted(&one, &other);
    let from = |gref, offset| from(one.domid(), gref, offset);
    let cases = [
        (from(gref, 0), to(0), 4096),
        (End::Foreign { dom: DomId(99), gref, offset: 0 }, to(0), 1),
        (from(Gref(16384), 0), to(0), 1),
        (from(Gref(500), 0), to(0), 1),
        (from(gref, 4095), to(0), 2),
        (from(gref, 0), to(4095), 2),
        (from(gref, 0), to(4096), 1),
        (from(gref, 0), End::Local { buffer: 1, offset: 0 }, 1),
        (to(0), from(gref, 0), 1),
        (to(0), to(8), 1),
        (End::Foreign { dom: DomId(99), gref, offset: 0 }, to(0), 0),
        (from(gref, 4095), to(4095), 1),
    ];
    let ops = || cases.iter().map(|case| CopyOp::new(case.0, case.1, case.2)).collect::<Vec<_>>();
    let mut by_processor = batch(&other, ops());
    other.copy(&mut by_processor.ops, &mut by_processor.buffers).expect("the call itself");
    let before = other.counters();
    let mut handed_over = batch(&other, ops());
    let ticket = underway(other.submit(&mut handed_over));
    assert!(handed_over.ops.is_empty() && handed_over.buffers.is_empty(), "out of our hands");
    let by_engine = finish(&other, ticket);
    assert_eq!(by_engine.ops, by_processor.ops);
    assert_eq!(by_engine.buffers[0].stack_bytes(), by_processor.buffers[0].stack_bytes());
    let spent = other.counters() - before;
    assert_eq!((spent.hypercalls, spent.copy_calls, spent.copy_ops), (1, 1, 12));
    assert_eq!((spent.engine_bytes, spent.copied_bytes), (4097, 0), "the engine moved them");
    assert_eq!(other.finished(ticket, &mut CopyBatch::default()), None, "a ticket is good once");
}

#[test]
fn what_is_being_copied_cannot_be_revoked_and_is_not_changed_early() {
    let (_machine, one, other) = two(SLOW);
    let (out, gref) = granted(&one, &other);
    let mut handed_over = batch(&other, vec![CopyOp::new(from(one.domid(), gref, 0), to(0), 4096)]);
    let ticket = underway(other.submit(&mut handed_over));
    assert_eq!(other.finished(ticket, &mut handed_over), None);
    let out = one.recycle(out).expect_err("in use until it has been copied").0;
    let copied = finish(&other, ticket);
    assert!(copied.buffers[0].stack_bytes().iter().all(|byte| *byte == 5));
    one.recycle(out).expect("free when it has been copied");
}

#[test]
fn a_domain_that_ends_underway_gives_nothing_and_gets_nothing() {
    for ends in [0, 1] {
        let (machine, one, other) = two(SLOW);
        let (_out, gref) = granted(&one, &other);
        let op = CopyOp::new(from(one.domid(), gref, 0), to(0), 4096);
        let ticket = underway(other.submit(&mut batch(&other, vec![op])));
        assert!(machine.destroy(DomId(ends)));
        let again = machine.create_domain_with_id("again", DomId(ends), 4);
        let copied = finish(&other, ticket);
        assert_eq!(copied.ops[0].status.check(), Err(GrantError::BadDomain), "domain {ends}");
        assert!(copied.buffers[0].stack_bytes().iter().all(|byte| *byte == 0));
        assert_eq!(again.counters().engine_bytes, 0);
    }
}

#[test]
fn a_finished_batch_wakes_its_domain() {
    let (_machine, one, other) = two(SLOW);
    let (_out, gref) = granted(&one, &other);
    let op = CopyOp::new(from(one.domid(), gref, 0), to(0), 1);
    let ticket = underway(other.submit(&mut batch(&other, vec![op])));
    let far = Instant(other.now().0 + u64::try_from(PATIENCE.as_nanos()).expect("it fits"));
    other.wait(&mut [], far);
    assert!(other.now() < far, "nothing woke it");
    assert_eq!(other.finished(ticket, &mut CopyBatch::default()), Some(Ok(())));
}

#[test]
fn what_the_engine_does_not_take_is_copied_at_once_and_what_is_abandoned_is_freed() {
    let (_machine, one, other) = two(SLOW);
    let (out, gref) = granted(&one, &other);
    let op = || CopyOp::new(from(one.domid(), gref, 0), to(0), 16);
    let tickets: Vec<_> =
        (0..SLOTS).map(|_| underway(other.submit(&mut batch(&other, vec![op()])))).collect();
    let mut one_more = batch(&other, vec![op()]);
    assert_eq!(other.submit(&mut one_more), Submitted::Finished(Ok(())));
    assert_eq!(one_more.ops[0].status, Status::OKAY);
    tickets.iter().for_each(|ticket| other.abandon(*ticket));
    let end = StdInstant::now() + PATIENCE;
    let free = loop {
        match other.submit(&mut batch(&other, vec![op()])) {
            Submitted::Underway(ticket) => break ticket,
            Submitted::Finished(result) => assert_eq!(result, Ok(())),
        }
        assert!(StdInstant::now() < end, "abandoned batches keep their place");
    };
    finish(&other, free);
    let end = StdInstant::now() + PATIENCE;
    let mut out = Some(out);
    while let Some(tried) = out.take() {
        out = one.recycle(tried).err().map(|pinned| pinned.0);
        assert!(StdInstant::now() < end, "abandoned batches keep their grants");
    }
}

#[test]
fn a_call_that_fails_takes_nothing() {
    let (machine, one, other) = two(SLOW);
    let (_out, gref) = granted(&one, &other);
    machine.fail_copy_calls(true);
    let mut failed = batch(&other, vec![CopyOp::new(from(one.domid(), gref, 0), to(0), 16)]);
    assert_eq!(other.submit(&mut failed), Submitted::Finished(Err(CallFailed)));
    assert_eq!(failed.ops[0].status, Status::PENDING);
    assert_eq!(failed.buffers.len(), 1);
}

#[test]
fn the_engine_takes_the_time_that_it_is_given() {
    let costs = EngineCosts { latency_ns: 20_000_000, gbit_per_s: 0.001 };
    let (_machine, one, other) = two(costs);
    let (_out, gref) = granted(&one, &other);
    let op = CopyOp::new(from(one.domid(), gref, 0), to(0), 4096);
    let started = StdInstant::now();
    let tickets = [0; 2].map(|_| underway(other.submit(&mut batch(&other, vec![op]))));
    finish(&other, tickets[0]);
    // 4096 bytes at a megabit a second: 32.768 ms.
    assert!(started.elapsed() >= Duration::from_micros(52_700), "{:?}", started.elapsed());
    finish(&other, tickets[1]);
    assert!(started.elapsed() >= Duration::from_micros(85_500), "{:?}", started.elapsed());
}
