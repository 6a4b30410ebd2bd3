//! A frame as the descriptors of a transmit ring tell it.

use std::collections::VecDeque;

use xenvelope_grant::seam::Offload;

use super::config::MAX_WHOLE;
use super::counters::DropReason;
use super::descriptor::{CONTEXT, Descriptor, END, MAX_DESCRIPTORS, MAX_PIECE};
use super::packet::HEADER_BYTES;
use super::segment;

/// A frame as its descriptors tell it.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) descriptors: usize,
    pub(super) length: usize,
    /// Whether the first is a context descriptor.
    context: bool,
    pub(super) offload: Offload,
    /// Whether the descriptors make sense.
    good: bool,
}

impl Described {
    /// The frame at the start of the descriptors; `None` if its end is not among them.
    pub(super) fn parse(descriptors: &VecDeque<Descriptor>) -> Option<Described> {
        let mut frame = Described {
            descriptors: 0,
            length: 0,
            context: false,
            offload: Offload::default(),
            good: true,
        };
        for descriptor in descriptors.iter().take(MAX_DESCRIPTORS) {
            let flags = descriptor.flags();
            if flags & CONTEXT != 0 {
                frame.good &= frame.descriptors == 0;
                frame.context = true;
                frame.offload = descriptor.requested();
            } else {
                frame.good &= descriptor.length() <= MAX_PIECE;
                frame.length = frame.length.saturating_add(descriptor.length());
            }
            frame.descriptors += 1;
            if flags & (END | CONTEXT) == END {
                return Some(frame);
            }
        }
        // That many descriptors and no end: the driver has lost its way.
        frame.good = false;
        (frame.descriptors == MAX_DESCRIPTORS).then_some(frame)
    }

    /// Whether the card is to cut it.
    pub(super) fn is_cut(&self) -> bool {
        segment::is_asked(&self.offload)
    }

    /// How many of its descriptors are written back.
    pub(super) fn written_back(&self) -> usize {
        self.descriptors - usize::from(self.context)
    }

    /// Why it cannot even be fetched, if so.
    pub(super) fn fault(&self, max_frame: usize) -> Option<DropReason> {
        let longest = if self.is_cut() { MAX_WHOLE } else { max_frame };
        // 0 none, 1 TCP over IPv4, 4 TCP over IPv6.
        if !self.good || self.length < HEADER_BYTES || ![0, 1, 4].contains(&self.offload.gso_type) {
            Some(DropReason::Malformed)
        } else if self.length > longest {
            Some(DropReason::TooLong)
        } else {
            None
        }
    }
}
