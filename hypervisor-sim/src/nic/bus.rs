//! The I/O bus between memory and card: one for all ports, full duplex as PCIe is.

use xenvelope_grant::seam::Instant;

/// One direction. It carries one transfer after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    /// How long a byte takes, in picoseconds. Zero: no limit.
    picoseconds_per_byte: f64,
    /// When the transfers given to it so far will be over, in picoseconds. Picoseconds because a
    /// descriptor takes hardly more than a nanosecond, and rounding each up would be seen.
    free: u128,
}

impl Lane {
    /// Carries `bytes` as soon as possible, but not before `ready`, and stalls for `stall_ns`
    /// nanoseconds (translations that the IOTLB did not know). Says when they have arrived.
    pub(super) fn reserve(&mut self, ready: Instant, bytes: usize, stall_ns: u64) -> Instant {
        let duration = (bytes as f64 * self.picoseconds_per_byte).ceil() as u128;
        let start = self.free.max(u128::from(ready.0) * 1000);
        self.free = start + duration + u128::from(stall_ns) * 1000;
        self.free_at()
    }

    /// When it is free again: the first whole nanosecond.
    pub(super) fn free_at(&self) -> Instant {
        Instant(u64::try_from(self.free.div_ceil(1000)).unwrap_or(u64::MAX))
    }
}

/// Both directions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bus {
    /// From memory to the card: what is sent, and descriptors.
    pub(super) read: Lane,
    /// From the card to memory: what is received, and write-backs.
    pub(super) write: Lane,
}

impl Bus {
    /// A bus of `gbit` Gbit/s in each direction; `None` carries everything at once.
    pub(super) fn new(gbit: Option<f64>) -> Bus {
        let lane = Lane { picoseconds_per_byte: gbit.map_or(0.0, |gbit| 8000.0 / gbit), free: 0 };
        Bus { read: lane, write: lane }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_queue_up_and_the_directions_do_not_meet() {
        let mut bus = Bus::new(Some(8.0));
        assert_eq!(bus.read.reserve(Instant(100), 50, 0), Instant(150));
        assert_eq!(bus.read.reserve(Instant(100), 50, 7), Instant(207));
        assert_eq!(bus.write.reserve(Instant(100), 1, 0), Instant(101));
    }

    #[test]
    fn no_limit_is_only_stalls() {
        let mut bus = Bus::new(None);
        assert_eq!(bus.read.reserve(Instant(3), 1 << 30, 0), Instant(3));
        assert_eq!(bus.read.reserve(Instant(3), 1, 20), Instant(23));
    }

    #[test]
    fn fractions_of_a_nanosecond_add_up() {
        let mut bus = Bus::new(Some(100.0));
        for _ in 0..1000 {
            bus.read.reserve(Instant(0), 16, 0);
        }
        assert_eq!(bus.read.free_at(), Instant(1280));
    }
}
