//! Where in the shared pages the indices and the slots are.

use core::mem::size_of;

use crate::PAGE_SIZE;

/// The layout of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingLayout {
    /// How many slots: a power of two.
    pub slots: u32,
    /// Bytes from slot to slot: a multiple of 4.
    pub stride: usize,
    /// Where the first slot is.
    pub slots_at: usize,
    /// Where the front publishes its request index.
    pub req_prod: usize,
    /// Where the back says at which request index it wants an event.
    pub req_event: usize,
    /// Where the back publishes its response index.
    pub rsp_prod: usize,
    /// Where the front says at which response index it wants an event.
    pub rsp_event: usize,
}

impl RingLayout {
    /// The layout of `DEFINE_RING_TYPES` in one page: four indices, 64 bytes of header, and the
    /// largest power of two of slots that fits.
    pub const fn one_page<Req, Rsp>() -> RingLayout {
        let stride =
            if size_of::<Req>() > size_of::<Rsp>() { size_of::<Req>() } else { size_of::<Rsp>() };
        let fit = (PAGE_SIZE - 64) / stride;
        RingLayout {
            slots: 1 << fit.ilog2(),
            stride,
            slots_at: 64,
            req_prod: 0,
            req_event: 4,
            rsp_prod: 8,
            rsp_event: 12,
        }
    }

    /// The layout of an envelope ring over `pages` pages: the same indices, but what each side
    /// writes has cache lines of its own, so that each line has one writer. The first page is
    /// the header, the others are slots.
    pub const fn own_lines<Req>(pages: usize) -> RingLayout {
        let stride = size_of::<Req>();
        let fit = (pages - 1) * PAGE_SIZE / stride;
        RingLayout {
            slots: 1 << fit.ilog2(),
            stride,
            slots_at: PAGE_SIZE,
            req_prod: 0,
            rsp_event: 4,
            rsp_prod: 128,
            req_event: 132,
        }
    }

    /// Bytes of shared memory that the ring takes.
    pub const fn size(&self) -> usize {
        self.slots_at + self.slots as usize * self.stride
    }

    /// Where the slot of an index is.
    pub(super) const fn slot(&self, index: u32) -> usize {
        self.slots_at + (index & (self.slots - 1)) as usize * self.stride
    }
}
