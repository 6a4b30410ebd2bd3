//! Permissions, watches, quotas and transactions of the store.

use std::sync::Arc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Events, Host, Instant, Store, StoreError};

use super::super::{Costs, Domain, Machine};
use super::tree::MAX_NODES;
use super::watches::{MAX_EVENTS, MAX_WATCHES};

fn host() -> (Arc<Machine>, Domain, Domain, Domain) {
    let machine = Machine::new(Costs::ideal());
    let made = ["dom0", "one", "two"].map(|name| machine.create_domain(name, 4));
    let [dom0, one, two] = made;
    (machine, dom0, one, two)
}

fn write(domain: &Domain, path: &str, value: &str, to: Option<u16>) -> Result<(), StoreError> {
    domain.commit(&[Change::Write { path, value, reader: to.map(DomId) }])
}

fn read(domain: &Domain, path: &str) -> Result<String, StoreError> {
    domain.read(path, &mut [0; 4096]).map(str::to_owned)
}

fn events(domain: &Domain) -> Vec<(u32, String)> {
    let mut out = [0; 1024];
    let mut all = Vec::new();
    while let Some(event) = domain.next(&mut out) {
        all.push((event.token, event.path.to_owned()));
    }
    all
}

fn told(token: u32, path: &str) -> (u32, String) {
    (token, path.to_owned())
}

#[test]
fn a_guest_knows_its_own_id_and_name() {
    let (_machine, _dom0, one, _two) = host();
    assert_eq!(read(&one, "domid").as_deref(), Ok("1"));
    assert_eq!(read(&one, "/local/domain/1/name").as_deref(), Ok("one"));
}

#[test]
fn a_guest_writes_its_own_part_and_nothing_else() {
    let (_machine, dom0, one, _two) = host();
    write(&one, "data/key", "1", None).expect("its own");
    for path in ["/local/domain/2/data", "/local/domain/10", "/local/domain/1x", "/tool/x", "/"] {
        assert!(write(&one, path, "1", None).is_err(), "{path}");
    }
    let remove = [Change::Remove { path: "/local/domain/2/name" }];
    assert_eq!(one.commit(&remove), Err(StoreError::NoPermission));
    write(&dom0, "/local/domain/2/data", "1", None).expect("the toolstack's");
}

#[test]
fn only_owner_reader_and_toolstack_read_a_node() {
    let (_machine, dom0, one, two) = host();
    write(&one, "data/open", "yes", Some(2)).expect("its own");
    write(&one, "data/shut", "no", None).expect("its own");
    assert_eq!(read(&two, "/local/domain/1/data/open").as_deref(), Ok("yes"));
    assert_eq!(read(&two, "/local/domain/1/data/shut"), Err(StoreError::NoPermission));
    assert_eq!(read(&dom0, "/local/domain/1/data/shut").as_deref(), Ok("no"));
    assert_eq!(two.list("/local/domain/1/data", &mut [0; 64]), Err(StoreError::NoPermission));
    assert_eq!(one.list("data", &mut [0; 64]), Ok("open\0shut"));
    assert_eq!(one.list("data", &mut [0; 4]), Err(StoreError::TooLong));
    assert_eq!(read(&one, "data/none"), Err(StoreError::NoEntry));
}

#[test]
fn malformed_and_oversized_things_are_refused() {
    let (_machine, dom0, one, _two) = host();
    for path in ["", "a//b", "a/", "/local/domain/1/", "a b", "ä", "a\0b"] {
        assert_eq!(write(&one, path, "", None), Err(StoreError::Malformed), "{path:?}");
    }
    assert_eq!(write(&dom0, "/local/domain/", "", None), Err(StoreError::Malformed), "XSA-481");
    assert_eq!(write(&one, &"a".repeat(1024), "", None), Err(StoreError::TooLong));
    assert_eq!(write(&one, "a", &"v".repeat(2049), None), Err(StoreError::TooLong));
    assert_eq!(write(&one, "a", &"v".repeat(2048), None), Ok(()));
    assert_eq!(write(&one, "a", "a\0b", None), Err(StoreError::Malformed));
}

#[test]
fn a_commit_is_all_or_nothing_and_tells_nobody_of_nothing() {
    let (machine, _dom0, one, _two) = host();
    write(&one, "data/old/leaf", "1", None).expect("its own");
    one.watch("data", 7).expect("a watch");
    events(&one);
    let before = machine.store_tree();
    let changes = [
        Change::Write { path: "data/old/leaf", value: "2", reader: Some(DomId(2)) },
        Change::Remove { path: "data/old" },
        Change::Write { path: "data/new/deep/leaf", value: "3", reader: None },
        Change::Write { path: "/local/domain/2/data", value: "4", reader: None },
    ];
    assert_eq!(one.commit(&changes), Err(StoreError::NoPermission));
    assert_eq!(machine.store_tree(), before);
    assert_eq!(events(&one), []);
    one.commit(&changes[..3]).expect("without the foreign one");
    assert_eq!(read(&one, "data/old/leaf"), Err(StoreError::NoEntry));
    assert_eq!(read(&one, "data/new/deep/leaf").as_deref(), Ok("3"));
}

