//! The ring of the models: two slots of a few 32-bit words, which loom can tear.

use std::sync::Arc;

use xenvelope_grant::ring::{Back, Front, RingLayout};

use crate::loom_words::{LoomMemory, LoomWords, Weakness};

/// A slot.
pub type Slot<const N: usize = 2> = [u32; N];
/// The front.
pub type LoomFront<const N: usize = 2> = Front<LoomWords, Slot<N>, Slot<N>>;
/// The back.
pub type LoomBack<const N: usize = 2> = Back<LoomWords, Slot<N>, Slot<N>>;

/// Where the words of a ring with slots of two words are. Where the indices are does not depend
/// on the slots.
pub const LAYOUT: RingLayout = layout::<2>();

const fn layout<const N: usize>() -> RingLayout {
    RingLayout {
        slots: 2,
        stride: size_of::<Slot<N>>(),
        slots_at: 16,
        req_prod: 0,
        req_event: 4,
        rsp_prod: 8,
        rsp_event: 12,
    }
}

/// Zeroed memory for a ring.
pub fn ring_memory<const N: usize>() -> Arc<LoomMemory> {
    LoomMemory::new().with_u32(0..layout::<N>().size()).share()
}

/// Both sides of a new ring, each of which may lack something. Its indices begin at `start`.
pub fn ring<const N: usize>(
    start: u32,
    front: Weakness,
    back: Weakness,
) -> (LoomFront<N>, LoomBack<N>) {
    let (memory, layout) = (ring_memory::<N>(), layout::<N>());
    let front = Front::starting_at(LoomWords::weakened(&memory, front), layout, start);
    (front, Back::attach(LoomWords::weakened(&memory, back), layout))
}
