//! What a client of the socket is told, and what one that means no good can do.

mod hostile;
mod place;
mod raw;

use std::sync::Arc;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Store, StoreError};
use xenvelope_xen::wire::{DirectoryPart, Kind};

use super::StoreServer;
use crate::machine::{Costs, Domain, Machine};
use raw::{Raw, Said};

/// A machine with domains 0 to 2, and its store at a socket of the test's own.
struct Served {
    machine: Arc<Machine>,
    dom0: Domain,
    one: Domain,
    two: Domain,
    server: StoreServer,
}

fn serve(test: &str) -> Served {
    let machine = Machine::new(Costs::ideal());
    let [dom0, one, two] = ["dom0", "one", "two"].map(|name| machine.create_domain(name, 4));
    let path = place::socket(test);
    let server = StoreServer::start(&machine, &path).expect("a socket of the test's own");
    Served { machine, dom0, one, two, server }
}

impl Served {
    fn client(&self) -> Raw {
        Raw::connect(self.server.path())
    }
}

fn write(domain: &Domain, path: &str, value: &str) -> Result<(), StoreError> {
    domain.commit(&[Change::Write { path, value, reader: None }])
}

fn read(domain: &Domain, path: &str) -> Result<String, StoreError> {
    domain.read(path, &mut [0; 4096]).map(str::to_owned)
}

#[test]
fn each_request_is_answered_as_xenstored_answers_it() {
    let served = serve("answers");
    let mut client = served.client();
    let ok = Said::Payload(b"OK\0".to_vec());
    let text = |text: &str| Said::Payload(text.into());
    let error = |name: &str| Said::Error(name.to_owned());
    let asked: &[(Kind, &[u8], Said)] = &[
        (Kind::Read, b"/local/domain/1/name\0", text("one")),
        (Kind::Read, b"/none\0", error("ENOENT")),
        (Kind::Read, b"/local/domain/1/\0", error("EINVAL")),
        (Kind::Read, b"//local\0", error("EINVAL")),
        (Kind::Read, b"", error("EINVAL")),
        (Kind::Read, b"/no nul", error("EINVAL")),
        (Kind::Read, b"@releaseDomain\0", error("EINVAL")),
        (Kind::Directory, b"/local/domain\0", text("0\x001\x002\0")),
        (Kind::Directory, b"/local/domain/1/name\0", text("")),
        (Kind::Write, b"/tool/b\0\x00binary\xff", ok.clone()),
        (Kind::Read, b"/tool/b\0", Said::Payload(b"\x00binary\xff".to_vec())),
        (Kind::Read, b"/tool\0", text("")),
        (Kind::MakeDirectory, b"/tool/d\0", ok.clone()),
        (Kind::MakeDirectory, b"/tool/b\0", ok.clone()),
        (Kind::Read, b"/tool/b\0", Said::Payload(b"\x00binary\xff".to_vec())),
        (Kind::Directory, b"/tool\0", text("b\0d\0")),
        (Kind::GetPermissions, b"/tool/d\0", text("n0\0")),
        (Kind::SetPermissions, b"/tool/d\0n1\0r2\0b0\0", ok.clone()),
        (Kind::GetPermissions, b"/tool/d\0", text("n1\0r2\0b0\0")),
        (Kind::Write, b"/tool/d/below\0x", ok.clone()),
        (Kind::GetPermissions, b"/tool/d/below\0", text("n1\0r2\0b0\0")),
        (Kind::SetPermissions, b"/tool/d\0", error("EINVAL")),
        (Kind::SetPermissions, b"/tool/d\0x1\0", error("EINVAL")),
        (Kind::SetPermissions, b"/tool/d\0n0\0r1\0r2\0r3\0r4\0r5\0", error("ENOSPC")),
        (Kind::SetPermissions, b"/none\0n0\0", error("ENOENT")),
        (Kind::Remove, b"/tool/d\0", ok.clone()),
        (Kind::Remove, b"/tool/d\0", ok.clone()),
        (Kind::Remove, b"/none/below\0", error("ENOENT")),
        (Kind::Remove, b"/\0", error("EINVAL")),
        (Kind::Unwatch, b"/tool\0t\0", error("ENOENT")),
        (Kind::Watch, b"/tool\0", error("EINVAL")),
        (Kind::Watch, b"@nothing\0t\0", error("EINVAL")),
        (Kind::TransactionEnd, b"T\0", error("ENOENT")),
        (Kind::TransactionEnd, b"X\0", error("EINVAL")),
        (Kind::GetDomainPath, b"7\0", text("/local/domain/7\0")),
        (Kind::GetDomainPath, b"seven\0", error("EINVAL")),
        (Kind::IsDomainIntroduced, b"2\0", text("T\0")),
        (Kind::IsDomainIntroduced, b"3\0", text("F\0")),
        (Kind::Control, b"help\0", error("ENOSYS")),
        (Kind::Introduce, b"1\x002\x003\0", error("ENOSYS")),
        (Kind::Error, b"EINVAL\0", error("ENOSYS")),
        (Kind::WatchEvent, b"/\0t\0", error("ENOSYS")),
        (Kind::ResetWatches, b"\0", ok),
    ];
    for (kind, payload, expected) in asked {
        let said = client.ask(*kind, 0, payload);
        assert_eq!(said, *expected, "{kind:?} {:?}", String::from_utf8_lossy(payload));
    }
    assert_eq!(client.ask(Kind::Read, 77, b"/tool\0"), error("ENOENT"), "no such transaction");
    let long = [&b"/tool/long\0"[..], &[b'v'; 2049]].concat();
    assert_eq!(client.ask(Kind::Write, 0, &long), error("ENOSPC"));
    assert_eq!(client.ask(Kind::Write, 0, &long[..long.len() - 1]), text("OK\0"));
}

