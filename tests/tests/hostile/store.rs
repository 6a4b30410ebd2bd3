//! Acts against the store, by guests and by the store itself.

use std::sync::Arc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Host as _, Store as _, StoreError};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, Machine};
use xenvelope_tests::lab::{HostileGuest, Lab, mac, remove_vif};
use xenvelope_xen::wire::{Assembler, WireError};

use crate::neighbours::go_on;

fn machine() -> (Arc<Machine>, Domain, Domain, Domain) {
    let machine = Machine::new(Costs::ideal());
    let [dom0, victim, hostile] =
        ["dom0", "victim", "hostile"].map(|name| machine.create_domain(name, 64));
    (machine, dom0, victim, hostile)
}

fn write(by: &Domain, path: &str, value: &str, reader: Option<DomId>) -> Result<(), StoreError> {
    by.commit(&[Change::Write { path, value, reader }])
}

fn read(by: &Domain, path: &str) -> Result<String, StoreError> {
    by.read(path, &mut [0; 64]).map(str::to_owned)
}

/// How many events wait for a domain, which are taken away.
fn events(of: &Domain) -> usize {
    let mut path = [0; 64];
    std::iter::from_fn(|| of.next(&mut path).map(drop)).count()
}

/// Hangs on `Assembler::push`, which looks at the length before it fills in.
#[test]
fn xsa_72_a_reply_that_is_longer_than_a_message_may_be_ends_the_connection() {
    for length in [4097, 65_536, u32::MAX] {
        let mut message: Vec<u8> =
            [2, 1, 0, length].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        message.resize(8192, b'x');
        for piece in [1, 16, 8192] {
            let mut assembler = Assembler::new();
            let mut refused = 0;
            for mut bytes in message.chunks(piece) {
                while !bytes.is_empty() {
                    let before = bytes.len();
                    match assembler.push(&mut bytes) {
                        Ok(whole) => assert!(whole.is_none(), "{length} bytes are a message"),
                        Err(error) => {
                            assert_eq!(error, WireError::Overlong(length));
                            refused += 1;
                        }
                    }
                    if bytes.len() == before {
                        break;
                    }
                }
            }
            assert!(refused > 0, "{length} bytes in pieces of {piece}");
        }
    }
}

/// Hangs on `MAX_WATCHES` in `Watches::add`.
#[test]
fn xsa_115_a_guest_that_watches_without_end_is_stopped_and_others_go_on() {
    let (mut lab, hostile) = Lab::switched();
    let set = (0..1000).filter(|token| hostile.domain.watch("device", *token).is_ok()).count();
    assert!(set <= 128, "{set} watches");
    assert_eq!(hostile.domain.watch("device", 1).err(), Some(StoreError::Quota));
    go_on(&mut lab);
}

/// Hangs on `Tree::forget`.
#[test]
fn xsa_322_417_419_a_domid_that_is_used_again_has_no_rights_of_its_predecessor() {
    let (machine, dom0, _victim, hostile) = machine();
    let (domid, path) = (hostile.domid(), "/local/domain/0/backend/secret");
    write(&dom0, path, "for the first", Some(domid)).expect("the toolstack may");
    assert_eq!(read(&hostile, path).as_deref(), Ok("for the first"));
    machine.destroy(domid);
    assert_eq!(read(&hostile, path), Err(StoreError::Unreachable));
    let successor = machine.create_domain_with_id("successor", domid, 64);
    assert_eq!(read(&successor, path), Err(StoreError::NoPermission));
    // And of what it left at home nothing is there.
    assert_eq!(read(&dom0, path).as_deref(), Ok("for the first"));
}

/// Hangs on `Tree::forget` counting what it takes away.
#[test]
fn xsa_483_a_domid_that_is_used_again_has_its_whole_quota() {
    let (machine, _dom0, _victim, hostile) = machine();
    let domid = hostile.domid();
    let fill = |by: &Domain| {
        let node = |number: u32| format!("node{number}");
        (0..2000).take_while(|number| write(by, &node(*number), "", None).is_ok()).count()
    };
    let filled = fill(&hostile);
    assert!((900..=1000).contains(&filled), "{filled} nodes");
    for _ in 0..3 {
        machine.destroy(domid);
        let successor = machine.create_domain_with_id("successor", domid, 64);
        assert_eq!(fill(&successor), filled);
    }
}

