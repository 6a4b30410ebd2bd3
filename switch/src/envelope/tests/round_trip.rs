//! What is built is what is read.

use std::vec;
use std::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use xenvelope_grant::seam::{MAX_SEGMENTS, Offload, Segment};

use super::super::{
    Addresses, Body, DeliverHead, Done, Envelope, EnvelopeBuilder, EnvelopeFull, FrameHead,
    InPlace, MAX_ENVELOPE, TAG_LEN, is_envelope,
};
use super::{DONE, UNTAGGED, plain, segment};
use crate::ethernet::ether_type::IPV4;
use crate::ethernet::{EthernetHeader, MacAddress};

/// A frame to send, as its owner would describe it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) head: FrameHead,
    pub(super) inline: Vec<u8>,
    pub(super) segments: Vec<Segment>,
}

pub(super) fn addresses() -> impl Strategy<Value = Addresses> {
    any::<([u8; 6], [u8; 6], Option<u16>)>().prop_map(|(destination, source, tci)| Addresses {
        destination: MacAddress(destination),
        source: MacAddress(source),
        tci,
    })
}

pub(super) fn deliver_head() -> impl Strategy<Value = DeliverHead> {
    any::<(u32, u32, u64, bool, bool)>().prop_map(|(epoch, sequence, nonce, tagged, want_done)| {
        DeliverHead { epoch, sequence, nonce, tagged, want_done }
    })
}

pub(super) fn done() -> impl Strategy<Value = Done> {
    any::<(u32, u32, u64, u64)>().prop_map(|(epoch, cumulative, selective, nonce)| Done {
        epoch,
        cumulative,
        selective,
        nonce,
    })
}

/// Frames that are valid behind an Ethernet header of `header` bytes.
pub(super) fn frame(header: u16, tagged: bool) -> impl Strategy<Value = Frame> {
    let segments = vec_of((any::<u32>(), 0u16..2048, 32u16..2048), 0..5);
    let numbers = any::<(u16, u16, bool, u8, u16, bool)>();
    (segments, vec_of(any::<u8>(), 0..60), numbers).prop_map(move |(segments, inline, numbers)| {
        let (ether_type, start, checksum, gso, gso_size, checksum_valid) = numbers;
        let segments: Vec<Segment> =
            segments.into_iter().map(|(gref, offset, len)| segment(gref, offset, len)).collect();
        let inline = if segments.is_empty() && inline.is_empty() { vec![1] } else { inline };
        let granted: u16 = segments.iter().map(|segment| segment.len).sum();
        let tag = if tagged && !segments.is_empty() { TAG_LEN as u16 } else { 0 };
        let total = granted - tag + inline.len() as u16;
        let mut offload = Offload { checksum_valid, ..Offload::default() };
        if checksum && total >= 2 {
            offload.needs_checksum = true;
            offload.checksum_start = header + start % (total - 1);
            offload.checksum_offset = total - 2 - (offload.checksum_start - header);
            offload.gso_type = [0, 1, 4][usize::from(gso % 3)];
            offload.gso_size = if offload.gso_type == 0 { 0 } else { gso_size.max(1) };
        }
        // Types that cannot travel in an envelope have one of these upper halves.
        let ether_type = if matches!(ether_type >> 8, 0x81 | 0x88) { IPV4 } else { ether_type };
        Frame { head: FrameHead { ether_type, total, offload }, inline, segments }
    })
}

impl Frame {
    pub(super) fn push(&self, builder: &mut EnvelopeBuilder) -> Result<(), EnvelopeFull> {
        if self.segments.is_empty() {
            builder.push_inline(self.head, &self.inline)
        } else if self.inline.is_empty() {
            builder.push_granted(self.head, &self.segments)
        } else {
            builder.push_granted_with_headers(self.head, &self.inline, &self.segments)
        }
    }
}

fn envelope_parts() -> impl Strategy<Value = (Addresses, DeliverHead, Option<Done>, Vec<Frame>)> {
    (addresses(), deliver_head(), proptest::option::of(done())).prop_flat_map(
        |(addresses, head, done)| {
            let header = if addresses.tci.is_some() { 18 } else { 14 };
            let frames = vec_of(frame(header, head.tagged), 1..12);
            (Just(addresses), Just(head), Just(done), frames)
        },
    )
}

/// The frame as its receiver's stack sees it.
fn whole(addresses: Addresses, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let Addresses { destination, source, tci } = addresses;
    let mut bytes = vec![0; 18];
    let length = EthernetHeader { destination, source, tci, ether_type }.write(&mut bytes);
    bytes.truncate(length);
    bytes.extend(payload);
    bytes
}