#[test]
fn a_watch_tells_what_happens_to_the_domains_and_ends_with_its_token() {
    let served = serve("watches");
    let mut client = served.client();
    for (path, token) in [("/local/domain/1/data", "a b"), ("@releaseDomain", "gone")] {
        client.done(Kind::Watch, 0, format!("{path}\0{token}\0").as_bytes());
        assert_eq!(client.event(), (path.to_owned(), token.to_owned()), "once when it is set");
    }
    let again = client.ask(Kind::Watch, 0, b"/local/domain/1/data\0a b\0");
    assert_eq!(again, Said::Error("EEXIST".to_owned()));
    client.done(Kind::Watch, 0, b"tool\0home\0");
    assert_eq!(client.event(), ("tool".to_owned(), "home".to_owned()));

    write(&served.one, "data/x", "1").expect("its own");
    assert_eq!(client.event(), ("/local/domain/1/data/x".to_owned(), "a b".to_owned()));
    write(&served.dom0, "tool/y", "1").expect("the toolstack's");
    assert_eq!(client.event(), ("tool/y".to_owned(), "home".to_owned()), "relative as it was set");
    client.done(Kind::Unwatch, 0, b"/local/domain/1/data\0a b\0");
    write(&served.one, "data/x", "2").expect("its own");
    assert!(served.machine.destroy(DomId(2)));
    assert_eq!(client.event(), ("@releaseDomain".to_owned(), "gone".to_owned()));
    assert_eq!(client.ask(Kind::IsDomainIntroduced, 0, b"2\0"), Said::Payload(b"F\0".to_vec()));
}

#[test]
fn what_a_client_writes_wakes_the_domains_that_watch() {
    let served = serve("wakes");
    served.one.watch("data", 9).expect("a watch");
    while served.one.next(&mut [0; 64]).is_some() {}
    served.client().done(Kind::Write, 0, b"/local/domain/1/data/k\0v");
    let mut out = [0; 64];
    let event = served.one.next(&mut out).expect("it fired");
    assert_eq!((event.token, event.path), (9, "data/k"));
    assert_eq!(read(&served.one, "data/k").as_deref(), Ok("v"));
}

#[test]
fn permissions_that_a_client_sets_hold_for_the_domains() {
    let served = serve("permissions");
    let mut client = served.client();
    client.done(Kind::Write, 0, b"/shared/key\0v");
    let (one, two) = (&served.one, &served.two);
    assert_eq!(read(one, "/shared/key"), Err(StoreError::NoPermission));
    client.done(Kind::SetPermissions, 0, b"/shared/key\0n0\0b1\0r2\0");
    assert_eq!(read(one, "/shared/key").as_deref(), Ok("v"));
    assert_eq!(read(two, "/shared/key").as_deref(), Ok("v"));
    assert_eq!(write(two, "/shared/key", "w"), Err(StoreError::NoPermission));
    write(one, "/shared/key", "w").expect("it was given that");
    assert_eq!(client.ask(Kind::Read, 0, b"/shared/key\0"), Said::Payload(b"w".to_vec()));
    assert_eq!(write(one, "/shared/other", "w"), Err(StoreError::NoPermission));
    client.done(Kind::SetPermissions, 0, b"/shared/key\0r0\0n1\0");
    assert_eq!(read(one, "/shared/key"), Err(StoreError::NoPermission));
    assert_eq!(read(two, "/shared/key").as_deref(), Ok("w"), "what is said of all others");
    // A domain id that is reused has nothing of what its predecessor was given.
    client.done(Kind::SetPermissions, 0, b"/shared/key\0n0\0b1\0");
    assert!(served.machine.destroy(DomId(1)));
    let again = served.machine.create_domain_with_id("again", DomId(1), 4);
    assert_eq!(read(&again, "/shared/key"), Err(StoreError::NoPermission));
    assert_eq!(write(&again, "/shared/key", "x"), Err(StoreError::NoPermission));
}

