use proptest::prelude::*;
use xenvelope_grant::netif::GSO_TYPE_TCPV4;
use xenvelope_grant::ring::{Front, RingLayout};
use xenvelope_grant::seam::{CopyOp, End, Offload};
use xenvelope_grant::words::HeapWords;
use xenvelope_grant::{DomId, Gref};

use super::*;
use crate::netback::{Source, assemble, plan, respond};

const TX: RingLayout = RingLayout::one_page::<TxRequest, TxResponse>();
const RX: RingLayout = RingLayout::one_page::<RxRequest, RxResponse>();

/// Puts a frame of `slots` slots, and an extra info if `gso`, into a ring.
fn send(front: &mut Front<HeapWords, TxRequest, TxResponse>, slots: u16, gso: bool) {
    for index in 0..slots {
        let mut flags = TxFlags::empty();
        flags.set(TxFlags::MORE_DATA, index + 1 < slots);
        flags.set(TxFlags::EXTRA_INFO, index == 0 && gso);
        let id = (front.next_index() % 256) as u16;
        let size = if index == 0 { 100 * slots } else { 100 };
        let gref = 1000 + u32::from(id);
        front.push(&TxRequest { gref, offset: 0, flags: flags.bits(), id, size }).expect("room");
        if index == 0 && gso {
            let info = ExtraInfo {
                kind: xenvelope_grant::netif::EXTRA_TYPE_GSO,
                gso_size: 1448,
                gso_type: GSO_TYPE_TCPV4,
                ..ExtraInfo::default()
            };
            front.push(&info.to_tx()).expect("room");
        }
    }
}

proptest! {
    /// A backend dies after it has written any number of answers and published only some: its
    /// successor answers each request once, in order, and assembles only what was not answered.
    #[test]
    fn every_request_is_answered_once_and_no_answer_is_taken_for_a_request(
        start: u32,
        frames in prop::collection::vec((1u16..8, any::<bool>()), 1..20),
        written in 0usize..60,
        status in prop_oneof![Just(0i16), Just(RSP_ERROR)],
    ) {
        let shared = HeapWords::new(PAGE_SIZE);
        let mut front = Front::starting_at(shared.clone(), TX, start);
        let mut expected = Vec::new();
        for (slots, gso) in &frames {
            let first = front.next_index();
            send(&mut front, *slots, *gso);
            for index in first..front.next_index() {
                let extra = *gso && index == first.wrapping_add(1);
                expected.push((!extra).then_some((index % 256) as u16));
            }
        }
        let _ = front.publish();
        let mut dead = Back::<_, TxRequest, TxResponse>::attach(shared.clone(), TX);
        for id in expected.iter().take(written) {
            dead.pop();
            let status = if id.is_some() { status } else { RSP_NULL };
            dead.push(&TxResponse { id: id.unwrap_or(0), status }).expect("a request");
        }
        drop(dead);
        let mut back = Back::<_, TxRequest, TxResponse>::attach(shared, TX);
        salvage_tx(&mut back).expect("an honest ring");
        while back.pending().expect("an honest ring") > 0 {
            let waiting = back.pending().expect("an honest ring");
            let frame = assemble(&mut back, waiting).expect("an honest ring");
            prop_assert!(frame.fragments.iter().all(|piece| piece.gref.0 >= 1000));
            for (index, id) in frame.ids.iter().enumerate() {
                back.push(&TxResponse { id: *id, status: 0 }).expect("a request");
                for _ in 0..if index == 0 { frame.extras } else { 0 } {
                    back.push(&TxResponse { id: 0, status: RSP_NULL }).expect("a request");
                }
            }
        }
        let _ = back.publish();
        prop_assert_eq!(front.pending().expect("honest") as usize, expected.len());
        for id in expected {
            let response = front.pop();
            match id {
                Some(id) => prop_assert_eq!(response.id, id),
                None => prop_assert_eq!(response.status, RSP_NULL),
            }
        }
    }

    /// The same of receive buffers: no answer is taken for a reference to write to.
    #[test]
    fn no_answer_is_taken_for_a_receive_buffer(
        start: u32,
        frames in prop::collection::vec((1usize..20_000, any::<bool>(), any::<bool>()), 0..10),
    ) {
        let shared = HeapWords::new(PAGE_SIZE);
        let mut front = Front::<_, RxRequest, RxResponse>::starting_at(shared.clone(), RX, start);
        for _ in 0..256 {
            let id = (front.next_index() % 256) as u16;
            front.push(&RxRequest { id, pad: 0, gref: 1000 + u32::from(id) }).expect("room");
        }
        let _ = front.publish();
        let mut dead = Back::<_, RxRequest, RxResponse>::attach(shared.clone(), RX);
        let mut ops: Vec<CopyOp> = Vec::new();
        for (total, gso, copied) in &frames {
            let source = Source { end: End::Local { buffer: 0, offset: 0 }, len: *total };
            let offload = Offload {
                gso_size: if *gso { 1448 } else { 0 },
                gso_type: u8::from(*gso),
                needs_checksum: *gso,
                ..Offload::default()
            };
            let guest = DomId::ordinary(5).expect("a guest");
            let Some(delivery) = plan(&mut dead, guest, &[source], *total, offload, &mut ops)
            else {
                break;
            };
            respond(&mut dead, &delivery, *copied);
        }
        let answered = dead.next_index();
        drop(dead);
        let mut back = Back::<_, RxRequest, RxResponse>::attach(shared, RX);
        let slots = salvage_rx(&mut back).expect("an honest ring");
        prop_assert_eq!(slots as u32, answered.wrapping_sub(start));
        let _ = back.publish();
        for index in 0..slots as u32 {
            let response = front.pop();
            prop_assert_eq!(u32::from(response.id), start.wrapping_add(index) % 256);
            prop_assert_eq!(response.status, RSP_ERROR);
        }
        while back.pending().expect("honest") > 0 {
            prop_assert!(Gref(back.pop().gref).0 >= 1000);
        }
    }
}
