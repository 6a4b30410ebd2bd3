//! Clients that do not keep to the rules cost themselves their connection, and nobody anything
//! else.

use std::io::{ErrorKind, Write};

use xenvelope_xen::wire::{Header, Kind, PAYLOAD_MAX};
use zerocopy::IntoBytes;

use super::super::MOST_CONNECTIONS;
use super::raw::{Raw, Said};
use super::{Served, serve, write};

fn message(kind: u32, transaction: u32, claimed: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind: kind.into(),
        request: 1.into(),
        transaction: transaction.into(),
        length: claimed.into(),
    };
    [header.as_bytes(), payload].concat()
}

fn is_well(served: &Served) {
    let said = served.client().ask(Kind::Read, 0, b"/local/domain/0/name\0");
    assert_eq!(said, Said::Payload(b"dom0".to_vec()));
}

#[test]
fn who_claims_more_than_a_message_holds_is_disconnected() {
    let served = serve("overlong");
    for claimed in [PAYLOAD_MAX as u32 + 1, u32::MAX] {
        let mut client = served.client();
        client.stream.write_all(&message(2, 0, claimed, b"")).expect("it is open");
        assert!(!client.take_in(), "{claimed} bytes were not refused");
    }
    is_well(&served);
}

#[test]
fn a_client_that_stops_midway_holds_nobody_up() {
    let served = serve("midway");
    let mut half = served.client();
    half.stream.write_all(&message(2, 0, 100, b"/local")).expect("it is open");
    is_well(&served);
    drop(half);
    is_well(&served);
}

#[test]
fn watches_and_transactions_and_connections_have_quotas() {
    let served = serve("quotas");
    let mut client = served.client();
    let transactions = (0..)
        .take_while(|_| matches!(client.ask(Kind::TransactionStart, 0, b"\0"), Said::Payload(_)));
    assert_eq!(transactions.count(), 10);
    let mut watch = |n: u32| client.ask(Kind::Watch, 0, format!("/w\0{n}\0").as_bytes());
    let ok = Said::Payload(b"OK\0".to_vec());
    assert_eq!((0..).take_while(|n| watch(*n) == ok).count(), 1024);
    assert_eq!(watch(5000), Said::Error("ENOSPC".to_owned()));
    let mut touching = served.client();
    let id = touching.start();
    let mut read = |n: u32| touching.ask(Kind::Read, id, format!("/n{n}\0").as_bytes());
    let none = Said::Error("ENOENT".to_owned());
    assert_eq!((0..).take_while(|n| read(*n) == none).count(), 1024);

    drop((client, touching));
    let mut clients: Vec<_> = (0..MOST_CONNECTIONS).map(|_| served.client()).collect();
    // Those that left may not have been noticed yet.
    clients.retain_mut(|client| client.stream.write_all(&message(2, 0, 2, b"/\0")).is_ok());
    clients.retain_mut(Raw::take_in);
    let mut tried = 0;
    while clients.len() < MOST_CONNECTIONS && tried < 100 {
        let mut client = served.client();
        if client.stream.write_all(&message(2, 0, 2, b"/\0")).is_ok() && client.take_in() {
            clients.push(client);
        }
        tried += 1;
    }
    assert_eq!(clients.len(), MOST_CONNECTIONS);
    let mut more = served.client();
    let _ = more.stream.write_all(&message(2, 0, 2, b"/\0"));
    assert!(!more.take_in(), "one more than there may be");
    clients.pop();
    drop(more);
    let mut tried = 0;
    while !served.client().take_in_after(&message(2, 0, 2, b"/\0")) {
        tried += 1;
        assert!(tried < 1000, "the place of one that left is not given to another");
    }
}

impl Raw {
    fn take_in_after(&mut self, message: &[u8]) -> bool {
        self.stream.write_all(message).is_ok() && self.take_in()
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_from_either() {
    let served = serve("never-reads");
    let client = served.client();
    client.stream.set_nonblocking(true).expect("a socket");
    let value = [&b"/big\0"[..], &[b'v'; 2048]].concat();
    served.client().done(Kind::Write, 0, &value);
    let ask = message(2, 0, 5, b"/big\0");
    let mut sent = 0;
    let mut idle = 0;
    // Nothing is taken from it for a while: then nothing will be.
    while idle < 100 {
        match (&client.stream).write(&ask[sent % ask.len()..]) {
            Ok(length) => (sent, idle) = (sent + length, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                idle += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 16 << 20, "it is read from for ever");
    }
    is_well(&served);
}

#[test]
fn a_transaction_that_is_left_open_does_not_keep_the_old_tree() {
    let served = serve("stale");
    let mut client = served.client();
    let id = client.start();
    client.done(Kind::Write, id, b"/mine\0x");
    for n in 0..5000 {
        write(&served.dom0, "/tool/n", &n.to_string()).expect("the toolstack's");
    }
    is_well(&served);
    assert_eq!(client.ask(Kind::Read, id, b"/mine\0"), Said::Error("EAGAIN".to_owned()));
    let said = client.ask(Kind::TransactionEnd, id, b"T\0");
    assert_eq!(said, Said::Error("EAGAIN".to_owned()));
    let again = client.start();
    client.done(Kind::Write, again, b"/mine\0x");
    client.done(Kind::TransactionEnd, again, b"T\0");
}