proptest! {
    /// Built in the envelope or put into it, some of them given up: the same bytes. And each frame is
    /// whole where it lies, one after the other.
    #[test]
    fn frames_are_built_and_read_where_they_lie(
        (addresses, head, done) in (addresses(), deliver_head(), proptest::option::of(done())),
        payloads in vec_of((vec_of(any::<u8>(), 1..120), 0u8..4), 1..20),
        longer in vec_of(any::<u8>(), 1..120),
    ) {
        let mut put = EnvelopeBuilder::deliver(addresses, head, done);
        // In the place of another, longer one.
        let mut built = put.clone();
        let _ = built.push_inline(plain(IPV4, longer.len() as u16), &longer);
        built.deliver_next(addresses, head, done);
        let mut sent = Vec::new();
        for (payload, verdict) in &payloads {
            let kept = *verdict > 0;
            let frame = plain(IPV4, payload.len() as u16);
            let bytes = whole(addresses, IPV4, payload);
            let room = put.room_for(0, payload.len(), &Offload::default());
            prop_assert_eq!(built.has_room_in_place(bytes.len()), room);
            let became = built.build_inline(bytes.len(), |place| {
                place.copy_from_slice(&bytes);
                (kept.then_some(frame), place.len())
            });
            prop_assert_eq!(became, room.then_some(bytes.len()));
            if room && kept {
                put.push_inline(frame, payload).unwrap();
                sent.push(bytes);
            }
        }
        prop_assume!(!sent.is_empty());
        prop_assert_eq!(built.finish(), put.finish());

        let mut slot = [0xEE; MAX_ENVELOPE];
        let length = built.finish().len();
        slot[..length].copy_from_slice(built.finish());
        let copy = slot;
        let envelope = Envelope::parse(&copy[..length]).unwrap();
        let Body::Deliver(deliver) = &envelope.body else { panic!("not a deliver") };
        let mut frames = InPlace::of(&envelope.header, deliver).unwrap();
        for (index, bytes) in sent.iter().enumerate() {
            prop_assert_eq!(frames.left(), sent.len() - index);
            let place = frames.next(&mut slot).unwrap();
            prop_assert_eq!(&slot[place], &bytes[..]);
        }
        prop_assert_eq!((frames.left(), frames.next(&mut slot)), (0, None));
    }

    #[test]
    fn frames_arrive_as_they_were_sent((addresses, head, done, frames) in envelope_parts()) {
        let mut builder = EnvelopeBuilder::deliver(addresses, head, done);
        let mut sent = Vec::new();
        for frame in &frames {
            let room = builder.room_for(
                frame.segments.len(), frame.inline.len(), &frame.head.offload,
            );
            let before = builder.clone().finish().to_vec();
            prop_assert_eq!(frame.push(&mut builder).is_ok(), room);
            if room {
                sent.push(frame);
            } else {
                prop_assert_eq!(builder.clone().finish().to_vec(), before);
            }
        }
        prop_assert_eq!(builder.frames(), sent.len());
        prop_assume!(!sent.is_empty());
        let bytes = builder.finish().to_vec();
        prop_assert!((60..=MAX_ENVELOPE).contains(&bytes.len()));
        prop_assert!(is_envelope(&bytes));

        let envelope = Envelope::parse(&bytes).unwrap();
        prop_assert_eq!(envelope.header.destination, addresses.destination);
        prop_assert_eq!(envelope.header.source, addresses.source);
        prop_assert_eq!(envelope.header.tci, addresses.tci);
        let Body::Deliver(deliver) = envelope.body else { panic!("not a deliver") };
        prop_assert_eq!(deliver.head, head);
        prop_assert_eq!(deliver.done, done);
        prop_assert_eq!(deliver.frames.len(), sent.len());
        let plain = |frame: &&Frame| {
            frame.segments.is_empty() && frame.head.offload == Offload::default()
        };
        prop_assert_eq!(
            InPlace::of(&envelope.header, &deliver).is_some(), sent.iter().all(plain),
        );
        for (record, frame) in deliver.frames.clone().zip(sent) {
            prop_assert_eq!(record.head, frame.head);
            prop_assert_eq!(record.inline, &frame.inline[..]);
            prop_assert_eq!(record.segments.len(), frame.segments.len());
            prop_assert_eq!(record.segments.collect::<Vec<_>>(), frame.segments.clone());
            prop_assert_eq!(
                record.headers_inline, !frame.segments.is_empty() && !frame.inline.is_empty(),
            );
        }
    }

    #[test]
    fn a_done_arrives_as_it_was_sent(addresses in addresses(), epoch: u32, done in done()) {
        let mut builder = EnvelopeBuilder::done(addresses, epoch, done);
        let bytes = builder.finish();
        match Envelope::parse(bytes).unwrap().body {
            Body::Done { epoch: read, done: said } => prop_assert_eq!((read, said), (epoch, done)),
            body => panic!("{body:?}"),
        }
    }

    #[test]
    fn a_reset_arrives_as_it_was_sent(addresses in addresses(), epoch: u32) {
        let mut builder = EnvelopeBuilder::reset(addresses, epoch);
        match Envelope::parse(builder.finish()).unwrap().body {
            Body::Reset { epoch: read } => prop_assert_eq!(read, epoch),
            body => panic!("{body:?}"),
        }
    }
}