/// Hangs on the cut in `Store::next`.
#[test]
fn xsa_324_an_event_with_the_longest_path_reaches_who_has_little_room() {
    let (_machine, _dom0, victim, hostile) = machine();
    let home = format!("/local/domain/{}", hostile.domid());
    victim.watch(&home, 7).expect("a watch");
    events(&victim);
    let mut path = home.clone();
    while path.len() < 1023 {
        path.push_str("/x");
    }
    write(&hostile, &path, "", Some(victim.domid())).expect("its own part");
    let mut little = [0; 40];
    let event = victim.next(&mut little).expect("it is told");
    assert_eq!((event.token, event.path), (7, &path[..40]));
    let too_long = format!("{path}/{}", "y".repeat(20));
    assert_eq!(write(&hostile, &too_long, "", None), Err(StoreError::TooLong));
}

/// Hangs on `MAX_EVENTS` in `Client::push`.
#[test]
fn xsa_326_416_a_flood_of_events_costs_who_does_not_ask_a_bounded_number_and_no_news() {
    let (_machine, _dom0, victim, hostile) = machine();
    victim.watch(&format!("/local/domain/{}", hostile.domid()), 7).expect("a watch");
    events(&victim);
    for number in 0..5000 {
        let path = format!("/local/domain/{}/n{number}", hostile.domid());
        write(&hostile, &path, "", Some(victim.domid())).expect("its own part");
        hostile.commit(&[Change::Remove { path: &path }]).expect("its own part");
    }
    let waiting = events(&victim);
    assert!((1..=1025).contains(&waiting), "{waiting} events");
    // It hears of what comes next.
    let path = format!("/local/domain/{}/next", hostile.domid());
    write(&hostile, &path, "", Some(victim.domid())).expect("its own part");
    assert_eq!(events(&victim), 1);
}

/// As above; the driver domain follows what the guest writes.
#[test]
fn xsa_326_a_guest_that_writes_without_end_keeps_nobody_from_coming_and_going() {
    use xenvelope_tests::lab::GuestPlan;
    let (mut lab, hostile) = Lab::switched();
    for round in 0..200 {
        for name in ["state", "event-channel", "tx-ring-ref", "multi-queue-num-queues", "nonsense"]
        {
            let path = format!("device/vif/0/{name}");
            let value = (round % 9).to_string();
            let _ = write(&hostile.domain, &path, &value, Some(DomId::DOM0));
        }
        lab.step();
    }
    let late = lab.add_guest(&GuestPlan::default());
    lab.connect();
    lab.steps(100);
    lab.expect_delivery(0, late, &[1; 1000]);
    go_on(&mut lab);
}

/// Hangs on `MAX_PATH` in `Path::absolute`.
#[test]
fn xsa_418_a_path_as_deep_as_a_stack_is_none() {
    let (_machine, dom0, _victim, hostile) = machine();
    let home = format!("/local/domain/{}", hostile.domid());
    for depth in [600, 100_000] {
        let path = format!("{home}{}", "/x".repeat(depth));
        assert_eq!(write(&hostile, &path, "", None), Err(StoreError::TooLong));
        assert_eq!(hostile.watch(&path, 1), Err(StoreError::TooLong));
    }
    let deepest = format!("{home}{}", "/x".repeat((1024 - home.len()) / 2));
    write(&hostile, &deepest, "", None).expect("its own part");
    dom0.commit(&[Change::Remove { path: &home }]).expect("the toolstack may");
}

