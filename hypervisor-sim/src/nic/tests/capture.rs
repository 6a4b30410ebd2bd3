//! What somebody who looks on at the card sees.

use xenvelope_grant::seam::{Direction, Instant, NicPort};

use super::{Host, frame};
use crate::capture::Recorder;

const STRANGER: [u8; 6] = [2, 9, 9, 9, 9, 9];
/// Interfaces in the order in which the card has them.
const PF: u32 = 0;
const VF0: u32 = 1;
const VF1: u32 = 2;

#[test]
fn a_frame_is_seen_where_it_goes_in_and_where_it_comes_out() {
    let host = Host::ideal();
    let (recorder, packets) = Recorder::new(4096);
    host.nic.observe(recorder.card(host.nic.config()));
    let wire_interface = host.nic.config().vfs as u32 + 1;
    let (a, b) = (host.vf(0), host.vf(1));
    host.post(&b, 2, 2);
    let wire = host.nic.wire().unwrap();
    let to_b = frame(b.capabilities().mac, a.capabilities().mac, 60, 1);
    let outside = frame(STRANGER, a.capabilities().mac, 60, 2);
    let inside = frame(b.capabilities().mac, STRANGER, 60, 3);
    host.send(&a, 1, &to_b);
    host.settle(Instant(0));
    host.send(&a, 1, &outside);
    host.settle(Instant(0));
    wire.send(&inside).unwrap();
    host.settle(Instant(0));
    let seen: Vec<_> = packets.try_iter().map(|p| (p.interface, p.direction, p.data)).collect();
    let (out, into) = (Direction::Out, Direction::In);
    let expected = [
        (VF0, out, to_b.clone()),
        (VF1, into, to_b),
        (VF0, out, outside.clone()),
        (wire_interface, out, outside),
        (wire_interface, into, inside.clone()),
        (VF1, into, inside),
    ];
    assert_eq!(seen, expected.map(|(at, way, bytes)| (at, way, bytes.into_boxed_slice())));
}

#[test]
fn a_dropped_frame_is_seen_with_the_reason() {
    let host = Host::ideal();
    let (recorder, packets) = Recorder::new(4096);
    host.nic.observe(recorder.card(host.nic.config()));
    let (pf, a, b) = (host.pf(), host.vf(0), host.vf(1));
    // Forged; then to somebody who has no buffer.
    host.send(&a, 1, &frame(b.capabilities().mac, STRANGER, 60, 1));
    host.send(&pf, 0, &frame(b.capabilities().mac, STRANGER, 60, 2));
    host.settle(Instant(0));
    let mut seen: Vec<_> =
        packets.try_iter().map(|p| (p.interface, p.direction, p.comment)).collect();
    seen.sort_by_key(|(interface, ..)| *interface);
    let dropped = |reason: &str| Some(format!("dropped: {reason}"));
    assert_eq!(
        seen,
        [
            (PF, Direction::Out, None),
            (VF0, Direction::Out, dropped("spoofed")),
            (VF1, Direction::In, dropped("no-receive-buffer")),
        ]
    );
}
