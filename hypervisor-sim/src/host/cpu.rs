//! Processor time by domain: each runs in a thread of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Host;

/// Processor time of a host's threads; or, subtracted, between two moments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// Of the guests, by name: frontend, stack, and what runs on it.
    pub guests: BTreeMap<String, Duration>,
    /// Of the driver domain.
    pub driver_domain: Duration,
    /// Of the peer outside: no processor of the host.
    pub external: Duration,
    /// Of the thread that simulates the card: no processor of a host.
    pub card: Duration,
}

impl CpuTimes {
    /// What was used since `earlier`.
    pub fn since(&self, earlier: &CpuTimes) -> CpuTimes {
        let before = |name: &String| earlier.guests.get(name).copied().unwrap_or_default();
        let guests = self.guests.iter();
        CpuTimes {
            guests: guests
                .map(|(name, time)| (name.clone(), time.saturating_sub(before(name))))
                .collect(),
            driver_domain: self.driver_domain.saturating_sub(earlier.driver_domain),
            external: self.external.saturating_sub(earlier.external),
            card: self.card.saturating_sub(earlier.card),
        }
    }

    /// Of all domains together, without the card and without the peer outside.
    pub fn domains(&self) -> Duration {
        self.guests.values().sum::<Duration>() + self.driver_domain
    }
}

impl Host {
    /// Processor time that each thread has used so far. Asking costs them nothing.
    pub fn cpu(&self) -> CpuTimes {
        let guests = self.guests.iter();
        CpuTimes {
            guests: guests.map(|guest| (guest.name.clone(), guest.worker.cpu())).collect(),
            driver_domain: self.driver_domain.worker.cpu(),
            external: self.external.worker.cpu(),
            card: self.hardware.cpu(),
        }
    }
}
