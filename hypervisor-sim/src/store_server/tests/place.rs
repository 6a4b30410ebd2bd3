//! Where the socket may be, and what becomes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::super::{StartError, StoreServer};
use super::serve;
use crate::machine::{Costs, Machine};

/// A path of that test's own, at which there is nothing.
pub(super) fn socket(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("xenvelope-{}-{test}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn the_socket_is_its_owners_alone_and_gone_at_the_end() {
    let served = serve("gone");
    let path = served.server.path().to_owned();
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut open = served.client();
    open.start();
    drop(served.server);
    assert!(!path.exists());
    assert!(!open.take_in(), "connections are closed");
}

#[test]
fn a_path_in_use_is_refused_and_one_left_behind_is_taken() {
    let served = serve("in-use");
    let path = served.server.path();
    let refused = StoreServer::start(&served.machine, path).expect_err("somebody answers there");
    assert!(matches!(refused, StartError::InUse(_)), "{refused}");
    UnixStream::connect(path).expect("the first still listens");

    let machine = Machine::new(Costs::ideal());
    let left = socket("left");
    drop(UnixListener::bind(&left).expect("a path of our own"));
    assert!(left.exists(), "a listener leaves its socket");
    let server = StoreServer::start(&machine, &left).expect("nobody answers there");
    UnixStream::connect(server.path()).expect("somebody listens");
}

#[test]
fn a_file_is_not_removed_for_a_socket() {
    let machine = Machine::new(Costs::ideal());
    let path = socket("file");
    fs::write(&path, "precious").expect("a path of our own");
    let refused = StoreServer::start(&machine, &path).expect_err("it is no socket");
    assert!(matches!(refused, StartError::Exists(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).ok().as_deref(), Some("precious"));
    fs::remove_file(&path).expect("ours");
    let nowhere = StoreServer::start(&machine, &path.join("below"));
    assert!(matches!(nowhere, Err(StartError::System { .. })));
}

#[test]
fn what_was_put_in_its_place_stays() {
    let served = serve("replaced");
    let path = served.server.path().to_owned();
    fs::remove_file(&path).expect("ours");
    let other = UnixListener::bind(&path).expect("a path of our own");
    drop(served.server);
    assert!(path.exists());
    drop(other);
    fs::remove_file(&path).expect("ours");
}