const HEAD: DeliverHead =
    DeliverHead { epoch: 1, sequence: 2, nonce: 3, tagged: false, want_done: false };

#[test]
fn what_is_within_the_inline_limit_always_fits() {
    let addresses = Addresses { tci: Some(10), ..UNTAGGED };
    let limit = EnvelopeBuilder::inline_limit();
    assert_eq!(limit, 174);
    let mut head = plain(IPV4, limit as u16);
    head.offload.needs_checksum = true;
    head.offload.checksum_start = 18;
    let mut builder = EnvelopeBuilder::deliver(addresses, HEAD, Some(DONE));
    builder.push_inline(head, &vec![7; limit]).unwrap();
    assert!(Envelope::parse(builder.finish()).is_ok());
    // To the last byte, and not one more.
    let rest = MAX_ENVELOPE - builder.finish().len() - 8;
    assert!(!builder.room_for(0, rest + 1, &Offload::default()));
    builder.push_inline(plain(IPV4, rest as u16), &vec![8; rest]).unwrap();
    assert_eq!(builder.finish().len(), MAX_ENVELOPE);
    assert!(Envelope::parse(builder.finish()).is_ok());
}

#[test]
fn a_frame_of_64_kib_fits_with_all_its_segments() {
    let mut segments = vec![segment(9, 0, 4096); MAX_SEGMENTS];
    segments[0] = segment(8, 4095, 1);
    segments[MAX_SEGMENTS - 1] = segment(10, 0, 4094);
    let mut builder =
        EnvelopeBuilder::deliver(Addresses { tci: Some(10), ..UNTAGGED }, HEAD, Some(DONE));
    builder.push_granted(plain(IPV4, 65535), &segments).unwrap();
    assert!(Envelope::parse(builder.finish()).is_ok());
    let too_many = vec![segment(9, 0, 1); MAX_SEGMENTS + 1];
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    assert_eq!(builder.push_granted(plain(IPV4, 18), &too_many), Err(EnvelopeFull));
}

#[test]
fn a_done_and_a_reset_take_no_frames_and_ask_for_nothing() {
    for mut builder in
        [EnvelopeBuilder::done(UNTAGGED, 1, DONE), EnvelopeBuilder::reset(UNTAGGED, 1)]
    {
        assert_eq!(builder.push_inline(plain(IPV4, 1), &[1]), Err(EnvelopeFull));
        builder.want_done();
        assert!(Envelope::parse(builder.finish()).is_ok());
    }
}

#[test]
fn a_done_can_be_asked_for_late() {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, None);
    builder.push_inline(plain(IPV4, 1), &[1]).unwrap();
    builder.finish();
    builder.want_done();
    let Body::Deliver(deliver) = Envelope::parse(builder.finish()).unwrap().body else { panic!() };
    assert!(deliver.head.want_done);
}

#[test]
fn nothing_of_an_envelope_is_left_in_the_next_one_that_is_built_in_its_place() {
    let mut builder = EnvelopeBuilder::deliver(UNTAGGED, HEAD, Some(DONE));
    builder.push_inline(plain(IPV4, 100), &[0xEE; 100]).unwrap();
    builder.want_done();
    builder.finish();
    let next = DeliverHead { sequence: 3, ..HEAD };
    builder.deliver_next(UNTAGGED, next, None);
    builder.push_inline(plain(IPV4, 3), &[1, 2, 3]).unwrap();
    let mut anew = EnvelopeBuilder::deliver(UNTAGGED, next, None);
    anew.push_inline(plain(IPV4, 3), &[1, 2, 3]).unwrap();
    assert_eq!(builder.finish(), anew.finish());
    assert_eq!(builder.finish().len(), 60, "padded");
}
