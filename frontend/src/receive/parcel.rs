//! Envelopes all of whose frames came inside them, until the stack has read these.
//!
//! Most small frames come so. They stay in our copy of the slot, and each is made whole where it
//! lies when the stack asks for it: it is copied out of the slot and not once more.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use xenvelope_grant::seam::{Direction, Hypervisor, NicPort, Offload, Sight, Travel};
use xenvelope_switch::channel::Slot;
use xenvelope_switch::envelope::InPlace;

use super::Received;
use crate::interface::Frontend;

/// How many there are: as many envelopes as are taken from one path in a turn.
const PARCELS: usize = 64;

/// Frames that are unpacked at once for a stack that takes several.
const TOGETHER: usize = 64;

/// A private copy of an envelope, and its frames.
#[derive(Default)]
pub(crate) struct Parcel {
    slot: Slot,
    whole: Option<Whole>,
}

/// The frames of an envelope that came whole.
pub(crate) struct Whole {
    pub frames: InPlace,
    /// How they came.
    pub travel: Travel,
}

impl Parcel {
    /// Where an envelope is copied to.
    pub(super) fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    /// How many frames the stack has not read.
    pub(super) fn left(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.frames.left())
    }

    /// The next frame, Ethernet header included. The one before it is no longer there.
    #[inline]
    pub(super) fn next<H: Hypervisor>(&mut self, host: &H) -> Option<&[u8]> {
        let frame = self.make_next(host)?;
        self.slot.0.get(frame)
    }

    #[inline]
    fn make_next<H: Hypervisor>(&mut self, host: &H) -> Option<Range<usize>> {
        let whole = self.whole.as_mut()?;
        let frame = whole.frames.next(&mut self.slot.0)?;
        host.observe(|| Sight::Frame {
            direction: Direction::In,
            travel: whole.travel,
            bytes: self.slot.0.get(frame.clone()).unwrap_or_default(),
        });
        Some(frame)
    }
}

/// Those that nothing is in. The one that was used last is used next: it is in the cache.
#[expect(clippy::vec_box, reason = "they go into the inbox and come back, and are not moved")]
pub(crate) struct Parcels(Vec<Box<Parcel>>);

impl Default for Parcels {
    fn default() -> Self {
        Parcels((0..PARCELS).map(|_| Box::default()).collect())
    }
}

impl Parcels {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of its frames have been read, or will not be.
    #[inline]
    pub(super) fn give_back(&mut self, parcel: Box<Parcel>) {
        if self.0.len() < PARCELS {
            self.0.push(parcel);
        }
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Keeps the envelope in `parcel`, if that is where its frames are to be read. Another takes
    /// its place.
    #[inline]
    pub(super) fn keep_whole(&mut self, whole: Option<Whole>, parcel: &mut Box<Parcel>) {
        let Some(whole) = whole else { return };
        let travel = whole.travel;
        // There was one when it was decided to keep the envelope.
        let Some(spare) = self.parcels.0.pop() else { return };
        let mut kept = core::mem::replace(parcel, spare);
        kept.whole = Some(whole);
        self.arrive(Received::Parcel(kept), travel);
    }

    /// Sees to it that the oldest that wait for the stack are frames: some can be looked at
    /// together. Not all, since each takes memory of its own then.
    pub(crate) fn unpack(&mut self) {
        let mut unpacked = 0;
        while unpacked < TOGETHER
            && let Some(Received::Parcel(_)) = self.inbox.front()
            && let Some(Received::Parcel(mut parcel)) = self.inbox.pop_front()
        {
            while parcel.left() > 0 {
                if let Some(frame) = self.unpack_one(&mut parcel) {
                    self.inbox.push_back(frame);
                    unpacked += 1;
                }
            }
            self.parcels.give_back(parcel);
        }
        // They were put behind all others, and are the oldest.
        self.inbox.rotate_right(unpacked);
    }

    /// A copy of the next frame.
    fn unpack_one(&mut self, parcel: &mut Parcel) -> Option<Received<H::Buf>> {
        let frame = parcel.make_next(&self.host)?;
        let bytes = parcel.slot.0.get(frame)?;
        match self.stored(&[], bytes, Offload::default()) {
            Ok(frame) => Some(frame),
            Err(reason) => {
                self.drop_one(reason);
                None
            }
        }
    }
}
