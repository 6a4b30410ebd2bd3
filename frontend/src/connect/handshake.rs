//! The states of both sides, and what is to be said next. No store and no rings here: what was
//! read goes in, what is to be done comes out.
//!
//! **Beginning anew.** A device may have had another owner in this guest: an agent that was
//! killed, the kernel's netfront. Its rings are gone, and its backend may still use them. A
//! backend starts from the beginning when its frontend went through Closing and Closed and is
//! Initialising again (Linux, `drivers/net/xen-netback/xenbus.c`, `frontend_changed` and
//! `set_backend_state`); each of these is said when the backend has followed to the one before.
//! The same way is gone when a connection has ended, after a rest that doubles with each failure.
//!
//! **Patience.** A backend that is slow is waited for. One that was restarted may have missed
//! what was said, so it is said again, and in the end the next thing is said. The time for that
//! doubles too: a backend that is slower than the first time is not overtaken for ever.

#[cfg(test)]
mod tests;

use core::time::Duration;

use xenvelope_grant::seam::Instant;
use xenvelope_grant::xenbus::XenbusState;

/// How long a backend may take for a step before something is said again.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same, while it may be waiting for a hotplug script.
const PATIENCE_PLUGGING: Duration = Duration::from_secs(60);
/// How often the store is looked at without an event, while there is no connection.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The rest after the first failure. It doubles.
const REST: Duration = Duration::from_secs(1);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(30);
/// A connection that lasted so long was none that fails.
const LASTED: Duration = Duration::from_secs(60);

/// How far we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// We are Initialising, and wait for InitWait.
    Opening,
    /// We are Connected, and wait for Connected.
    Asking,
    /// Both are.
    Up,
    /// We are Closing, and wait until the backend is going down.
    Closing,
    /// We are Closed, and wait until the backend is.
    Closed,
    /// Both are. We wait before we begin anew.
    Resting,
}

/// What is to be done. Whatever is said is written to our state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// To say this.
    Say(XenbusState),
    /// To make rings, and to say Connected with them.
    Connect,
    /// Frames may flow.
    Begin,
    /// To take everything down, and to say this.
    End(XenbusState),
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The backend's state.
    pub theirs: XenbusState,
    /// Whether the device is to stay (`online`).
    pub stays: bool,
}

/// Our side of it.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    step: Step,
    /// When something was last said, or the step began.
    since: Instant,
    /// How often patience ended since the last connection.
    impatient: u32,
    /// Connections in a row that failed.
    failures: u32,
    up_since: Option<Instant>,
    rest_until: Instant,
    /// We have said goodbye.
    leaving: bool,
}

impl Handshake {
    /// Where to begin, with what the states are. `ours` is what a former owner left, or
    /// Initialising. What is to be said first, if anything.
    pub fn new(ours: XenbusState, theirs: XenbusState, now: Instant) -> (Handshake, Option<Act>) {
        use XenbusState::{Closed, Closing, InitWait, Initialising, Unknown};
        let (step, say) = match (ours, theirs) {
            (Initialising, _) => (Step::Opening, None),
            // Nobody has been connected to it yet.
            (_, Unknown | Initialising) => (Step::Opening, Some(Initialising)),
            (Unknown, InitWait) => (Step::Opening, Some(Initialising)),
            // Said again: it may be another backend by now, that has not heard it.
            (Closed, theirs) if theirs != InitWait => (Step::Closed, Some(Closed)),
            // With InitWait too: netback does not say Connected before the hotplug script has
            // run, and has the former owner's rings mapped by then.
            _ => (Step::Closing, Some(Closing)),
        };
        let handshake = Handshake {
            step,
            since: now,
            impatient: 0,
            failures: 0,
            up_since: None,
            rest_until: now,
            leaving: false,
        };
        (handshake, say.map(Act::Say))
    }

    /// How far we are.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Whether a connection has failed, or was left, and not just not come yet.
    pub fn broken(&self) -> bool {
        self.leaving || self.failures > 0
    }

    /// When to look again although nothing has changed: later than now.
    pub fn look_at(&self, now: Instant) -> Instant {
        let due = match self.step {
            Step::Up => return Instant::FAR_FUTURE,
            Step::Asking => self.since + PATIENCE_PLUGGING,
            Step::Resting => self.rest_until,
            Step::Opening | Step::Closing | Step::Closed => self.since + self.patience(),
        };
        let again = now + LOOK_AGAIN;
        // What was due and did not help is not due all the time.
        if due > now { due.min(again) } else { again }
    }

    /// The connection broke on our side, or could not be made; it has been taken down.
    pub fn fail(&mut self, now: Instant) -> Option<Act> {
        if matches!(self.step, Step::Closing | Step::Closed | Step::Resting) {
            return None;
        }
        self.failed(now);
        self.go(Step::Closing, now);
        Some(Act::Say(XenbusState::Closing))
    }

