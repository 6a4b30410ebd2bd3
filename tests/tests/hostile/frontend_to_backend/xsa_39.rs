//! XSA-39 (Linux 48856286b64e): a producer index beyond the ring had netback loop for long. Only
//! that guest's interface may end, and nothing may be taken from the ring.

use xenvelope_tests::lab::{Bystanders, RawGuest, frame, mac};

/// One more than the ring holds, far ahead, and behind what was published before.
const INDICES: [u32; 4] = [257, 0x4000_0000, 0x8000_0000, u32::MAX];

#[test]
fn xsa_39_a_producer_index_beyond_the_transmit_ring() {
    for index in INDICES {
        let (mut lab, others) = Bystanders::with_lab();
        let guest = RawGuest::connect(&mut lab, mac(9));
        assert!(lab.mapped_from(guest.domid()) > 0);
        RawGuest::claim(guest.stock.queues[0].tx.words(), index);
        guest.knock();
        let cost = lab.step_counted();
        assert!(guest.is_closed(), "{index:#x}");
        assert_eq!(others.closed(&lab), 1);
        assert_eq!(cost.copy_ops, 0, "nothing is fetched for it");
        assert_eq!(lab.mapped_from(guest.domid()), 0, "its rings are unmapped");
        others.unharmed(&mut lab);
    }
}

#[test]
fn xsa_39_a_producer_index_beyond_the_receive_ring() {
    // It has posted 256 buffers.
    for index in [256 + 257, 0x4000_0000, 0x8000_0000, u32::MAX] {
        let (mut lab, others) = Bystanders::with_lab();
        let guest = RawGuest::connect(&mut lab, mac(9));
        lab.steps(2);
        RawGuest::claim(guest.stock.queues[0].rx.words(), index);
        // It is looked at when there is a frame for it.
        lab.guests[0].send(&frame(mac(9), mac(0), &[1; 60]));
        lab.steps(3);
        assert!(guest.is_closed(), "{index:#x}");
        assert_eq!(others.closed(&lab), 1);
        assert_eq!(lab.mapped_from(guest.domid()), 0, "its rings are unmapped");
        others.unharmed(&mut lab);
    }
}
