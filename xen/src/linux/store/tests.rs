//! Against a server of our own that speaks the wire, well and badly.

mod broken;
mod fake;

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Store, StoreError};

use super::events::MAX_EVENTS;
use super::{PATH_VARIABLE, TIMEOUT, XenStore};
use crate::wire::Access::{Nothing, Read as MayRead};
use fake::{Fake, Manner, entry};

const GUEST: DomId = DomId(5);
const BACK: DomId = DomId(2);

fn guest(manner: Manner) -> (Fake, XenStore) {
    let (fake, stream) = Fake::start(GUEST, manner);
    (fake, XenStore::over(stream, None, TIMEOUT).unwrap())
}

fn write<'a>(path: &'a str, value: &'a str, reader: Option<DomId>) -> Change<'a> {
    Change::Write { path, value, reader }
}

fn read(store: &XenStore, path: &str) -> Result<String, StoreError> {
    store.read(path, &mut [0; 2048]).map(str::to_owned)
}

/// All events there are, and those that come within a moment.
fn events(store: &XenStore) -> Vec<(u32, String)> {
    let mut events = Vec::new();
    loop {
        while let Some(event) = store.next(&mut [0; 3072]) {
            events.push((event.token, event.path.to_owned()));
        }
        let mut fds = [PollFd::new(store.fd(), PollFlags::POLLIN)];
        if !store.is_alive() || poll(&mut fds, PollTimeout::from(50_u8)).unwrap() == 0 {
            return events;
        }
    }
}

#[test]
fn what_is_written_is_read_and_listed() {
    let (fake, store) = guest(Manner::default());
    assert_eq!(store.domid(), Ok(GUEST));
    store.commit(&[write("data/b", "two words", None)]).unwrap();
    store.commit(&[write("/local/domain/5/data/a", "", None)]).unwrap();
    assert_eq!(read(&store, "data/b").unwrap(), "two words");
    assert_eq!(read(&store, "data/a").unwrap(), "");
    assert_eq!(store.list("data", &mut [0; 99]), Ok("a\0b"));
    assert_eq!(store.list("data/a", &mut [0; 0]), Ok(""));
    assert_eq!(read(&store, "data/c"), Err(StoreError::NoEntry));
    assert_eq!(read(&store, "/local"), Err(StoreError::NoPermission));
    assert_eq!(store.read("data/b", &mut [0; 8]), Err(StoreError::TooLong));
    // One change is one request.
    assert_eq!(fake.state().log[1..3], ["Write", "Write"]);
    store.commit(&[Change::Remove { path: "data" }]).unwrap();
    assert_eq!(read(&store, "data/a"), Err(StoreError::NoEntry));
}

#[test]
fn nothing_malformed_is_sent() {
    let (fake, store) = guest(Manner::default());
    let long = "x".repeat(2049);
    for (change, error) in [
        (write("a\0b", "", None), StoreError::Malformed),
        (write("", "", None), StoreError::Malformed),
        (write("a", "b\0c", None), StoreError::Malformed),
        (write("a", &long, None), StoreError::TooLong),
        (Change::Remove { path: "a//b" }, StoreError::Malformed),
    ] {
        assert_eq!(store.commit(&[write("ok", "1", None), change]), Err(error), "{change:?}");
    }
    assert_eq!(read(&store, "a//b"), Err(StoreError::Malformed));
    assert_eq!(store.list("/a/", &mut []), Err(StoreError::Malformed));
    assert_eq!(store.watch("a b", 1), Err(StoreError::Malformed));
    assert!(fake.state().log.is_empty());
}

#[test]
fn a_commit_is_all_or_nothing() {
    let (fake, store) = guest(Manner::default());
    let changes = [write("a", "1", None), write("/local/domain/9/x", "2", None)];
    assert_eq!(store.commit(&changes), Err(StoreError::NoPermission));
    assert_eq!(fake.value("/local/domain/5/a"), None);
    assert_eq!(fake.state().log.last().unwrap(), "TransactionEnd");
    store.commit(&[]).unwrap();
    store.commit(&[write("a", "1", None), write("b", "2", None)]).unwrap();
    assert_eq!(fake.value("/local/domain/5/b").as_deref(), Some("2"));
    let changes = [
        Change::Remove { path: "a" },
        Change::Remove { path: "a" },
        Change::Remove { path: "never/was" },
        write("b", "3", None),
    ];
    store.commit(&changes).unwrap();
    assert_eq!(fake.value("/local/domain/5/a"), None);
    assert_eq!(fake.value("/local/domain/5/b").as_deref(), Some("3"));
    store.commit(&[Change::Remove { path: "never/was" }]).unwrap();
}

