//! What stands in an envelope, and what stands behind it.

use xenvelope_frontend::DropReason;
use xenvelope_grant::seam::Access;
use xenvelope_grant::seam::{Buffer as _, Granter as _, Offload, Segment};
use xenvelope_switch::{ETHER_TYPE, EnvelopeBuilder, FrameHead};
use xenvelope_tests::lab::envelopes::{addresses, frame_head, granted, head};
use xenvelope_tests::lab::{Lab, frame, mac};

use crate::neighbours::go_on;

/// Hangs on the type in `Pieces::check`.
#[test]
fn an_envelope_in_an_envelope_is_refused() {
    let (mut lab, mut hostile) = Lab::switched();
    let (to, inner) =
        (addresses(mac(1), mac(9)), FrameHead { ether_type: ETHER_TYPE, ..frame_head(60) });
    let page = hostile.grant_page(lab.domid(1), &[7; 4096]);
    let segment = [Segment { gref: hostile.domain.segments(&page)[0].gref, offset: 0, len: 60 }];
    let mut inline = EnvelopeBuilder::deliver(to, head(5, 0), None);
    inline.push_inline(inner, &[1; 60]).expect("it fits");
    let mut granted = EnvelopeBuilder::deliver(to, head(5, 1), None);
    granted.push_granted(inner, &segment).expect("it fits");
    // Beside one that is good: an envelope is good as a whole or not at all.
    let mut beside = EnvelopeBuilder::deliver(to, head(5, 2), None);
    beside.push_inline(frame_head(60), &[1; 60]).expect("it fits");
    beside.push_inline(inner, &[1; 60]).expect("it fits");
    let taken = lab.backend.counters().envelopes_forwarded;
    for builder in [&mut inline, &mut granted, &mut beside] {
        hostile.push_envelope(builder.finish());
    }
    lab.steps(10);
    assert!(lab.guests[1].received.is_empty());
    assert_eq!(lab.backend.counters().envelopes_forwarded, taken, "they stop at the switch");
    go_on(&mut lab);
}

/// Hangs on `Pieces::check_sizes` counting in more than 16 bits.
#[test]
fn lengths_that_add_up_past_64_kib_are_refused() {
    let (mut lab, mut hostile) = Lab::switched();
    let page = hostile.grant_page(lab.domid(1), &[7; 4096]);
    let gref = hostile.domain.segments(&page)[0].gref;
    let pieces = [Segment { gref, offset: 0, len: 4096 }; 17];
    // 69632 bytes; their number in 16 bits is 4096.
    let to = addresses(mac(1), mac(9));
    let taken = lab.backend.counters().envelopes_forwarded;
    hostile.push_envelope(&granted(to, head(5, 0), &[(4096, &pieces)]));
    lab.steps(10);
    assert!(lab.guests[1].received.is_empty());
    assert_eq!(lab.backend.counters().envelopes_forwarded, taken, "it stops at the switch");
    // The longest that there is arrives.
    let mut longest = [pieces[0]; 16];
    longest[15].len = 4095;
    let total: u32 = longest.iter().map(|piece| u32::from(piece.len)).sum();
    hostile.push_envelope(&granted(to, head(5, 1), &[(total as u16, &longest)]));
    lab.steps(10);
    assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(9), &vec![7; total as usize])]);
    go_on(&mut lab);
}

/// Hangs on each operation's own status in `Frontend::deliver`.
#[test]
fn a_grant_that_is_revoked_in_the_middle_of_a_batch_costs_its_own_frame() {
    let (mut lab, mut hostile) = Lab::switched();
    let to = addresses(mac(1), mac(9));
    lab.guests[1].asleep = true;
    let mut pages: Vec<_> =
        (1..=6).map(|fill| hostile.grant_page(lab.domid(1), &[fill; 4096])).collect();
    let piece = |page: &_| {
        let gref = hostile.domain.segments(page)[0].gref;
        [Segment { gref, offset: 0, len: 600 }]
    };
    let pieces: Vec<_> = pages.iter().map(piece).collect();
    let frames: Vec<(u16, &[Segment])> = pieces.iter().map(|piece| (600, &piece[..])).collect();
    hostile.push_envelope(&granted(to, head(5, 0), &frames[..3]));
    hostile.push_envelope(&granted(to, head(5, 1), &frames[3..]));
    lab.send(0, 1, &[9; 1000]);
    lab.steps(5);
    for revoked in [4, 1] {
        hostile.domain.revoke(pages.remove(revoked)).expect("nobody has begun");
    }
    lab.guests[1].asleep = false;
    lab.steps(20);
    let mut came: Vec<u8> = lab.guests[1].take_received().iter().map(|bytes| bytes[14]).collect();
    came.sort_unstable();
    assert_eq!(came, [1, 3, 4, 6, 9]);
    assert_eq!(lab.guests[1].counters().dropped_for(DropReason::CopyFailed), 2);
    go_on(&mut lab);
}

/// Hangs on `Frontend::prepare_copy` delivering the headers that came inline.
#[test]
fn headers_that_are_rewritten_after_the_filter_saw_them_arrive_as_it_saw_them() {
    let (mut lab, mut hostile) = Lab::switched();
    let peer = lab.guests[1].domain.peer();
    // The whole frame lies in the page, as an honest sender has it; the granted part is behind
    // the headers, or all of it, if the sender lies about that.
    for (sequence, start) in [(0, 64_u16), (1, 0)] {
        let mut buffer = hostile.domain.take(None, 4096).expect("memory");
        buffer.put(0, &[0xBB; 600]);
        let out = hostile.domain.grant(buffer, peer, 0..600, Access::Read).expect("a reference");
        let gref = hostile.domain.segments(&out)[0].gref;
        let piece = [Segment { gref, offset: start, len: 536 }];
        let mut builder =
            EnvelopeBuilder::deliver(addresses(mac(1), mac(9)), head(5, sequence), None);
        let frame_head = FrameHead { offload: Offload::default(), ..frame_head(600) };
        builder.push_granted_with_headers(frame_head, &[0xAA; 64], &piece).expect("it fits");
        hostile.push_envelope(builder.finish());
        lab.steps(10);
        let mut seen = vec![0xAA; 64];
        seen.resize(600, 0xBB);
        assert_eq!(lab.guests[1].take_received(), [frame(mac(1), mac(9), &seen)]);
    }
    go_on(&mut lab);
}
