//! Both sides' turns, time and mishaps in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Frontend,
    Backend,
    Time(u64),
    Plugged,
    /// The frontend is killed.
    Killed,
    /// The backend finds an error. Netback says Closing (`xenbus_dev_fatal`); ours goes down.
    Fatal,
}

fn event(longest: u64) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Frontend),
        4 => Just(Event::Backend),
        2 => (1..longest).prop_map(Event::Time),
        1 => Just(Event::Plugged),
        1 => Just(Event::Killed),
        1 => Just(Event::Fatal),
    ]
}

fn happens(device: &mut Device, event: Event) {
    match event {
        Event::Frontend => device.frontend_turn(),
        Event::Backend => device.backend_turn(),
        Event::Time(ms) => device.passes(ms),
        Event::Plugged => {
            device.plugged = true;
            if device.kind == Kind::Netback {
                device.theirs = device.inside;
            }
        }
        Event::Killed => (device.frontend, device.own) = (None, None),
        Event::Fatal if device.kind == Kind::Netback => device.theirs = Closing,
        Event::Fatal => {
            (device.theirs, device.inside, device.mapped) = (Closed, Closed, None);
        }
    }
}

fn connects_in_the_end(mut device: Device, events: Vec<Event>) -> Result<(), TestCaseError> {
    for event in events {
        happens(&mut device, event);
    }
    prop_assert!(device.settles().is_some());
    device.said_nothing_forbidden();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Each side gets a turn within patience.
    #[test]
    fn in_whatever_order_things_happen_both_connect_in_the_end(
        kind in prop_oneof![Just(Kind::Netback), Just(Kind::Ours)],
        ours in prop::sample::select(&STATES[..]),
        theirs in prop::sample::select(&STATES[..]),
        plugged: bool,
        events in prop::collection::vec(event(300), 0..16),
    ) {
        connects_in_the_end(Device::new(kind, ours, theirs, plugged), events)?;
    }

    /// Nobody is in time, and the script had run before.
    #[test]
    fn however_slow_both_are_they_connect_in_the_end(
        kind in prop_oneof![Just(Kind::Netback), Just(Kind::Ours)],
        ours in prop::sample::select(&STATES[..]),
        theirs in prop::sample::select(&STATES[..]),
        events in prop::collection::vec(event(100_000), 0..60),
    ) {
        connects_in_the_end(Device::new(kind, ours, theirs, true), events)?;
    }
}