    /// We do not want it any more. What is to be said.
    pub fn leave(&mut self, now: Instant) -> Option<Act> {
        self.leaving = true;
        if matches!(self.step, Step::Closing | Step::Closed | Step::Resting) {
            return None;
        }
        self.go(Step::Closing, now);
        Some(Act::Say(XenbusState::Closing))
    }

    /// The next thing to do, if there is one. To be called again when that is done.
    pub fn advance(&mut self, seen: Seen, now: Instant) -> Option<Act> {
        match self.step {
            Step::Opening => self.opening(seen.theirs, now),
            Step::Asking | Step::Up => self.connected(seen.theirs, now),
            Step::Closing => self.closing(seen.theirs, now),
            Step::Closed => self.closed(seen, now),
            Step::Resting => self.resting(seen, now),
        }
    }

    fn opening(&mut self, theirs: XenbusState, now: Instant) -> Option<Act> {
        use XenbusState::{Closed, Closing, InitWait, Initialising, Unknown};
        match theirs {
            InitWait => {
                self.go(Step::Asking, now);
                Some(Act::Connect)
            }
            // It is not there yet.
            Unknown | Initialising => None,
            _ if !self.overdue(now) => None,
            Closing | Closed => self.say(Initialising, now),
            // It still is what it was to a former owner.
            _ => {
                self.go(Step::Closing, now);
                Some(Act::Say(Closing))
            }
        }
    }

    fn connected(&mut self, theirs: XenbusState, now: Instant) -> Option<Act> {
        use XenbusState::{Closed, Closing, Connected, Reconfigured, Reconfiguring, Unknown};
        match theirs {
            Connected if self.step == Step::Asking => {
                self.go(Step::Up, now);
                self.up_since = Some(now);
                self.impatient = 0;
                Some(Act::Begin)
            }
            Connected | Reconfiguring | Reconfigured => None,
            Closing | Closed | Unknown => {
                self.failed(now);
                self.go(Step::Closed, now);
                Some(Act::End(Closed))
            }
            // It began anew by itself, or it has forgotten us.
            _ if self.step == Step::Up || now.since(self.since) >= PATIENCE_PLUGGING => {
                self.failed(now);
                self.go(Step::Closing, now);
                Some(Act::End(Closing))
            }
            _ => None,
        }
    }

    fn closing(&mut self, theirs: XenbusState, now: Instant) -> Option<Act> {
        use XenbusState::{Closed, Closing, InitWait, Initialising, Unknown};
        match theirs {
            Closing | Closed | Unknown => {
                self.go(Step::Closed, now);
                Some(Act::End(Closed))
            }
            _ if !self.overdue(now) => None,
            InitWait | Initialising if !self.leaving => {
                self.rest(now);
                None
            }
            // Netback goes down for this as well.
            _ => {
                self.go(Step::Closed, now);
                Some(Act::End(Closed))
            }
        }
    }

    fn closed(&mut self, seen: Seen, now: Instant) -> Option<Act> {
        use XenbusState::{Closed, InitWait, Initialising, Unknown};
        let down = matches!(seen.theirs, Closed | Unknown | Initialising | InitWait);
        // What has not gone down for that may begin anew when it hears Initialising.
        if self.leaving || !(down || self.overdue(now)) {
            return None;
        }
        self.rest(now);
        self.resting(seen, now)
    }

    fn resting(&mut self, seen: Seen, now: Instant) -> Option<Act> {
        // Who takes the device away must not find it begun anew.
        if self.leaving || !seen.stays || now < self.rest_until {
            return None;
        }
        self.go(Step::Opening, now);
        Some(Act::Say(XenbusState::Initialising))
    }

    fn go(&mut self, step: Step, now: Instant) {
        self.step = step;
        self.since = now;
    }

    fn say(&mut self, state: XenbusState, now: Instant) -> Option<Act> {
        self.since = now;
        Some(Act::Say(state))
    }

    fn rest(&mut self, now: Instant) {
        let doubled = REST.saturating_mul(1 << self.failures.saturating_sub(1).min(5));
        let rest = if self.failures == 0 { Duration::ZERO } else { doubled.min(REST_MAX) };
        self.rest_until = now + rest;
        self.go(Step::Resting, now);
    }

    fn failed(&mut self, now: Instant) {
        if self.up_since.take().is_some_and(|since| now.since(since) >= LASTED) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
    }

    fn patience(&self) -> Duration {
        PATIENCE.saturating_mul(1 << self.impatient.min(4))
    }

    fn overdue(&mut self, now: Instant) -> bool {
        let overdue = now.since(self.since) >= self.patience();
        if overdue {
            self.impatient = self.impatient.saturating_add(1);
        }
        overdue
    }
}