#[test]
fn a_transaction_that_lost_is_tried_again_but_not_for_ever() {
    let (fake, store) = guest(Manner { conflicts: 5, ..Manner::default() });
    let changes = [write("a", "1", None), write("b", "2", Some(BACK))];
    store.commit(&changes).unwrap();
    assert_eq!(fake.value("/local/domain/5/b").as_deref(), Some("2"));
    fake.state().manner.conflicts = u32::MAX;
    fake.state().log.clear();
    assert_eq!(store.commit(&changes), Err(StoreError::Unreachable));
    let starts = fake.state().log.iter().filter(|kind| *kind == "TransactionStart").count();
    assert_eq!(starts, 16);
    // The store did answer.
    assert!(store.is_alive());
}

#[test]
fn a_transaction_that_the_store_forgot_is_begun_anew() {
    let (fake, store) = guest(Manner { forgetful: 1, ..Manner::default() });
    store.commit(&[write("a", "1", None), write("b", "2", None)]).unwrap();
    assert_eq!(fake.value("/local/domain/5/a").as_deref(), Some("1"));
    fake.state().manner.forgetful = 1;
    store.commit(&[Change::Remove { path: "a" }, Change::Remove { path: "b" }]).unwrap();
    assert_eq!(fake.value("/local/domain/5/a"), None);
}

#[test]
fn the_reader_may_read_what_is_ours() {
    let (fake, store) = guest(Manner::default());
    store.commit(&[write("device/x", "1", Some(BACK))]).unwrap();
    let expected = [entry(Nothing, GUEST), entry(MayRead, BACK)];
    assert_eq!(fake.permissions("/local/domain/5/device/x"), expected);
    // Again: it is so already. Another reader takes the first one's place.
    fake.state().log.clear();
    store.commit(&[write("device/x", "2", Some(BACK))]).unwrap();
    assert!(!fake.state().log.contains(&"SetPermissions".to_owned()));
    store.commit(&[write("device/x", "2", Some(DomId(7)))]).unwrap();
    let expected = [entry(Nothing, GUEST), entry(MayRead, DomId(7))];
    assert_eq!(fake.permissions("/local/domain/5/device/x"), expected);
    // Not ours, but we may write it: its owner has said who reads it.
    let theirs = [entry(Nothing, DomId::DOM0), entry(crate::wire::Access::Both, GUEST)];
    fake.write("/local/domain/5/state", "1", &theirs);
    store.commit(&[write("state", "4", Some(BACK))]).unwrap();
    assert_eq!(fake.value("/local/domain/5/state").as_deref(), Some("4"));
    assert_eq!(fake.permissions("/local/domain/5/state"), theirs);
}

#[test]
fn domain_0_does_not_take_a_guests_nodes_from_it() {
    let (fake, stream) = Fake::start(DomId::DOM0, Manner::default());
    fake.state().tree.remove("/local/domain/0/domid");
    let store = XenStore::over(stream, Some(DomId::DOM0), TIMEOUT).unwrap();
    assert_eq!(store.domid(), Ok(DomId::DOM0));
    fake.write("/local/domain/5", "", &[entry(Nothing, GUEST)]);
    let theirs = [entry(Nothing, GUEST), entry(MayRead, BACK)];
    fake.write("/local/domain/5/x", "1", &theirs);
    let changes = ["x", "y"].map(|name| format!("/local/domain/5/{name}"));
    let changes = changes.each_ref().map(|path| write(path, "2", Some(GUEST)));
    store.commit(&changes).unwrap();
    assert_eq!(fake.permissions("/local/domain/5/x"), theirs);
    let ours = [entry(Nothing, DomId::DOM0), entry(MayRead, GUEST)];
    assert_eq!(fake.permissions("/local/domain/5/y"), ours);
    // Relative paths are below its home, also in the events of relative watches.
    store.commit(&[write("backend/vif", "", None)]).unwrap();
    assert_eq!(fake.value("/local/domain/0/backend/vif").as_deref(), Some(""));
    store.watch("backend", 1).unwrap();
    store.watch("@releaseDomain", 2).unwrap();
    assert_eq!(events(&store).len(), 2);
    store.commit(&[write("backend/vif/5", "", None)]).unwrap();
    fake.state().fire("@releaseDomain");
    let expected = [(1, "backend/vif/5"), (2, "@releaseDomain")];
    assert_eq!(events(&store), expected.map(|(token, path)| (token, path.to_owned())));
}