/// Hangs on `StoreTree::carry_out` taking back what went before.
#[test]
fn xsa_421_of_changes_of_which_one_is_refused_nothing_is_left() {
    let (_machine, dom0, victim, hostile) = machine();
    let mine = format!("/local/domain/{}/mine", hostile.domid());
    let theirs = format!("/local/domain/{}/theirs", victim.domid());
    write(&hostile, &mine, "before", Some(victim.domid())).expect("its own part");
    victim.watch(&format!("/local/domain/{}", hostile.domid()), 7).expect("a watch");
    events(&victim);
    let change = |path, value| Change::Write { path, value, reader: Some(victim.domid()) };
    let new = format!("{mine}/new");
    let all = [change(&mine, "after"), change(&new, "new"), change(&theirs, "forged")];
    assert_eq!(hostile.commit(&all), Err(StoreError::NoPermission));
    assert_eq!(read(&hostile, &mine).as_deref(), Ok("before"));
    assert_eq!(read(&hostile, &new), Err(StoreError::NoEntry));
    assert_eq!(read(&dom0, &theirs), Err(StoreError::NoEntry));
    assert_eq!(events(&victim), 0, "nothing has happened");
}

/// Hangs on `Path::absolute` taking no empty name.
#[test]
fn xsa_481_a_path_with_a_name_that_is_empty_is_none() {
    let (_machine, dom0, _victim, hostile) = machine();
    let own = format!("/local/domain/{}", hostile.domid());
    for path in ["/local/domain/", "/local//domain", "//", "device/", &format!("{own}/")] {
        for by in [&hostile, &dom0] {
            assert_eq!(write(by, path, "", None), Err(StoreError::Malformed), "{path}");
            assert_eq!(read(by, path), Err(StoreError::Malformed), "{path}");
            assert_eq!(by.watch(path, 1), Err(StoreError::Malformed), "{path}");
        }
    }
}

/// Hangs on `is_at_or_below` comparing whole names.
#[test]
fn xsa_481_a_guest_has_no_rights_where_its_number_is_but_the_beginning() {
    let (machine, dom0, _victim, hostile) = machine();
    assert_eq!(hostile.domid(), DomId(2));
    let _neighbour = machine.create_domain_with_id("neighbour", DomId(23), 64);
    let path = "/local/domain/23/forged";
    assert_eq!(write(&hostile, path, "", None), Err(StoreError::NoPermission));
    assert_eq!(read(&dom0, path), Err(StoreError::NoEntry));
}

/// Hangs on `Tree::is_writable_by`.
#[test]
fn a_guest_that_writes_in_the_driver_domains_directory_changes_nothing() {
    let (mut lab, hostile) = Lab::switched();
    let victim = lab.domid(1);
    for path in [
        format!("/local/domain/0/backend/vif/{victim}/0/state"),
        format!("/local/domain/{victim}/device/vif/0/state"),
        format!("/local/domain/0/backend/vif/{}/0/mac", hostile.domain.domid()),
    ] {
        let before = read(&lab.dom0, &path);
        let forged = write(&hostile.domain, &path, "6", None);
        assert_eq!(forged, Err(StoreError::NoPermission), "{path}");
        let gone = hostile.domain.commit(&[Change::Remove { path: &path }]);
        assert_eq!(gone, Err(StoreError::NoPermission), "{path}");
        assert_eq!(read(&lab.dom0, &path), before);
    }
    go_on(&mut lab);
}

/// Hangs on `Machine::destroy` telling the store before the id can be taken again.
#[test]
fn xsa_322_a_successor_in_the_same_directory_is_another_guest() {
    let (mut lab, hostile) = Lab::switched();
    let domid = hostile.domain.domid();
    let secret = "/local/domain/0/backend/for-the-first";
    write(&lab.dom0, secret, "x", Some(domid)).expect("the toolstack may");
    lab.machine.destroy(domid);
    remove_vif(&lab.dom0, domid);
    drop(hostile);
    lab.steps(10);
    let successor = HostileGuest::connect(&mut lab, mac(9));
    assert_eq!(successor.domain.domid(), domid);
    assert_eq!(read(&successor.domain, secret), Err(StoreError::NoPermission));
    go_on(&mut lab);
}
