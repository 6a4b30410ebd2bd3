//! A store that does not answer, or says what makes no sense.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xenvelope_grant::seam::{Store, StoreError};

use super::super::Fault;
use super::fake::{Fake, Manner};
use super::{GUEST, TIMEOUT, XenStore, read, write};
use crate::wire::{Event, HEADER, Kind, VALUE_MAX, encode, encode_event};

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_silent_store_is_unreachable_and_stays_so() {
    let (fake, stream) = Fake::start(GUEST, Manner { silent_after: Some(1), ..Manner::default() });
    let store = XenStore::over(stream, None, SHORT).unwrap();
    store.watch("device", 1).unwrap();
    let before = Instant::now();
    let changes = [write("a", "1", None), write("b", "2", None)];
    assert_eq!(store.commit(&changes), Err(StoreError::Unreachable));
    assert!(before.elapsed() >= SHORT);
    // Nothing is sent any more, and a late answer is no answer to something else.
    fake.state().manner.silent_after = None;
    let asked = fake.state().log.len();
    assert_eq!(read(&store, "domid"), Err(StoreError::Unreachable));
    assert_eq!(store.watch("x", 2), Err(StoreError::Unreachable));
    store.unwatch(1);
    assert_eq!(fake.state().log.len(), asked);
    assert_eq!(store.fault(), Some(Fault::Silent));
}

/// What becomes of a read when the store answers with these bytes.
fn answered(bytes: Vec<u8>, timeout: Duration) -> (XenStore, Result<String, StoreError>) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        ours.read_exact(&mut [0; HEADER + 2]).unwrap();
        ours.write_all(&bytes).unwrap();
        ours
    });
    let store = XenStore::over(theirs, None, timeout).unwrap();
    let answer = read(&store, "x");
    drop(server.join());
    (store, answer)
}

fn message(kind: Kind, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; 512];
    let length = encode(&mut out, kind, id, 0, &[payload]).unwrap();
    out[..length].to_vec()
}

#[test]
fn a_store_that_makes_no_sense_is_not_believed() {
    let mut overlong = message(Kind::Read, 1, b"value");
    overlong[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut unknown = message(Kind::Read, 1, b"value");
    unknown[0] = 99;
    let twice = [message(Kind::Read, 1, b"value"), message(Kind::Read, 1, b"value")].concat();
    for part in [Vec::new(), message(Kind::Read, 1, b"half of it")[..20].to_vec()] {
        let (store, answer) = answered(part, SHORT);
        assert_eq!(answer, Err(StoreError::Unreachable));
        assert_eq!(store.fault(), Some(Fault::Silent));
    }
    for bytes in [
        overlong,
        unknown,
        twice,
        vec![0xFF; 64],
        message(Kind::Read, 2, b"another's"),
        message(Kind::Directory, 1, b"value\0"),
        message(Kind::Error, 1, b"ENOENT"),
        message(Kind::WatchEvent, 0, b"path\0token"),
    ] {
        let (store, answer) = answered(bytes.clone(), TIMEOUT);
        assert_eq!(answer, Err(StoreError::Unreachable), "{bytes:?}");
        assert_eq!(store.fault(), Some(Fault::Nonsense));
        assert_eq!(read(&store, "x"), Err(StoreError::Unreachable));
    }
}

#[test]
fn an_error_has_its_name_and_costs_nothing_else() {
    for (name, error) in [
        (&b"ENOENT\0"[..], StoreError::NoEntry),
        (b"EACCES\0", StoreError::NoPermission),
        (b"EPERM\0", StoreError::NoPermission),
        (b"EINVAL\0", StoreError::Malformed),
        (b"ENOSPC\0", StoreError::Quota),
        (b"EQUOTA\0", StoreError::Quota),
        (b"E2BIG\0", StoreError::TooLong),
        (b"EIO\0", StoreError::Unreachable),
        (b"EODD\0", StoreError::Malformed),
    ] {
        let (store, answer) = answered(message(Kind::Error, 1, name), TIMEOUT);
        assert_eq!(answer, Err(error));
        assert!(store.is_alive());
    }
    let (_, answer) = answered(message(Kind::Read, 1, b"\xff"), TIMEOUT);
    assert_eq!(answer, Err(StoreError::Malformed));
}

#[test]
fn events_without_end_are_no_answer() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut out = [0; 64];
        let length = encode_event(&mut out, Event { path: "x", token: "1" }).unwrap();
        let many = out[..length].repeat(10_000);
        while ours.write_all(&many).is_ok() {}
    });
    let store = XenStore::over(theirs, None, SHORT).unwrap();
    let before = Instant::now();
    assert_eq!(read(&store, "x"), Err(StoreError::Unreachable));
    assert!(before.elapsed() < 20 * SHORT);
    drop(store);
    server.join().unwrap();
}

#[test]
fn events_that_wait_are_taken_in_a_part_at_a_time() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut out = [0; 64];
    let length = encode_event(&mut out, Event { path: "x", token: "1" }).unwrap();
    let sent = ours.write(&out[..length].repeat(10_000)).unwrap();
    assert!(sent > 20 * 4096);
    let store = XenStore::over(theirs, None, TIMEOUT).unwrap();
    let readable = || {
        let mut fds = [PollFd::new(store.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    };
    store.pump();
    assert!(readable());
    for _ in 0..sent / (16 * 4096) {
        store.pump();
    }
    assert!(!readable());
    assert!(store.is_alive());
}

#[test]
fn where_there_is_no_store_it_says_where() {
    let path = Path::new("/nonexistent/xenbus");
    let Err(error) = XenStore::open_at(path, TIMEOUT) else {
        panic!("there is none");
    };
    assert_eq!(error.to_string(), "cannot open xenstore at /nonexistent/xenbus");
}

/// `/dev/full` refuses every write, as `/dev/xen/xenbus` does when a watch cannot be set.
#[test]
fn what_the_device_does_not_take_is_refused_and_nothing_else() {
    let store = XenStore::open_at(Path::new("/dev/full"), TIMEOUT).unwrap();
    assert_eq!(store.watch("device", 1), Err(StoreError::Quota));
    assert_eq!(store.watch("device", 1), Err(StoreError::Quota));
    assert!(!store.has_events());
    // The kernel's buffer is smaller than the wire's by a header.
    let (path, value) = ("x".repeat(2040), "x".repeat(VALUE_MAX));
    assert_eq!(store.commit(&[write(&path, &value, None)]), Err(StoreError::TooLong));
    assert!(store.is_alive());
    let store = XenStore::open_at(Path::new("/dev/null"), TIMEOUT).unwrap();
    assert_eq!(store.watch("device", 1), Err(StoreError::Unreachable));
    assert_eq!(store.fault(), Some(Fault::Closed));
}
