//! Looking at the rings for a while before a sleep.
//!
//! An event costs its sender a hypercall and its receiver a wake-up, each as much as many looks at
//! a ring. Who does not ask for one as long as something is likely to come soon spares both sides
//! theirs. For how long that is worth it follows what waits have been lately, as KVM's halt polling
//! does (`grow_halt_poll_ns`, `virt/kvm/kvm_main.c`): a wait that was short enough to have been
//! looked through makes the next look longer, one that was not ends the looking.

use core::time::Duration;

use xenvelope_grant::seam::{Hypervisor, Instant, NicPort};

use crate::interface::Frontend;

/// The first look that is not nothing, in nanoseconds.
const FIRST: u64 = 10_000;

/// For how long to look before the next sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Polling {
    /// At most, in nanoseconds.
    most: u64,
    /// Now, in nanoseconds.
    look: u64,
}

impl Polling {
    /// Looks of at most so long.
    pub fn at_most(most: Duration) -> Polling {
        Polling { most: u64::try_from(most.as_nanos()).unwrap_or(u64::MAX), look: 0 }
    }

    fn is_on(self) -> bool {
        self.most > 0
    }

    /// Something came after so many nanoseconds, or the time was over.
    fn learn(&mut self, took: u64) {
        if took > self.most {
            self.look = 0;
        } else if took > self.look {
            self.look = self.look.saturating_mul(2).max(FIRST).min(self.most);
        }
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// For how long at most [`Frontend::wait`] looks at the rings before it sleeps, as long as
    /// waits are that short. Nothing, as at first: it sleeps at once. An interface with a VF
    /// always does.
    ///
    /// The processor is busy meanwhile: this is for a guest whose processor has nothing else to
    /// do.
    pub fn poll_before_sleep(&mut self, most: Duration) {
        self.polling = Polling::at_most(most);
    }

    /// Sleeps until something comes, or until `until`. Returns at once if something is there.
    pub fn wait(&mut self, until: Instant) {
        if !self.polling.is_on() || self.vf.is_some() {
            return self.sleep(until);
        }
        let begun = self.host.now();
        let end = until.min(begun + Duration::from_nanos(self.polling.look));
        let mut now = begun;
        let mut came = self.has_come();
        while !came && now < end {
            core::hint::spin_loop();
            now = self.host.now();
            came = self.has_come();
        }
        if !came {
            self.sleep(until);
            now = self.host.now();
        }
        self.polling.learn(now.0.saturating_sub(begun.0));
    }

    /// Whether a ring has something, without asking for an event. One that is broken has: the next
    /// poll closes it.
    fn has_come(&self) -> bool {
        let from_driver = self.driver.as_ref().is_some_and(|driver| {
            let frames = [Some(&driver.receive), driver.nic_queue.as_ref()];
            let mut frames = frames.into_iter().flatten();
            frames.any(|ring| ring.published().map_or(true, |end| end != ring.next_index()))
                || driver.envelopes.as_ref().is_some_and(|e| e.pending().map_or(true, |n| n > 0))
        });
        let channels = self.direct.iter().filter_map(|direct| direct.channel.as_ref());
        from_driver || { channels }.any(|channel| channel.pending().map_or(true, |count| count > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_grow_while_waits_are_short_and_end_with_a_long_one() {
        let mut polling = Polling::at_most(Duration::from_micros(50));
        assert_eq!(polling.look, 0, "nothing is known yet");
        let mut looks = [0; 5];
        for look in &mut looks {
            polling.learn(45_000);
            *look = polling.look;
        }
        assert_eq!(looks, [10_000, 20_000, 40_000, 50_000, 50_000]);
        polling.learn(5_000);
        assert_eq!(polling.look, 50_000, "it was long enough");
        polling.learn(50_001);
        assert_eq!(polling.look, 0);
    }
}
