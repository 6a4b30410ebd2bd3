//! What needs no Xen.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use xenvelope_grant::seam::{
    Arrival, Buffer as _, Events as _, Granter as _, Host as _, NicPort, Offload, PortId,
};

use super::{
    Buffer, Descriptors as _, PacketConfig, PacketPort, Tap, TapConfig, TapOffloads, Xen, XenError,
};

/// A domain whose devices are sockets on which nothing ever comes, and the other end of its store.
pub(super) fn without_xen() -> (Xen, UnixStream) {
    // Both ends in one: a socket whose other end is closed would be readable.
    let quiet = || {
        let (one, other) = UnixStream::pair().unwrap();
        std::mem::forget(other);
        File::from(OwnedFd::from(one))
    };
    let (store, other) = UnixStream::pair().unwrap();
    (Xen::over(quiet(), quiet(), quiet(), store), other)
}

/// Waits so long; the ports that fired, and how long it took.
fn wait(xen: &Xen, time: Duration) -> (Vec<PortId>, Duration) {
    let mut out = [PortId(0); 8];
    let begun = Instant::now();
    let count = xen.wait(&mut out, xen.now() + time);
    (out[..count].to_vec(), begun.elapsed())
}

#[test]
fn a_store_that_is_lost_does_not_end_every_wait() {
    let (xen, store) = without_xen();
    drop(store);
    xen.store().pump();
    assert!(!xen.store().is_alive());
    let time = Duration::from_millis(100);
    let (fired, waited) = wait(&xen, time);
    assert!(fired.is_empty() && waited >= time, "{waited:?}");
}

#[test]
fn a_descriptor_is_reported_once_until_it_is_unmasked() {
    let (xen, _store) = without_xen();
    let (one, mut other) = UnixStream::pair().unwrap();
    let id = xen.watch_fd(one.as_fd()).unwrap();
    other.write_all(b"x").unwrap();
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(20));
    assert_eq!(wait(&xen, long).0, [id]);
    assert_eq!(wait(&xen, short).0, []);
    xen.unmask_device(id);
    assert_eq!(wait(&xen, long).0, [id]);
    xen.unmask_device(id);
    xen.unwatch_fd(id);
    assert_eq!(wait(&xen, short).0, []);
}

#[test]
fn a_receive_area_without_pages_is_none() {
    let (xen, _store) = without_xen();
    assert!(xen.receive_area(xenvelope_grant::DomId(1), 0).is_err());
}

/// A TAP and a packet socket on it: whatever one sends, the other receives. `None`, said aloud,
/// where we may not have them.
fn tap_and_socket(xen: &Xen, number: u32) -> Option<(Tap, PacketPort)> {
    // Of this run only: others may be going on.
    let name = format!("xvt{number}-{}", std::process::id());
    let tap = TapConfig {
        name: name.clone(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        persistent: false,
        offloads: TapOffloads::Segments,
        up: true,
    };
    let tap = Tap::open(xen, &tap);
    let denied = match &tap {
        Err(XenError::Device { cause, .. }) => Some(cause),
        Err(XenError::Interface { cause, .. })
            if cause.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Some(cause)
        }
        _ => None,
    };
    if let Some(cause) = denied {
        // Past the harness, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "!!!! SKIPPED: no TAP may be made: {cause}");
        return None;
    }
    let config = PacketConfig { interface: name, promiscuous: true, quiet: true };
    Some((tap.unwrap(), PacketPort::open(xen, &config).unwrap()))
}

/// What comes with our destination: the stack sends of its own accord too.
fn next(xen: &Xen, port: &impl NicPort<Buf = Buffer>) -> (Vec<u8>, Offload) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        while let (1.., len) = port.wanted() {
            let buffer = xen.take(None, len).unwrap();
            assert!(port.post(buffer, 0).is_ok());
        }
        while let Some(Arrival { buffer, frame, offload }) = port.receive() {
            let bytes = buffer.stack_bytes()[frame].to_vec();
            if bytes[..6] == DESTINATION {
                return (bytes, offload);
            }
        }
        port.unmask();
        wait(xen, Duration::from_millis(50));
    }
    panic!("it did not come");
}

const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A frame with that after its addresses.
fn frame(rest: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = [&DESTINATION[..], &[2, 0, 0, 0, 0, 8], rest].concat();
    bytes.resize(len, 0x5a);
    bytes
}

/// IPv4 and TCP that are whole, but for the checksum.
fn tcp(len: usize) -> Vec<u8> {
    let mut bytes = frame(&[8, 0, 0x45, 0], len);
    bytes[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
    bytes[18..34].copy_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[46] = 5 << 4;
    bytes
}

fn send(xen: &Xen, port: &impl NicPort<Buf = Buffer>, bytes: &[u8], offload: Offload) {
    let mut buffer = xen.take(None, bytes.len() + 64).unwrap();
    buffer.put(64, bytes);
    assert!(port.send(buffer, 64..64 + bytes.len(), offload).is_ok());
    port.kick();
    assert!(port.completed().is_some());
    assert_eq!(port.in_flight(), 0);
}

#[test]
fn a_tap_and_a_packet_socket_carry_frames_with_their_tags() {
    let (xen, _store) = without_xen();
    let Some((tap, socket)) = tap_and_socket(&xen, 1) else { return };
    assert!(socket.link() && tap.link());
    let plain = frame(&[0x88, 0xb5], 60);
    let customer = frame(&[0x81, 0, 0xe0, 5, 0x88, 0xb5], 64);
    // A provider's tag is no customer's: it must not come out as one.
    let provider = frame(&[0x88, 0xa8, 0, 5, 0x88, 0xb5], 64);
    for bytes in [plain, customer, provider] {
        send(&xen, &tap, &bytes, Offload::default());
        assert_eq!(next(&xen, &socket).0, bytes);
        send(&xen, &socket, &bytes, Offload::default());
        assert_eq!(next(&xen, &tap).0, bytes);
    }
}

#[test]
fn a_blank_checksum_and_a_segment_to_be_cut_stay_so() {
    let (xen, _store) = without_xen();
    let Some((tap, socket)) = tap_and_socket(&xen, 2) else { return };
    let blank = Offload {
        needs_checksum: true,
        checksum_start: 34,
        checksum_offset: 16,
        ..Offload::default()
    };
    let long = Offload { gso_type: 1, gso_size: 1448, ..blank };
    for (bytes, offload) in [(tcp(100), blank), (tcp(60_000), long)] {
        send(&xen, &socket, &bytes, offload);
        assert_eq!(next(&xen, &tap), (bytes.clone(), offload));
        send(&xen, &tap, &bytes, offload);
        assert_eq!(next(&xen, &socket), (bytes, offload));
    }
}

#[test]
fn what_the_kernel_does_not_take_is_counted() {
    let (xen, _store) = without_xen();
    let Some((tap, socket)) = tap_and_socket(&xen, 3) else { return };
    let whole = frame(&[0x88, 0xb5], 60);
    // No frame: shorter than its header.
    for bytes in [&whole[..], &whole[..10]] {
        send(&xen, &tap, bytes, Offload::default());
        send(&xen, &socket, bytes, Offload::default());
    }
    assert_eq!((tap.lost(), socket.lost()), (1, 1));
}
