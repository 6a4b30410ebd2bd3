//! Rings that a backend before us left in the middle of answering.
//!
//! A response takes its request's place in the ring before it is published. A process that is
//! killed in between leaves slots that are requests by the indices and responses by their bytes:
//! a transmit slot's grant reference then reads as its id, and a receive slot's as flags and
//! length, or as a GSO kind: 1, which is the reference of the guest's xenstore page, that we may
//! write. Nothing may be copied by such a reference. Answers are written in ring order, so these
//! slots are the first ones; they are answered again, with an error, without a look at more than
//! ids and flags, which an answer leaves as they were.
//!
//! An honest request that looks like that costs its guest one frame, at a restart.

use xenvelope_grant::netif::{
    EXTRA_MORE, ExtraInfo, FATAL_SLOTS, RSP_ERROR, RSP_NULL, RX_RING_SLOTS, RxFlags, RxRequest,
    RxResponse, TxFlags, TxRequest, TxResponse,
};
use xenvelope_grant::ring::Back;
use xenvelope_grant::{PAGE_SIZE, Words};

use super::NetbackError;

/// References below this are the toolstack's (`GNTTAB_NR_RESERVED_ENTRIES`): console, xenstore.
const RESERVED: u32 = 8;

/// Refuses the frames that were being answered on a transmit ring. How many.
pub fn salvage_tx<W: Words>(
    ring: &mut Back<W, TxRequest, TxResponse>,
) -> Result<u64, NetbackError> {
    let mut frames = 0;
    let mut left = ring.pending()?;
    while left > 0 && was_answered_tx(&ring.peek()) {
        let mut slots = 0;
        let mut next = |ring: &mut Back<W, TxRequest, TxResponse>| {
            left = left.checked_sub(1).ok_or(NetbackError::CutShort)?;
            slots += 1;
            if slots > 2 * FATAL_SLOTS {
                return Err(NetbackError::TooManySlots(slots));
            }
            Ok(ring.pop())
        };
        let first = next(ring)?;
        // Each response goes where an earlier request of this frame was.
        let _ = ring.push(&TxResponse { id: first.id, status: RSP_ERROR });
        let flags = TxFlags::from_bits_retain(first.flags);
        let mut extras = flags.contains(TxFlags::EXTRA_INFO);
        while extras {
            // One that was answered bears no flag any more: it was the last, or netif has got
            // extra infos that nobody here knows.
            let info = ExtraInfo::from_tx(&next(ring)?);
            extras = info.flags & EXTRA_MORE != 0;
            let _ = ring.push(&TxResponse { id: 0, status: RSP_NULL });
        }
        let mut more = flags.contains(TxFlags::MORE_DATA);
        while more {
            let slot = next(ring)?;
            more = TxFlags::from_bits_retain(slot.flags).contains(TxFlags::MORE_DATA);
            let _ = ring.push(&TxResponse { id: slot.id, status: RSP_ERROR });
        }
        frames += 1;
    }
    Ok(frames)
}

/// Gives back, with an error, the receive buffers that were being answered. How many.
pub fn salvage_rx<W: Words>(
    ring: &mut Back<W, RxRequest, RxResponse>,
) -> Result<u64, NetbackError> {
    let mut slots = 0;
    for _ in 0..ring.pending()? {
        if !was_answered_rx(&ring.peek()) {
            break;
        }
        let (index, slot) = (ring.next_index(), ring.pop());
        // An extra info has no id; most frontends number their buffers by ring index.
        let numbered = (index % RX_RING_SLOTS) as u16;
        let id = if slot.gref < RESERVED { numbered } else { slot.id };
        let _ = ring.push(&RxResponse { id, offset: 0, flags: 0, status: RSP_ERROR });
        slots += 1;
    }
    Ok(slots)
}

/// The reference's bytes are an answer's: the id, and a status.
fn was_answered_tx(slot: &TxRequest) -> bool {
    let (id, status) = (slot.gref as u16, (slot.gref >> 16) as u16 as i16);
    (id == slot.id && (status == 0 || status == RSP_ERROR)) || slot.gref < RESERVED
}

/// The reference's bytes are flags and a length or an error; or a GSO kind, a small number. Linux
/// has no references as large as the former: 65,536 take a grant table of twice Xen's default
/// size.
fn was_answered_rx(slot: &RxRequest) -> bool {
    let (flags, status) = (slot.gref as u16, (slot.gref >> 16) as u16 as i16);
    let length = (1..=PAGE_SIZE as i16).contains(&status) || status == RSP_ERROR;
    let fragment = slot.pad == 0 && RxFlags::from_bits(flags).is_some() && length;
    fragment || slot.gref < RESERVED
}

#[cfg(test)]
mod tests;
