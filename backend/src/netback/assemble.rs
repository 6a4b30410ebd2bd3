//! A guest's transmit requests, taken apart into frames.

use arrayvec::ArrayVec;
use thiserror::Error;
use xenvelope_grant::netif::{
    EXTRA_MORE, EXTRA_TYPE_GSO, ExtraInfo, FATAL_SLOTS, NR_SLOTS_MIN, TxFlags, TxRequest,
    TxResponse, gso_to_virtio,
};
use xenvelope_grant::ring::{Back, RingError};
use xenvelope_grant::seam::Offload;
use xenvelope_grant::{Gref, PAGE_SIZE, Words};

/// The guest broke netif: its interface is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NetbackError {
    /// The ring's index runs ahead.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A chain of slots that goes beyond what was published.
    #[error("a frame's slots are not all there")]
    CutShort,
    /// More slots than any frame needs.
    #[error("a frame of {0} slots or more")]
    TooManySlots(usize),
    /// An extra info that nobody knows.
    #[error("unknown extra info {0}")]
    UnknownExtra(u8),
    /// GSO without a size or of an unknown kind.
    #[error("GSO of kind {kind} with segments of {size} bytes")]
    BadGso {
        /// `XEN_NETIF_GSO_TYPE_*`.
        kind: u8,
        /// Bytes of payload in each segment.
        size: u16,
    },
    /// A fragment that leaves its page.
    #[error("a fragment leaves its page: offset {offset}, {size} bytes")]
    CrossesPage {
        /// Where it begins.
        offset: u16,
        /// How long it is.
        size: u16,
    },
}

/// A piece of a frame in a page of the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The grant.
    pub gref: Gref,
    /// Where in the page.
    pub offset: u16,
    /// How long: 1 to 4096.
    pub len: u16,
}

/// A frame, or what was one: its slots must be answered in either case.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Its pieces. None if the frame is refused.
    pub fragments: ArrayVec<Fragment, NR_SLOTS_MIN>,
    /// Bytes of the whole frame.
    pub total: u16,
    /// Checksum and segmentation state.
    pub offload: Offload,
    /// The ids of its slots, in order.
    pub ids: ArrayVec<u16, FATAL_SLOTS>,
    /// Slots that were extra infos; they follow the first.
    pub extras: usize,
    /// Whether it is refused: an error answer and no more.
    pub refused: bool,
}

/// Takes the next frame's requests from the ring. `waiting` is how many there are, at least 1.
///
/// What would break a page or the chain is an error and ends the interface, as in Linux'
/// netback; what is merely no frame (too short, too long, an empty piece: XSA-448) is refused.
pub fn assemble<W: Words>(
    ring: &mut Back<W, TxRequest, TxResponse>,
    waiting: u32,
) -> Result<Assembled, NetbackError> {
    let mut left = waiting;
    let mut next = |ring: &mut Back<W, TxRequest, TxResponse>| {
        left = left.checked_sub(1).ok_or(NetbackError::CutShort)?;
        Ok::<_, NetbackError>(ring.pop())
    };
    let first = next(ring)?;
    let flags = TxFlags::from_bits_retain(first.flags);
    let mut frame = Assembled {
        fragments: ArrayVec::new(),
        total: first.size,
        offload: Offload {
            needs_checksum: flags.contains(TxFlags::CSUM_BLANK),
            checksum_valid: flags.contains(TxFlags::DATA_VALIDATED),
            ..Offload::default()
        },
        ids: ArrayVec::new(),
        extras: 0,
        refused: (first.size as usize) < MIN_FRAME,
    };
    frame.ids.push(first.id);
    let mut more_extras = flags.contains(TxFlags::EXTRA_INFO);
    while more_extras {
        let extra = ExtraInfo::from_tx(&next(ring)?);
        frame.extras += 1;
        if frame.extras > MAX_EXTRAS {
            return Err(NetbackError::TooManySlots(frame.extras));
        }
        if extra.kind != EXTRA_TYPE_GSO {
            return Err(NetbackError::UnknownExtra(extra.kind));
        }
        let (kind, size) = (extra.gso_type, extra.gso_size);
        frame.offload.gso_type = gso_to_virtio(kind).unwrap_or(0);
        frame.offload.gso_size = size;
        if size == 0 || frame.offload.gso_type == 0 {
            return Err(NetbackError::BadGso { kind, size });
        }
        more_extras = extra.flags & EXTRA_MORE != 0;
    }
    // The first slot says the size of the whole; its own part is what the others leave.
    let mut rest: ArrayVec<Fragment, FATAL_SLOTS> = ArrayVec::new();
    let mut others = 0usize;
    let mut more = flags.contains(TxFlags::MORE_DATA);
    while more {
        let slot = next(ring)?;
        let TxRequest { offset, size, .. } = slot;
        if offset as usize + size as usize > PAGE_SIZE {
            return Err(NetbackError::CrossesPage { offset, size });
        }
        frame.refused |= size == 0;
        others += size as usize;
        let full = NetbackError::TooManySlots(FATAL_SLOTS);
        frame.ids.try_push(slot.id).map_err(|_| full)?;
        rest.try_push(Fragment { gref: Gref(slot.gref), offset, len: size }).map_err(|_| full)?;
        more = TxFlags::from_bits_retain(slot.flags).contains(TxFlags::MORE_DATA);
    }
    let own = (first.size as usize).checked_sub(others).filter(|own| *own > 0);
    let Some(own) = own else {
        frame.refused = true;
        return Ok(frame);
    };
    if first.offset as usize + own > PAGE_SIZE {
        // `own` is at most `first.size`.
        return Err(NetbackError::CrossesPage { offset: first.offset, size: own as u16 });
    }
    frame.refused |= rest.len() + 1 > NR_SLOTS_MIN;
    if !frame.refused {
        let first = Fragment { gref: Gref(first.gref), offset: first.offset, len: own as u16 };
        frame.fragments.push(first);
        frame.fragments.extend(rest);
    }
    Ok(frame)
}

/// Bytes of an Ethernet header: nothing shorter is a frame (netback drops it too).
const MIN_FRAME: usize = 14;
/// Extra infos that one frame may have: netback takes one of each type.
const MAX_EXTRAS: usize = 4;