#[test]
fn a_watch_fires_when_set_and_for_changes_at_below_and_removal_above() {
    let (_machine, _dom0, one, _two) = host();
    one.watch("data/a", 1).expect("a relative watch");
    one.watch("/local/domain/1/data/a", 2).expect("an absolute watch");
    assert_eq!(events(&one), [told(1, "data/a"), told(2, "/local/domain/1/data/a")]);
    write(&one, "data/ab", "not below", None).expect("its own");
    assert_eq!(events(&one), []);
    write(&one, "data/a/b", "below", None).expect("its own");
    write(&one, "data/a/b", "again", None).expect("its own");
    assert_eq!(events(&one), [told(1, "data/a/b"), told(2, "/local/domain/1/data/a/b")]);
    one.unwatch(2);
    one.commit(&[Change::Remove { path: "data" }]).expect("its own");
    assert_eq!(events(&one), [told(1, "data/a")]);
    one.commit(&[Change::Remove { path: "data" }]).expect("no error");
    assert_eq!(events(&one), []);
}

#[test]
fn a_watch_tells_only_of_nodes_that_its_owner_may_read() {
    let (_machine, _dom0, one, two) = host();
    two.watch("/local/domain/1", 5).expect("a watch");
    events(&two);
    write(&one, "secret", "1", None).expect("its own");
    write(&one, "public", "1", Some(2)).expect("its own");
    assert_eq!(events(&two), [told(5, "/local/domain/1/public")]);
    one.commit(&[Change::Remove { path: "secret" }, Change::Remove { path: "public" }])
        .expect("its own");
    assert_eq!(events(&two), [told(5, "/local/domain/1/public")]);
}

#[test]
fn a_watch_wakes_its_domain() {
    let (_machine, dom0, one, _two) = host();
    dom0.watch("/local/domain/1/data", 1).expect("a watch");
    events(&dom0);
    assert_eq!(dom0.wait(&mut [], Instant(0)), 0);
    let waiter = {
        let dom0 = dom0.clone();
        std::thread::spawn(move || {
            let until = Instant(60_000_000_000);
            let found = dom0.wait(&mut [], until);
            (found, dom0.now() < until)
        })
    };
    write(&one, "data", "1", None).expect("its own");
    assert_eq!(waiter.join().expect("no panic"), (0, true));
    assert_eq!(events(&dom0), [told(1, "/local/domain/1/data")]);
}

#[test]
fn nodes_watches_and_waiting_events_are_bounded() {
    let (_machine, _dom0, one, _two) = host();
    let fill = (0..).take_while(|n| write(&one, &format!("n{n}"), "", None).is_ok()).count();
    assert_eq!(fill, MAX_NODES);
    assert_eq!(write(&one, "more", "", None), Err(StoreError::Quota));
    for token in 0..MAX_WATCHES as u32 {
        one.watch("n0", token).expect("below the quota");
    }
    assert_eq!(one.watch("n0", 1000), Err(StoreError::Quota));
    for token in 0..MAX_WATCHES as u32 {
        one.unwatch(token);
    }
    one.watch("/local/domain/1", 1).expect("a watch");
    events(&one);
    for n in 0..MAX_NODES {
        write(&one, &format!("n{n}"), "x", None).expect("there already");
    }
    for n in 0..200 {
        one.commit(&[Change::Remove { path: &format!("n{n}") }]).expect("its own");
        write(&one, &format!("m{n}"), "x", None).expect("room again");
    }
    let told = events(&one);
    assert!(told.len() <= MAX_EVENTS + MAX_WATCHES, "{}", told.len());
    assert_eq!(told.last(), Some(&(1, "/local/domain/1".to_owned())), "look at all of it");
}

#[test]
fn a_domain_id_that_is_reused_inherits_no_rights_no_quota_and_no_watches() {
    let (machine, dom0, one, two) = host();
    write(&one, "gift", "for the first life of 2", Some(2)).expect("its own");
    write(&two, "left", "behind", None).expect("its own");
    two.watch("/local/domain/1/gift", 1).expect("a watch");
    dom0.watch("@releaseDomain", 9).expect("the toolstack's");
    events(&dom0);
    assert!(machine.destroy(DomId(2)));
    assert_eq!(events(&dom0), [told(9, "@releaseDomain")]);
    assert_eq!(read(&two, "left"), Err(StoreError::Unreachable));
    assert_eq!(read(&dom0, "/local/domain/2/left").as_deref(), Ok("behind"));
    let again = machine.create_domain_with_id("again", DomId(2), 4);
    assert_eq!(read(&again, "/local/domain/1/gift"), Err(StoreError::NoPermission));
    assert_eq!(read(&again, "left"), Err(StoreError::NoEntry));
    write(&one, "gift", "new", None).expect("its own");
    assert_eq!(events(&again), []);
    let fill = (0..).take_while(|n| write(&again, &format!("n{n}"), "", None).is_ok()).count();
    assert_eq!(fill, MAX_NODES);
}
