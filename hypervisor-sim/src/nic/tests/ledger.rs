//! What goes in comes out, or is dropped for a reason.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Buffer, Instant, NicPort, Offload};

use super::hardware::{completed, envelope, received};
use super::{Host, Port, frame};
use crate::nic::{DropReason, Mac, NicConfig, NicCounters};

const ALL: Mac = [0xFF; 6];
const STRANGER: Mac = [2, 9, 9, 9, 9, 9];

fn mac(port: &Port) -> Mac {
    port.capabilities().mac
}

fn close(host: &Host) -> NicCounters {
    let sum = host.nic.ledger();
    assert_eq!((sum.frames_missing(), sum.envelopes_missing()), (0, 0), "{sum:?}");
    sum
}

/// Frames and envelopes of every fate: a drop of each kind, a flood, a frame that is cut.
#[test]
fn it_closes() {
    let host = Host::new(NicConfig { iommu_miss_ns: 0, ..NicConfig::default() });
    let ports = [host.vf(0), host.vf(1), host.vf(2), host.vf(3)];
    let [a, b, c, d] = &ports;
    let pf = host.pf();
    let mut now = Instant(0);
    let both = |port: &Port, domain: u16, to: Mac, from: Mac| {
        host.send(port, domain, &frame(to, from, 60, 1));
        host.send(port, domain, &envelope(to, from, 1, 5));
        host.send(port, domain, &envelope(to, from, 2, 9));
    };
    // Nobody at the wire.
    both(a, 1, STRANGER, mac(a));
    now = host.settle(now);
    assert_eq!(close(&host).no_destination, 1 + 5);
    let wire = host.nic.wire().unwrap();
    host.post(b, 2, 200);
    host.post(&pf, 0, 200);
    // Delivered, flooded (nobody posted at c), forged, tagged.
    both(a, 1, mac(b), mac(a));
    both(a, 1, ALL, mac(a));
    both(a, 1, mac(b), STRANGER);
    let mut tagged = envelope(mac(b), mac(a), 1, 7);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    host.send(a, 1, &tagged);
    now = host.settle(now);
    let sum = close(&host);
    assert_eq!((sum.flood_extra, sum.flood_extra_envelopes), (4, 8), "b, c, d, PF and the wire");
    assert_eq!((sum.spoofed, sum.vlan), (6, 7));
    assert_eq!(sum.no_receive_buffer, 2 * 6, "at c and d");
    assert_eq!((sum.dropped_envelopes, sum.dropped_carried), (2 + 4 + 2 + 1, 5 + 10 + 5 + 7));
    // Too long for the card, and for the receiver's buffer; to be cut, well and badly.
    wire.send(&frame(mac(b), STRANGER, 1600, 1)).unwrap();
    wire.send(&frame(mac(b), STRANGER, 13 + 1, 1)[..13]).unwrap();
    wire.send(&envelope(mac(b), STRANGER, 1, 3)).unwrap();
    assert!(c.post(host.buffer(3, 40), 0).is_ok());
    both(a, 1, mac(c), mac(a));
    let mut segment = frame(mac(b), mac(a), 5066, 0);
    segment[12..38].fill(0);
    segment[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6]);
    segment[46] = 0x80;
    let gso = Offload { gso_type: 1, gso_size: 1000, ..Offload::default() };
    host.send_with(a, 1, &segment, gso);
    segment[23] = 17;
    host.send_with(a, 1, &segment, gso);
    now = host.settle(now);
    let sum = close(&host);
    assert_eq!((sum.too_long, sum.malformed, sum.segmentation), (1 + 1 + 5, 1, 1));
    assert_eq!(sum.segmented_extra, 4);
    // The wire's other end sleeps.
    let room = [host.buffer(1, 4096).address, host.buffer(1, 4096).address];
    for _ in 0..1100 {
        let frames = [frame(STRANGER, mac(a), 60, 1), envelope(STRANGER, mac(a), 1, 2)];
        for (bytes, at) in frames.iter().zip(room) {
            a.send(host.holding(1, at, bytes), 0..bytes.len(), Offload::default()).unwrap();
        }
        a.kick();
        now = host.settle(now);
        completed(a);
    }
    assert!(close(&host).wire_full > 1000);
    // And goes, with frames under way.
    both(a, 1, STRANGER, mac(a));
    host.nic.run(now);
    drop(wire);
    now = host.settle(now);
    close(&host);
    // A receiver without memory.
    host.post(d, 4, 3);
    both(a, 1, mac(d), mac(a));
    host.nic.run(now);
    host.memory.end(DomId(4));
    now = host.settle(now);
    assert_eq!(close(&host).dma_fault, 6);
    // A sender without memory: its ring cannot be read.
    host.send(c, 3, &frame(mac(b), mac(c), 60, 1));
    host.memory.end(DomId(3));
    now = host.settle(now);
    assert_eq!(close(&host).dma_fault, 7);
    // A receiver that is pulled with frames under way, and some in its own ring.
    let down = host.nic.ledger().link_down;
    both(a, 1, mac(b), mac(a));
    host.nic.run(now);
    both(b, 2, mac(a), mac(b));
    host.nic.unplug_vf(1).unwrap();
    host.settle(now);
    assert_eq!(close(&host).link_down - down, 2 * 6);
    assert!(received(&pf).len() + completed(a) > 0);
    let sum = close(&host);
    for reason in DropReason::ALL {
        assert!(sum.reasons().any(|(other, count)| other == reason && count > 0), "{reason:?}");
    }
    let counted: u64 = sum.reasons().map(|(_, count)| count).sum();
    assert_eq!(counted, sum.dropped());
    drop(ports);
    close(&host);
}

/// Whatever the card knows of a port's frames when the port goes, none is forgotten and none
/// counted twice.
#[test]
fn a_port_that_goes_takes_its_frames_along() {
    for taken_away in [false, true] {
        for ran in [false, true] {
            // 80 Mbit/s: the card takes one frame, and has the descriptors of others.
            let config = NicConfig { bus_gbit: Some(0.08), ..NicConfig::default() };
            let host = Host::new(config);
            let (a, b) = (host.vf(0), host.vf(1));
            host.post(&b, 2, 64);
            for i in 0..40 {
                host.send(&a, 1, &frame(mac(&b), mac(&a), 60, i));
                host.send(&a, 1, &envelope(mac(&b), mac(&a), 1, 3));
            }
            let mut now = Instant(0);
            if ran {
                now = host.nic.run(now).unwrap();
            }
            for i in 0..5 {
                let mut buffer = host.buffer(1, 4096);
                buffer.put(0, &frame(mac(&b), mac(&a), 60, i));
                a.send(buffer, 0..60, Offload::default()).unwrap();
            }
            if taken_away {
                host.nic.unplug_vf(0).unwrap();
                // The doorbell comes too late, and the port's next life begins.
                a.kick();
                host.nic.plug_vf(0).unwrap();
                assert_eq!(completed(&a), 85);
            } else {
                drop(a);
            }
            host.settle(now);
            let sum = close(&host);
            assert_eq!((sum.tx_frames, sum.tx_envelopes), (45, 40));
            assert_eq!(sum.rx_frames + sum.rx_envelopes, u64::from(ran));
            assert_eq!(sum.link_down, 45 + 40 * 3 - sum.rx_frames - 3 * sum.rx_envelopes);
        }
    }
}
