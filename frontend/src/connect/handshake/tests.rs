//! The handshake against models of Linux' netback and of our own backend, which look at our state
//! whenever they get to it, and at what it is by then.

extern crate std;

mod any_order;

use std::vec::Vec;

use xenvelope_grant::xenbus::XenbusState::{
    self, Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured,
    Reconfiguring, Unknown,
};

use super::*;

const STATES: [XenbusState; 9] = [
    Unknown,
    Initialising,
    InitWait,
    Initialised,
    Connected,
    Closing,
    Closed,
    Reconfiguring,
    Reconfigured,
];

/// Which backend it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Netback,
    Ours,
}

/// A device: what the store says, and both sides.
struct Device {
    kind: Kind,
    ours: XenbusState,
    theirs: XenbusState,
    /// What the backend takes itself for. The store does not say so while it waits for the
    /// hotplug script.
    inside: XenbusState,
    plugged: bool,
    /// The rings that the store names, and those that the backend has mapped.
    rings: u32,
    mapped: Option<u32>,
    frontend: Option<Handshake>,
    /// The rings that the living frontend has made.
    own: Option<u32>,
    said: Vec<(XenbusState, XenbusState)>,
    now: Instant,
}

impl Device {
    fn new(kind: Kind, ours: XenbusState, theirs: XenbusState, plugged: bool) -> Device {
        let inside = match theirs {
            Unknown => Initialising,
            InitWait if !plugged && ours == Connected && kind == Kind::Netback => Connected,
            Initialising | InitWait | Closing | Closed => theirs,
            _ => Connected,
        };
        Device {
            kind,
            ours,
            theirs,
            inside,
            plugged,
            rings: 1,
            mapped: (inside == Connected).then_some(1),
            frontend: None,
            own: None,
            said: Vec::new(),
            now: Instant(0),
        }
    }

    fn say(&mut self, state: XenbusState) {
        self.said.push((self.ours, state));
        self.ours = state;
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Say(state) => self.say(state),
            Act::Connect => {
                assert_eq!(self.ours, Initialising, "a frontend connects from Initialising only");
                assert_eq!(self.theirs, InitWait);
                self.rings += 1;
                self.own = Some(self.rings);
                self.say(Connected);
            }
            Act::Begin => assert!(self.own.is_some()),
            Act::End(state) => {
                self.own = None;
                self.say(state);
            }
        }
    }

    fn frontend_turn(&mut self) {
        if self.frontend.is_none() {
            let (handshake, act) = Handshake::new(self.ours, self.theirs, self.now);
            self.frontend = Some(handshake);
            act.into_iter().for_each(|act| self.act(act));
        }
        for _ in 0..8 {
            let seen = Seen { theirs: self.theirs, stays: true };
            let Some(handshake) = &mut self.frontend else { break };
            let Some(act) = handshake.advance(seen, self.now) else { return };
            self.act(act);
        }
        panic!("it has something to do for ever");
    }

    fn switch(&mut self, state: XenbusState) {
        self.inside = state;
        if self.plugged || state != Connected && self.theirs != InitWait {
            self.theirs = state;
        }
    }

    fn map(&mut self) {
        self.mapped = Some(self.rings);
    }

    /// `set_backend_state`: every step on the way to `to`.
    fn netback_goes(&mut self, to: XenbusState) {
        while self.inside != to {
            let next = match (self.inside, to) {
                (Initialising, Closed) => Closed,
                (Initialising, InitWait | Connected | Closing) => InitWait,
                (Closed, InitWait | Connected) => InitWait,
                (Closed, Closing) => Closing,
                (InitWait, Connected) => {
                    self.map();
                    Connected
                }
                (InitWait, Closing | Closed) => Closing,
                (Connected, InitWait | Closing | Closed) => {
                    self.mapped = None;
                    Closing
                }
                (Closing, InitWait | Connected | Closed) => Closed,
                (from, to) => panic!("BUG(): from {from:?} to {to:?}"),
            };
            self.switch(next);
        }
        // A pending change is told when the script has run.
        if self.plugged {
            self.theirs = self.inside;
        }
    }

    fn backend_turn(&mut self) {
        match (self.kind, self.ours) {
            (Kind::Netback, Initialising) => self.netback_goes(InitWait),
            (Kind::Netback, Connected) => self.netback_goes(Connected),
            (Kind::Netback, Closing) => self.netback_goes(Closing),
            (Kind::Netback, Closed) => self.netback_goes(Closed),
            // A former owner's: netback complains, and stays as it is.
            (Kind::Netback, _) => {}
            (Kind::Ours, ours) => self.our_backend_sees(ours),
        }
    }

    fn our_backend_sees(&mut self, ours: XenbusState) {
        if self.inside == Initialising {
            (self.inside, self.theirs) = (InitWait, InitWait);
        }
        match ours {
            Connected if self.inside == InitWait && self.plugged => {
                self.map();
                (self.inside, self.theirs) = (Connected, Connected);
            }
            Initialising if self.inside != InitWait => {
                self.mapped = None;
                (self.inside, self.theirs) = (InitWait, InitWait);
            }
            Closing | Closed | Unknown if self.inside == Connected => {
                self.mapped = None;
                (self.inside, self.theirs) = (Closed, Closed);
            }
            _ => {}
        }
    }

    fn passes(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    fn is_up(&self) -> bool {
        self.frontend.as_ref().is_some_and(|frontend| frontend.step() == Step::Up)
            && self.own.is_some()
            && self.mapped == self.own
            && self.theirs == Connected
    }

    /// Everybody gets turns, and the script has run: so many turns until both are connected.
    fn settles(&mut self) -> Option<usize> {
        self.plugged = true;
        for turn in 0..1000 {
            self.frontend_turn();
            if self.is_up() {
                return Some(turn);
            }
            self.passes(500);
            self.backend_turn();
        }
        None
    }

    fn said_nothing_forbidden(&self) {
        for (from, to) in &self.said {
            let allowed = match from {
                Initialising => [Initialising, Connected, Closing].contains(to),
                Connected => [Closing, Closed, Initialising].contains(to),
                Closing => [Closing, Closed, Initialising].contains(to),
                Closed => [Closed, Initialising, Closing].contains(to),
                // A former owner's.
                _ => [Initialising, Closing].contains(to),
            };
            assert!(allowed, "{from:?} to {to:?}");
        }
    }
}

