//! Who we are, what time it is.

use core::ops::Add;
use core::time::Duration;

use super::Sight;
use crate::DomId;

/// A point in time: nanoseconds since some start that is the same for all of one domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Later than any deadline.
    pub const FAR_FUTURE: Instant = Instant(u64::MAX);

    /// How long after `earlier` this is; zero if it is not.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, by: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The domain that we are.
pub trait Host {
    /// Our own domain id. It changes when the domain is resumed elsewhere.
    fn domid(&self) -> DomId;
    /// Grows on every resume: grants and ports of an earlier epoch are dead.
    fn epoch(&self) -> u64;
    /// The time now.
    fn now(&self) -> Instant;
    /// A number that no peer can guess: for nonces and hash seeds.
    fn random(&self) -> u64;
    /// Shows what a driver does, to whoever may want to see it. Nobody does, unless the host says
    /// otherwise: then nothing is left of the call, and `sight` is not asked for.
    #[inline]
    fn observe<'a>(&self, sight: impl FnOnce() -> Sight<'a>) {
        let _ = sight;
    }
}
