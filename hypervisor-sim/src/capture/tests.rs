//! A capture that cannot keep up, or cannot write.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use xenvelope_grant::seam::Direction;
use xenvelope_switch::MacAddress;

use super::recorder::QUEUE_PACKETS;
use super::{Capture, CaptureError, Recorder, Tap};
use crate::machine::{Costs, Machine};

fn tap(recorder: &Recorder, name: &str) -> Tap {
    recorder.interface(name.to_owned(), format!("interface {name}"), None, None)
}

fn dropped(recorder: &Recorder) -> Vec<u64> {
    let interfaces = recorder.shared.interfaces.lock().unwrap();
    interfaces.iter().map(|interface| interface.dropped.load(Relaxed)).collect()
}

#[test]
fn a_full_queue_drops_and_counts_by_interface() {
    let (recorder, packets) = Recorder::new(96);
    let (first, second) = (tap(&recorder, "first"), tap(&recorder, "second"));
    for _ in 0..QUEUE_PACKETS {
        first.capture(Direction::Out, &[1; 60], || None);
    }
    for _ in 0..5 {
        second.capture(Direction::In, &[2; 60], || unreachable!("no comment on what is dropped"));
    }
    assert_eq!(dropped(&recorder), [0, 5]);
    // With room it goes on.
    let packet = packets.try_recv().unwrap();
    recorder.shared.taken(&packet);
    second.capture(Direction::In, &[2; 60], || None);
    assert_eq!(dropped(&recorder), [0, 5]);
    assert_eq!(packets.try_iter().count(), QUEUE_PACKETS);
}

#[test]
fn what_waits_for_the_file_is_bounded_in_bytes_too() {
    let (recorder, packets) = Recorder::new(1 << 20);
    let tap = tap(&recorder, "large");
    // A gigabyte, of which 64 MiB may wait.
    for _ in 0..1024 {
        tap.capture(Direction::Out, &[0; 1 << 20], || None);
    }
    assert_eq!(dropped(&recorder), [1024 - 64]);
    for packet in packets.try_iter() {
        recorder.shared.taken(&packet);
    }
    tap.capture(Direction::Out, &[0; 1 << 20], || None);
    assert_eq!(dropped(&recorder), [1024 - 64]);
}

#[test]
fn a_file_that_cannot_be_written_is_told_of_and_stops_nobody() {
    let capture = Capture::create(Path::new("/dev/full"), 65535, "test").unwrap();
    let tap = tap(capture.recorder(), "a");
    for _ in 0..100 {
        tap.capture(Direction::Out, &[0; 60000], || None);
    }
    let error = capture.finish().unwrap_err();
    assert!(matches!(error, CaptureError::Write { .. }), "{error}");
    assert!(error.to_string().contains("/dev/full"), "{error}");
    tap.capture(Direction::Out, &[0; 60], || None);
}

#[test]
fn domains_are_called_by_their_names() {
    let machine = Machine::new(Costs::ideal());
    let (recorder, _packets) = Recorder::new(96);
    let dom0 = machine.create_domain("driver-domain", 16);
    let guest = machine.create_domain("a", 16);
    let nobody = machine.create_domain("b", 16);
    recorder.guest(&guest, MacAddress([2, 0, 0, 0, 0, 1]), Ipv4Addr::LOCALHOST, None);
    let name = |domain: &crate::machine::Domain| recorder.shared.name(domain.peer().domid);
    assert_eq!(&*name(&dom0), "driver-domain");
    assert_eq!(&*name(&guest), "a");
    assert_eq!(&*name(&nobody), format!("domain {}", nobody.peer().domid.0));
}
