//! A domain that waits for descriptors of the system beside its events.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use xenvelope_grant::seam::{Events, Host, PortId};
use xenvelope_xen::linux::Descriptors;

use super::two;
use crate::machine::{Domain, GrantVersion};

/// Much longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// Waits so long; the ports that fired, and how long it took.
fn wait(domain: &Domain, time: Duration) -> (Vec<PortId>, Duration) {
    let mut out = [PortId(0); 8];
    let begun = Instant::now();
    let count = domain.wait(&mut out, domain.now() + time);
    (out[..count].to_vec(), begun.elapsed())
}

#[test]
fn a_descriptor_is_reported_once_until_it_is_unmasked() {
    let (_machine, domain, _) = two(GrantVersion::V2);
    let (one, mut other) = UnixStream::pair().expect("a pair of sockets");
    let id = domain.watch_fd(one.as_fd()).expect("room for one");
    let short = Duration::from_millis(20);
    let (fired, waited) = wait(&domain, short);
    assert!(fired.is_empty() && waited >= short && !domain.has_fired(id));
    other.write_all(b"x").expect("a byte can be sent");
    assert_eq!(wait(&domain, LONG).0, [id]);
    assert!(domain.has_fired(id));
    assert_eq!(wait(&domain, short).0, []);
    domain.unmask_device(id);
    assert_eq!(wait(&domain, LONG).0, [id]);
    domain.unmask_device(id);
    domain.unwatch_fd(id);
    assert_eq!(wait(&domain, short).0, []);
}

#[test]
fn a_domain_that_sleeps_for_descriptors_wakes_for_each_event_and_each_byte() {
    let (_machine, domain, peer) = two(GrantVersion::V2);
    let (one, mut other) = UnixStream::pair().expect("a pair of sockets");
    let descriptor = domain.watch_fd(one.as_fd()).expect("room for one");
    let port = domain.listen(peer.domid()).expect("a port");
    let remote = domain.id(&port).0;
    let event = domain.id(&port);
    let (say, hear) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        let port = peer.connect(DOMAIN, remote).expect("the port is open for us");
        for byte in hear {
            if byte {
                other.write_all(b"x").expect("a byte can be sent");
            } else {
                peer.notify(&port);
            }
        }
    });
    for round in 0..2000 {
        let byte = round % 3 == 0;
        say.send(byte).expect("the sender is there");
        let (fired, waited) = wait(&domain, LONG);
        assert_eq!(fired, [if byte { descriptor } else { event }], "round {round}, {waited:?}");
        if byte {
            let mut read = [0; 8];
            std::io::Read::read(&mut &one, &mut read).expect("it is readable");
        }
        domain.unmask_device(fired[0]);
    }
    drop(say);
    sender.join().expect("the sender has not panicked");
}

const DOMAIN: xenvelope_grant::DomId = xenvelope_grant::DomId(0);
