//! Transitive entries, which lead into a third domain's table.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::{
    Access, Copier as _, CopyBatch, CopyOp, End, Granter as _, Host as _, Segment, Submitted,
};
use xenvelope_grant::{DomId, GrantError, Gref};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, EngineCosts, Machine};

use super::{copied, granted};

/// How long a deadlock is waited for.
const DEADLOCK: Duration = Duration::from_secs(30);

/// Lets `to` copy by entry `ours` of `by` what `domain` granted as `gref`.
fn pass_on(by: &Domain, ours: Gref, to: DomId, domain: DomId, gref: Gref) {
    let extent = Extent::Transitive { domain, gref };
    by.grant_table().grant(ours, to, extent, Access::Read).expect("version 2");
}

fn reserved(by: &Domain) -> Gref {
    let mut refs = [Gref(0)];
    by.reserve_refs(&mut refs).expect("a reference");
    refs[0]
}

fn whole(gref: Gref) -> Segment {
    Segment { gref, offset: 0, len: 4096 }
}

/// Hangs on `CopyPin::new`, which holds no entry's lock while it looks at another table.
#[test]
fn xsa_73_two_that_pass_each_others_entries_on_do_not_lock_each_other_up() {
    let machine = Machine::new(Costs::ideal());
    let [one, other, third] = ["one", "other", "third"].map(|name| machine.create_domain(name, 64));
    let (of_one, of_other) = (reserved(&one), reserved(&other));
    pass_on(&one, of_one, third.domid(), other.domid(), of_other);
    pass_on(&other, of_other, one.domid(), one.domid(), of_one);
    let (done, both) = channel();
    let copies = [(third, one.domid(), of_one), (one, other.domid(), of_other)];
    for (by, from, gref) in copies {
        let done = done.clone();
        thread::spawn(move || {
            for _ in 0..20_000 {
                assert_eq!(copied(&by, from, whole(gref)), Err(GrantError::General));
            }
            let _ = done.send(());
        });
    }
    for _ in 0..2 {
        both.recv_timeout(DEADLOCK).expect("neither waits for the other");
    }
}

/// Hangs on `abandon` in `CopyPin::new`.
#[test]
fn xsa_411_an_entry_that_leads_nowhere_is_not_left_in_use() {
    let machine = Machine::new(Costs::ideal());
    let [owner, relay, reader] =
        ["owner", "relay", "reader"].map(|name| machine.create_domain(name, 64));
    let (ours, never_granted, deeper) = (reserved(&relay), reserved(&owner), reserved(&owner));
    pass_on(&owner, deeper, relay.domid(), reader.domid(), Gref(20));
    let nowhere = [
        (DomId(99), Gref(8)),
        (owner.domid(), never_granted),
        (owner.domid(), Gref(u32::MAX)),
        (owner.domid(), deeper),
    ];
    for (domain, gref) in nowhere {
        pass_on(&relay, ours, reader.domid(), domain, gref);
        assert!(copied(&reader, relay.domid(), whole(ours)).is_err());
        assert!(!relay.grant_table().in_use(ours), "{domain}: {gref:?}");
    }
    assert!(!owner.grant_table().in_use(deeper));
    // It works when it leads somewhere.
    let (out, segment) = granted(&owner, &relay, 5, Access::Read);
    pass_on(&relay, ours, reader.domid(), owner.domid(), segment.gref);
    assert_eq!(copied(&reader, relay.domid(), segment_by(ours, segment)), Ok(5));
    owner.revoke(out).expect("idle");
}

fn segment_by(gref: Gref, segment: Segment) -> Segment {
    Segment { gref, ..segment }
}

/// Hangs on the release in `CopyPin::new` before it tries again, and on `MAX_RESTARTS`.
#[test]
fn xsa_226_an_entry_that_is_led_elsewhere_while_it_is_copied_pins_nothing_there() {
    let machine = Machine::new(Costs::ideal());
    let [owner, relay, reader] =
        ["owner", "relay", "reader"].map(|name| machine.create_domain(name, 64));
    let costs = EngineCosts { latency_ns: 1_000_000_000, gbit_per_s: 0.0 };
    assert!(machine.start_engine(costs).expect("a thread"));
    let (first_out, first) = granted(&owner, &relay, 5, Access::Read);
    let (second_out, second) = granted(&owner, &relay, 6, Access::Read);
    let ours = reserved(&relay);
    pass_on(&relay, ours, reader.domid(), owner.domid(), first.gref);
    let src = End::Foreign { dom: relay.domid(), gref: ours, offset: first.offset };
    let op = CopyOp::new(src, End::Local { buffer: 0, offset: 0 }, first.len);
    let buffer = reader.take(None, 4096).expect("memory");
    let mut batch = CopyBatch { ops: vec![op], buffers: vec![buffer] };
    let Submitted::Underway(ticket) = reader.submit(&mut batch) else { panic!("an engine") };
    // The engine has it. The relay leads it elsewhere now.
    pass_on(&relay, ours, reader.domid(), owner.domid(), second.gref);
    let elsewhere = copied(&reader, relay.domid(), segment_by(ours, second));
    assert_eq!(elsewhere, Err(GrantError::General));
    owner.revoke(second_out).expect("nobody got in there");
    let first_out = owner.recycle(first_out).expect_err("the engine is in there").0;
    while reader.finished(ticket, &mut batch).is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(batch.ops[0].status.check().is_ok());
    owner.recycle(first_out).expect("it has left");
}