#[test]
fn a_transaction_is_seen_when_it_ends_and_not_before() {
    let served = serve("transaction");
    let (mut client, mut other) = (served.client(), served.client());
    client.done(Kind::Watch, 0, b"/t\0w\0");
    client.event();
    let id = client.start();
    client.done(Kind::Write, id, b"/t/a\x001");
    client.done(Kind::Write, id, b"/t/b\x002");
    assert_eq!(client.ask(Kind::Directory, id, b"/t\0"), Said::Payload(b"a\0b\0".to_vec()));
    assert_eq!(other.ask(Kind::Read, 0, b"/t/a\0"), Said::Error("ENOENT".to_owned()));
    assert_eq!(client.ask(Kind::TransactionStart, id, b"\0"), Said::Error("EBUSY".to_owned()));
    client.done(Kind::TransactionEnd, id, b"T\0");
    assert_eq!(client.event(), ("/t/a".to_owned(), "w".to_owned()));
    assert_eq!(client.event(), ("/t/b".to_owned(), "w".to_owned()));
    assert_eq!(other.ask(Kind::Read, 0, b"/t/b\0"), Said::Payload(b"2".to_vec()));
    assert_eq!(client.ask(Kind::TransactionEnd, id, b"T\0"), Said::Error("ENOENT".to_owned()));

    let id = client.start();
    client.done(Kind::Remove, id, b"/t\0");
    client.done(Kind::TransactionEnd, id, b"F\0");
    assert_eq!(other.ask(Kind::Read, 0, b"/t/b\0"), Said::Payload(b"2".to_vec()));
}

#[test]
fn a_transaction_fails_if_what_it_looked_at_was_changed_meanwhile() {
    let served = serve("conflict");
    let (mut client, mut other) = (served.client(), served.client());
    client.done(Kind::Write, 0, b"/t/a\x001");
    client.done(Kind::Write, 0, b"/t/b\x001");
    // What the transaction does; what somebody else does in between; whether they collide.
    type Step = (Kind, &'static [u8]);
    let cases: &[(Step, Step, bool)] = &[
        ((Kind::Read, b"/t/a\0"), (Kind::Write, b"/t/a\x002"), true),
        ((Kind::Read, b"/t/a\0"), (Kind::Write, b"/t/b\x002"), false),
        ((Kind::Read, b"/t/none\0"), (Kind::Write, b"/t/none\x001"), true),
        ((Kind::Read, b"/t/a\0"), (Kind::SetPermissions, b"/t/a\0n1\0"), true),
        ((Kind::Directory, b"/t\0"), (Kind::Write, b"/t/new\x001"), true),
        ((Kind::Write, b"/t/a\x003"), (Kind::Write, b"/t/a\x004"), true),
        ((Kind::Write, b"/t/c\x003"), (Kind::Remove, b"/t\0"), true),
        ((Kind::Remove, b"/t\0"), (Kind::Write, b"/t/a/deep\x001"), true),
        ((Kind::Write, b"/u\x003"), (Kind::Write, b"/t/z\x001"), false),
    ];
    for (mine, theirs, collide) in cases {
        let id = client.start();
        client.ask(mine.0, id, mine.1);
        other.done(theirs.0, 0, theirs.1);
        let said = client.ask(Kind::TransactionEnd, id, b"T\0");
        let expected = match collide {
            true => Said::Error("EAGAIN".to_owned()),
            false => Said::Payload(b"OK\0".to_vec()),
        };
        assert_eq!(said, expected, "{mine:?} against {theirs:?}");
    }
}

#[test]
fn a_list_that_fits_no_message_comes_in_parts() {
    let served = serve("parts");
    let mut client = served.client();
    let mut names: Vec<_> = (0..600).map(|n| format!("a-long-name-{n}")).collect();
    for name in &names {
        client.done(Kind::Write, 0, format!("/many/{name}\0").as_bytes());
    }
    names.sort();
    assert_eq!(client.ask(Kind::Directory, 0, b"/many\0"), Said::Error("E2BIG".to_owned()));
    let mut list = Vec::new();
    loop {
        let asked = format!("/many\0{}\0", list.len());
        let Said::Payload(payload) = client.ask(Kind::DirectoryPart, 0, asked.as_bytes()) else {
            panic!("refused");
        };
        let part = DirectoryPart::parse(&payload).expect("a part");
        assert!(!part.names.is_empty() || part.last);
        list.extend_from_slice(part.names);
        if part.last {
            break;
        }
    }
    let listed: Vec<_> = list.strip_suffix(b"\0").expect("names").split(|b| *b == 0).collect();
    assert_eq!(listed, names.iter().map(String::as_bytes).collect::<Vec<_>>());
    let Said::Payload(end) = client.ask(Kind::DirectoryPart, 0, b"/many\x0099999\0") else {
        panic!("refused");
    };
    let end = DirectoryPart::parse(&end).expect("a part");
    assert!(end.last && end.names.is_empty());
}
