//! What the operations of a host cost in time.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// The time that operations take which the simulator itself does not perform: entering the
/// hypervisor, sending an interrupt to another processor, the card's own work. It is spent as a
/// busy wait, since on a host it is spent by the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Costs {
    /// Into the hypervisor and back, in nanoseconds.
    pub hypercall_ns: u64,
    /// Sending an event to another domain, hypercall included, in nanoseconds.
    pub event_ns: u64,
    /// A miss in the I/O MMU's translation cache, in nanoseconds.
    pub iommu_miss_ns: u64,
    /// Through the card and back over the I/O bus, in nanoseconds.
    pub nic_latency_ns: u64,
}

impl Costs {
    /// Published measurements.
    ///
    /// Hypercall: 1,228 cycles at 2.1 GHz; event: 5,562 cycles, a virtual interrupt to another
    /// virtual processor, which stands for an event to another domain; both from Dall, Li, Lim,
    /// Nieh, Koloventzos, "ARM Virtualization: Performance and Architectural Implications", ISCA
    /// 2016, Table II, Xen on x86. I/O MMU miss and the card's latency: Neugebauer et al.,
    /// "Understanding PCIe performance for end host networking", SIGCOMM 2018.
    pub const fn published() -> Costs {
        Costs { hypercall_ns: 585, event_ns: 2649, iommu_miss_ns: 330, nic_latency_ns: 900 }
    }

    /// Everything for free: for tests, and to see what the code itself costs.
    pub const fn ideal() -> Costs {
        Costs { hypercall_ns: 0, event_ns: 0, iommu_miss_ns: 0, nic_latency_ns: 0 }
    }
}

/// Keeps the processor busy for `ns` nanoseconds.
pub fn spin_ns(ns: u64) {
    if ns == 0 {
        return;
    }
    let start = Instant::now();
    let span = Duration::from_nanos(ns);
    while start.elapsed() < span {
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_takes_at_least_the_time_asked_for() {
        let start = Instant::now();
        spin_ns(200_000);
        assert!(start.elapsed() >= Duration::from_micros(200));
    }
}