#[test]
fn whatever_a_former_owner_has_left_both_connect() {
    for kind in [Kind::Netback, Kind::Ours] {
        for ours in STATES {
            for theirs in STATES {
                for plugged in [true, false] {
                    let mut device = Device::new(kind, ours, theirs, plugged);
                    let turns = device.settles();
                    // Without a failure nobody rests; patience ends at most twice.
                    assert!(
                        turns.is_some_and(|turns| turns <= 40),
                        "{kind:?}, {ours:?} and {theirs:?}: {turns:?}"
                    );
                    device.said_nothing_forbidden();
                }
            }
        }
    }
}

#[test]
fn an_agent_that_was_killed_comes_back_without_waiting_for_patience() {
    for kind in [Kind::Netback, Kind::Ours] {
        let mut device = Device::new(kind, Connected, Connected, true);
        assert!(device.settles().is_some_and(|turns| turns <= 6));
        let said: Vec<XenbusState> = device.said.iter().map(|(_, to)| *to).collect();
        assert_eq!(said, [Closing, Closed, Initialising, Connected]);
    }
}

#[test]
fn what_fails_again_and_again_is_tried_less_and_less_often() {
    let mut device = Device::new(Kind::Ours, Initialising, InitWait, true);
    let mut rests = Vec::new();
    for _ in 0..8 {
        device.settles().expect("it connects");
        let now = device.now;
        let act = device.frontend.as_mut().and_then(|frontend| frontend.fail(now));
        assert_eq!(act, Some(Act::Say(Closing)));
        device.own = None;
        device.say(Closing);
        device.backend_turn();
        device.frontend_turn();
        let until = device.frontend.as_ref().expect("it lives").rest_until;
        rests.push(until.since(device.now).as_secs());
    }
    assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30]);
    // One that lasted begins at the beginning.
    device.settles().expect("it connects");
    device.passes(60_000);
    (device.theirs, device.inside, device.mapped) = (Closed, Closed, None);
    device.frontend_turn();
    let until = device.frontend.as_ref().expect("it lives").rest_until;
    assert_eq!(until.since(device.now).as_secs(), 1);
}

#[test]
fn a_device_that_is_taken_away_is_not_begun_anew() {
    let mut device = Device::new(Kind::Netback, Initialising, InitWait, true);
    device.settles().expect("it connects");
    // The toolstack's removal: `online` is 0, and the backend's state Closing.
    device.theirs = Closing;
    let mut frontend = device.frontend.take().expect("it lives");
    let gone = |theirs| Seen { theirs, stays: false };
    assert_eq!(frontend.advance(gone(Closing), device.now), Some(Act::End(Closed)));
    for second in 0..100 {
        let now = device.now + Duration::from_secs(second);
        assert_eq!(frontend.advance(gone(Closed), now), None);
    }
    // Unless it is to stay after all.
    let now = device.now + Duration::from_secs(100);
    let seen = Seen { theirs: Closed, stays: true };
    assert_eq!(frontend.advance(seen, now), Some(Act::Say(Initialising)));
}

#[test]
fn who_said_goodbye_stays_away() {
    for before in [Step::Opening, Step::Asking, Step::Up, Step::Closing, Step::Closed] {
        let (mut frontend, _) = Handshake::new(Initialising, InitWait, Instant(0));
        frontend.step = before;
        let _ = frontend.leave(Instant(0));
        for theirs in STATES {
            for second in 0..200 {
                let now = Instant(0) + Duration::from_secs(second);
                let act = frontend.advance(Seen { theirs, stays: true }, now);
                assert!(matches!(act, None | Some(Act::End(Closed))), "{before:?}: {act:?}");
            }
        }
    }
}

/// Whoever sleeps until then would not sleep.
#[test]
fn nothing_is_due_all_the_time() {
    let steps = [Step::Opening, Step::Asking, Step::Up, Step::Closing, Step::Closed, Step::Resting];
    for step in steps {
        for stays in [true, false] {
            for theirs in STATES {
                let (mut frontend, _) = Handshake::new(Initialising, theirs, Instant(0));
                frontend.step = step;
                for second in 0..200 {
                    let now = Instant(0) + Duration::from_secs(second);
                    let _ = frontend.advance(Seen { theirs, stays }, now);
                    assert!(frontend.look_at(now) > now, "{step:?}, {theirs:?}");
                }
            }
        }
    }
}
