//! Envelopes by hand.

use xenvelope_grant::seam::{Offload, Segment};
use xenvelope_switch::{
    Addresses, Body, DeliverHead, Done, Envelope, EnvelopeBuilder, FrameHead, MacAddress,
};

use super::TEST_TYPE;

/// Untagged addresses.
pub fn addresses(destination: MacAddress, source: MacAddress) -> Addresses {
    Addresses { destination, source, tci: None }
}

/// An untagged head.
pub fn head(epoch: u32, sequence: u32) -> DeliverHead {
    DeliverHead { epoch, sequence, nonce: 1, tagged: false, want_done: false }
}

/// What an envelope says of a frame with so many bytes after its header.
pub fn frame_head(total: u16) -> FrameHead {
    FrameHead { ether_type: TEST_TYPE, total, offload: Offload::default() }
}

/// An envelope with one frame inside.
///
/// # Panics
/// If the payload does not fit.
pub fn inline(addresses: Addresses, head: DeliverHead, payload: &[u8]) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(addresses, head, None);
    builder.push_inline(frame_head(payload.len() as u16), payload).expect("it fits");
    builder.finish().to_vec()
}

/// An envelope with frames that were granted, each in the given segments.
///
/// # Panics
/// If they do not fit.
pub fn granted(addresses: Addresses, head: DeliverHead, frames: &[(u16, &[Segment])]) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::deliver(addresses, head, None);
    for (total, segments) in frames {
        builder.push_granted(frame_head(*total), segments).expect("it fits");
    }
    builder.finish().to_vec()
}

/// An envelope that says done to everything before `cumulative`.
pub fn done(addresses: Addresses, epoch: u32, cumulative: u32, nonce: u64) -> Vec<u8> {
    let done = Done { epoch, cumulative, selective: 0, nonce };
    EnvelopeBuilder::done(addresses, 0x0077_0077, done).finish().to_vec()
}

/// The honest done for an envelope that carries frames, if it does.
pub fn done_for(envelope: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::parse(envelope).ok()?;
    let to = addresses(envelope.header.source, envelope.header.destination);
    match envelope.body {
        Body::Deliver(deliver) => {
            let head = deliver.head;
            Some(done(to, head.epoch, head.sequence.wrapping_add(1), head.nonce))
        }
        _ => None,
    }
}

/// The head and the segments of an envelope that carries frames.
pub fn opened(envelope: &[u8]) -> Option<(DeliverHead, Vec<Segment>)> {
    match Envelope::parse(envelope).ok()?.body {
        Body::Deliver(deliver) => {
            let segments = deliver.frames.flat_map(|frame| frame.segments).collect();
            Some((deliver.head, segments))
        }
        _ => None,
    }
}
