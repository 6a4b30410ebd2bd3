//! A guest that writes what it likes into the rings that it shares with the driver domain.

use xenvelope_grant::DomId;
use xenvelope_grant::netif::{ExtraInfo, TxRequest};
use xenvelope_grant::seam::Granter as _;
use xenvelope_hypervisor_sim::machine::GrantedBuffer;

use super::input::Input;
use crate::lab::{GuestPlan, HostileGuest, Lab, frame, mac};

/// A host with two honest guests and one that is not.
fn host() -> (Lab, HostileGuest) {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let hostile = HostileGuest::connect(&mut lab, mac(9));
    (lab, hostile)
}

/// Whatever one guest did, the others' frames arrive.
fn others_go_on(lab: &mut Lab) {
    lab.steps(4);
    lab.expect_delivery(0, 1, &[2; 60]);
    lab.expect_delivery(1, 0, &[3; 1000]);
}

/// Any words in any ring, envelopes and requests of any content, in any order.
pub fn backend_rings(data: &[u8]) {
    let (mut lab, mut guest) = host();
    let page = guest.grant_page(DomId::DOM0, &frame(mac(0), mac(9), &[7; 60]));
    let gref = guest.domain.segments(&page)[0].gref.0;
    let mut input = Input::new(data);
    while let Some(act) = input.act(9) {
        match act {
            0 => input.scribble(guest.tx.words()),
            1 => input.scribble(guest.rx.words()),
            2 => input.scribble(guest.send.words()),
            3 => input.scribble(guest.receive.words()),
            4 => guest.push_envelope(input.piece()),
            5 => push_request(&mut guest, &mut input, gref),
            6 => {
                let _ = guest.tx.publish();
            }
            7 => lab.step(),
            _ => {
                let payload = vec![1; 46 + usize::from(input.byte()) * 8];
                lab.guests[0].send(&frame(mac(9), mac(0), &payload));
            }
        }
    }
    others_go_on(&mut lab);
}

/// Puts a request of any content into the transmit ring, unpublished. Often what it names is
/// there.
fn push_request(guest: &mut HostileGuest, input: &mut Input, gref: u32) {
    let mut request = TxRequest {
        gref: input.word(),
        offset: input.short(),
        flags: input.short(),
        id: input.short(),
        size: input.short(),
    };
    if request.gref & 1 == 0 {
        request.gref = gref;
    }
    let _ = guest.tx.push(&request);
}

/// Frames of any fragments, with any extra infos, whose pages hold any bytes.
pub fn netif_requests(data: &[u8]) {
    let (mut lab, mut guest) = host();
    let mut pages: Vec<GrantedBuffer> = Vec::new();
    let mut input = Input::new(data);
    while let Some(act) = input.act(5) {
        match act {
            0 => {
                // A page with a frame of it, whose addresses the switch lets pass.
                let mut bytes = frame(mac(usize::from(input.byte() % 2)), mac(9), &[]);
                bytes.truncate(12);
                bytes.extend_from_slice(input.piece());
                pages.push(guest.grant_page(DomId::DOM0, &bytes));
            }
            1 | 2 => {
                let which = usize::from(input.byte());
                let page = pages.get(which % pages.len().max(1));
                let gref = page.map_or(8, |page| guest.domain.segments(page)[0].gref.0);
                push_request(&mut guest, &mut input, gref);
            }
            3 => {
                let info = ExtraInfo {
                    kind: input.byte() % 6,
                    flags: input.byte() & 3,
                    gso_size: input.short(),
                    gso_type: input.byte() % 6,
                    pad: 0,
                    gso_features: input.short(),
                };
                let _ = guest.tx.push(&info.to_tx());
            }
            _ => {
                let _ = guest.tx.publish();
                lab.steps(2);
                // What it was answered makes room.
                for _ in 0..guest.tx.pending().unwrap_or(0) {
                    let _ = guest.tx.pop();
                }
            }
        }
    }
    let _ = guest.tx.publish();
    others_go_on(&mut lab);
}