#[test]
fn a_watch_fires_at_once_and_then_at_changes_until_it_is_ended() {
    let (fake, store) = guest(Manner::default());
    store.watch("device", 7).unwrap();
    store.watch("/local/domain/5/device/vif", u32::MAX).unwrap();
    // The first event came with the answer: the descriptor does not tell of it.
    assert!(store.has_events());
    store.commit(&[write("device/vif/0", "1", None)]).unwrap();
    let (device, vif) = ("device".to_owned(), "/local/domain/5/device/vif".to_owned());
    let mut expected = vec![(7, device), (u32::MAX, vif)];
    expected.push((7, "device/vif/0".to_owned()));
    expected.push((u32::MAX, "/local/domain/5/device/vif/0".to_owned()));
    assert_eq!(events(&store), expected);
    assert!(!store.has_events());
    // Again the same: it fires again, and stays one.
    store.watch("device", 7).unwrap();
    assert_eq!(events(&store), [(7, "device".to_owned())]);
    fake.state().fire("/local/domain/5/device/x");
    fake.state().fire("/local/domain/5/devices");
    let event = store.next(&mut [0; 4]).map(|event| (event.token, event.path.to_owned()));
    assert_eq!(event, Some((7, "devi".to_owned())));
    // What it had to tell goes with it, and what was underway.
    fake.state().fire("/local/domain/5/device/y");
    store.pump();
    assert!(store.has_events());
    fake.state().fire("/local/domain/5/device/z");
    store.unwatch(7);
    store.unwatch(8);
    assert_eq!(events(&store), []);
    fake.state().fire("/local/domain/5/device");
    assert_eq!(events(&store), []);
    assert!(store.is_alive());
}

#[test]
fn no_cut_and_no_event_in_between_disturbs_an_answer() {
    for piece in [1, 3, 17] {
        let (_fake, store) = guest(Manner { piece, chatty: true, ..Manner::default() });
        store.watch("/chatter", 1).unwrap();
        store.commit(&[write("a", "one", Some(BACK)), write("b", "two", None)]).unwrap();
        assert_eq!(read(&store, "a").unwrap(), "one");
        assert_eq!(store.list("/local/domain/5", &mut [0; 99]), Ok("a\0b\0domid"));
        // All of them say the same.
        assert_eq!(events(&store), [(1, "/chatter".to_owned())]);
    }
}

#[test]
fn a_flood_of_events_costs_details_but_no_watch_its_event() {
    let (fake, store) = guest(Manner::default());
    store.watch("flood", 1).unwrap();
    store.watch("quiet", 2).unwrap();
    assert_eq!(events(&store).len(), 2);
    let flood = thread::spawn(move || {
        for index in 0..2 * MAX_EVENTS {
            fake.state().fire(&format!("/local/domain/5/flood/{index}"));
        }
        fake.state().fire("/local/domain/5/quiet/at-last");
        fake
    });
    while !flood.is_finished() {
        store.pump();
    }
    for _ in 0..99 {
        store.pump();
    }
    let _fake = flood.join().unwrap();
    let events = events(&store);
    assert_eq!(events.len(), MAX_EVENTS + 2);
    assert_eq!(events[0], (1, "flood/0".to_owned()));
    assert_eq!(events[MAX_EVENTS..], [(1, "flood".to_owned()), (2, "quiet".to_owned())]);
}

#[test]
fn a_list_that_does_not_fit_comes_in_parts() {
    let (fake, store) = guest(Manner { list: 100, ..Manner::default() });
    let names: Vec<_> = (0..200).map(|index| format!("child{index:03}")).collect();
    for name in &names {
        store.commit(&[write(&format!("many/{name}"), "", None)]).unwrap();
    }
    assert_eq!(store.list("many", &mut [0; 4096]), Ok(names.join("\0").as_str()));
    assert_eq!(store.list("many", &mut [0; 64]), Err(StoreError::TooLong));
    assert!(fake.state().log.contains(&"DirectoryPart".to_owned()));
}

/// With the feature `xenstore-rs` the library reads here, over a connection of its own.
#[test]
fn the_environment_says_where_the_store_is() {
    const NAME: &str = "linux::store::tests::the_environment_says_where_the_store_is";
    if std::env::var_os(PATH_VARIABLE).is_some() {
        let store = XenStore::open().unwrap();
        #[cfg(feature = "xenstore-rs")]
        assert!(store.library.is_some());
        assert_eq!(store.domid(), Ok(DomId::DOM0));
        assert_eq!(read(&store, "domid").unwrap(), "0");
        assert_eq!(read(&store, "/local/domain/0/domid").unwrap(), "0");
        assert_eq!(read(&store, "name"), Err(StoreError::NoEntry));
        assert_eq!(read(&store, "a//b"), Err(StoreError::Malformed));
        assert_eq!(store.list("/local/domain", &mut [0; 9]), Ok("0"));
        assert_eq!(store.list("domid", &mut [0; 9]), Ok(""));
        assert_eq!(store.list("/local", &mut [0; 2]), Err(StoreError::TooLong));
        store.commit(&[write("a", "1", None), write("b", "2", Some(GUEST))]).unwrap();
        store.watch("a", 1).unwrap();
        assert_eq!(events(&store), [(1, "a".to_owned())]);
        return;
    }
    let path = std::env::temp_dir().join(format!("xenvelope-store-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let serve = |stream| Fake::serve(stream, DomId::DOM0, Manner::default());
        listener.incoming().map_while(Result::ok).map(serve).collect::<Vec<_>>()
    });
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(PATH_VARIABLE, &path)
        .output();
    std::fs::remove_file(&path).unwrap();
    let output = again.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
