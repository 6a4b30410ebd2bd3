//! Clients of the store's socket cost the host a bounded amount of memory, whatever they send and
//! whatever they leave unread. A process of its own, so that what it has is what they cost.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use xenvelope_grant::seam::{Change, Store};
use xenvelope_hypervisor_sim::machine::{Costs, Machine};
use xenvelope_hypervisor_sim::store_server::StoreServer;
use xenvelope_xen::wire::Header;
use zerocopy::IntoBytes;

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

fn message(kind: u32, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind: kind.into(),
        request: 1.into(),
        transaction: transaction.into(),
        length: u32::try_from(payload.len()).expect("a short one").into(),
    };
    [header.as_bytes(), payload].concat()
}

/// Messages of all kinds, mostly with a payload of the right form, some cut or prolonged, some
/// no messages at all.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let path = prop::sample::select(vec![
        "/",
        "/a",
        "/a/b",
        "/a/b/c",
        "a",
        "@releaseDomain",
        "@x",
        "//",
        "/local",
        "",
        "/a/",
    ]);
    let rest = prop_oneof![
        Just(b"token\0".to_vec()),
        Just(b"n0\0r1\0".to_vec()),
        Just(b"T\0".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 0..3000),
    ];
    let formed = (0_u32..24, 0_u32..4, path, rest).prop_map(|(kind, transaction, path, rest)| {
        let payload = [path.as_bytes(), b"\0", &rest].concat();
        message(kind, transaction, &payload)
    });
    let ended = (0_u32..4).prop_map(|transaction| message(7, transaction, b"T\0"));
    let started = Just(message(6, 0, b"\0"));
    let random = prop::collection::vec(any::<u8>(), 0..64);
    let piece = prop_oneof![12 => formed, 2 => ended, 2 => started, 1 => random];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Sends until the server takes no more, or closes.
fn send(path: &Path, bytes: &[u8], cut: usize) -> UnixStream {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_nonblocking(true).expect("a socket");
    for piece in bytes.chunks(cut) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    stream
}

/// Another client is answered.
fn is_well(path: &Path) {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a socket");
    // Not of a node: a client may have removed it.
    stream.write_all(&message(10, 0, b"7\0")).expect("it is open");
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer[16..], b"/local/domain/7\0");
}

#[test]
fn clients_cost_a_bounded_amount_of_memory() {
    let machine = Machine::new(Costs::ideal());
    let dom0 = machine.create_domain("dom0", 4);
    let path = std::env::temp_dir().join(format!("xenvelope-{}-memory", std::process::id()));
    let server = StoreServer::start(&machine, &path).expect("a path of our own");

    // Streams of bytes. The runner prints the input that failed, and its seed.
    is_well(&path);
    let before = resident();
    let streams = (stream(), 1_usize..5000);
    let outcome = TestRunner::default().run(&streams, |(bytes, cut)| {
        drop(send(&path, &bytes, cut));
        is_well(&path);
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "streams of bytes left {grown} bytes");

    // Eight that watch everything, hold a transaction open and never read.
    let greedy = [message(4, 0, b"/\0t\0"), message(6, 0, b"\0"), message(2, 1, b"/local\0")];
    let asked: Vec<_> = (0..8).map(|_| send(&path, &greedy.concat(), 4096)).collect();
    let (name, value) = ("n".repeat(200), "v".repeat(2000));
    let change = |n: usize| {
        let path = format!("/tool/{name}{}", n % 2000);
        dom0.commit(&[Change::Write { path: &path, value: &value, reader: None }])
    };
    (0..6000).try_for_each(change).expect("the toolstack's");
    is_well(&path);
    let before = resident();
    (0..40_000).try_for_each(change).expect("the toolstack's");
    is_well(&path);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "what is not read costs {grown} bytes more");
    drop((asked, server));
    assert!(!path.exists());
}
