//! A frame, put into the receive buffers that a guest has posted.

use std::ops::Range;

use arrayvec::ArrayVec;
use xenvelope_grant::netif::{
    EXTRA_TYPE_GSO, ExtraInfo, NR_SLOTS_MIN, RSP_ERROR, RxFlags, RxRequest, RxResponse,
    gso_from_virtio,
};
use xenvelope_grant::ring::Back;
use xenvelope_grant::seam::{CopyOp, End, Offload};
use xenvelope_grant::{DomId, Gref, PAGE_SIZE, Words};

/// A piece of a frame, wherever it is: a frame is a list of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Where it begins. A local piece lies within one page, as a foreign one does.
    pub end: End,
    /// How long it is.
    pub len: usize,
}

/// A frame that is being copied into a guest's buffers.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The slots that it takes, in order, and the bytes that go into each.
    slots: ArrayVec<(u16, u16), SLOTS>,
    /// Its copy operations in the batch.
    pub ops: Range<usize>,
    offload: Offload,
}

/// Slots of the longest frame, and one for an extra info.
pub const SLOTS: usize = NR_SLOTS_MIN + 1;

/// Slots that a frame takes in a receive ring. More than [`SLOTS`] and nobody takes it.
pub fn slots_for(total: usize, offload: &Offload) -> usize {
    total.div_ceil(PAGE_SIZE) + usize::from(offload.gso_size > 0)
}

/// Takes buffers for a frame of `total` bytes, if the guest has posted enough, and adds the
/// copies to `ops`. The pieces of `sources` add up to `total`.
pub fn plan<W: Words>(
    ring: &mut Back<W, RxRequest, RxResponse>,
    guest: DomId,
    sources: &[Source],
    total: usize,
    offload: Offload,
    ops: &mut Vec<CopyOp>,
) -> Option<Delivery> {
    let data = total.div_ceil(PAGE_SIZE);
    let extra = usize::from(offload.gso_size > 0);
    let available = ring.pending().ok()? as usize;
    if data + extra > SLOTS || available < data + extra {
        return None;
    }
    let first_op = ops.len();
    let mut slots = ArrayVec::new();
    let mut sources = sources.iter().copied();
    let mut source = sources.next()?;
    let mut left = total;
    for index in 0..data {
        let request = ring.pop();
        let here = left.min(PAGE_SIZE);
        let mut filled = 0;
        while filled < here {
            if source.len == 0 {
                source = sources.next()?;
                continue;
            }
            let piece = source.len.min(here - filled);
            let gref = Gref(request.gref);
            // Both are at most PAGE_SIZE.
            let dst = End::Foreign { dom: guest, gref, offset: filled as u16 };
            ops.push(CopyOp::new(source.end, dst, piece as u16));
            source.end = advance(source.end, piece);
            source.len -= piece;
            filled += piece;
        }
        left -= here;
        slots.push((request.id, here as u16));
        if index == 0 && extra > 0 {
            // The extra info comes right after the first piece; its buffer stays empty.
            slots.push((ring.pop().id, 0));
        }
    }
    Some(Delivery { slots, ops: first_op..ops.len(), offload })
}

fn advance(end: End, by: usize) -> End {
    match end {
        End::Local { buffer, offset } => End::Local { buffer, offset: offset + by as u32 },
        End::Foreign { dom, gref, offset } => {
            End::Foreign { dom, gref, offset: offset.wrapping_add(by as u16) }
        }
        End::Keyed { dom, gref, offset, key } => {
            End::Keyed { dom, gref, offset: offset.wrapping_add(by as u16), key }
        }
    }
}

/// Answers the slots of a frame, in the order in which they were taken.
pub fn respond<W: Words>(
    ring: &mut Back<W, RxRequest, RxResponse>,
    delivery: &Delivery,
    copied: bool,
) {
    let extra = delivery.offload.gso_size > 0;
    let last = delivery.slots.len() - 1;
    for (index, (id, len)) in delivery.slots.iter().enumerate() {
        if extra && index == 1 {
            let info = ExtraInfo {
                kind: EXTRA_TYPE_GSO,
                gso_size: delivery.offload.gso_size,
                gso_type: gso_from_virtio(delivery.offload.gso_type).unwrap_or_default(),
                ..ExtraInfo::default()
            };
            let _ = ring.push(&info.to_rx());
            continue;
        }
        let mut flags = RxFlags::empty();
        // The extra info is not a piece: a frame of one piece has no more data.
        flags.set(RxFlags::MORE_DATA, index < last && !(extra && last == 1));
        if index == 0 {
            flags.set(RxFlags::CSUM_BLANK, delivery.offload.needs_checksum);
            let valid = delivery.offload.needs_checksum || delivery.offload.checksum_valid;
            flags.set(RxFlags::DATA_VALIDATED, valid);
            flags.set(RxFlags::EXTRA_INFO, extra);
        }
        let status = if copied { *len as i16 } else { RSP_ERROR };
        let response = RxResponse { id: *id, offset: 0, flags: flags.bits(), status };
        let _ = ring.push(&response);
    }
}
