//! What the toolstack, its scripts and a frontend's driver do to an interface in its life.

use proptest::prelude::*;
use xenvelope_backend::Config;
use xenvelope_grant::netif::TxFlags;
use xenvelope_grant::xenbus::{XenbusState, key};
use xenvelope_tests::lab::{Lab, StockGuest, StockPlan, frame, mac};

const STATES: [XenbusState; 6] = [
    XenbusState::Initialising,
    XenbusState::InitWait,
    XenbusState::Initialised,
    XenbusState::Connected,
    XenbusState::Closing,
    XenbusState::Closed,
];

fn set_state(lab: &Lab, guest: &StockGuest, state: XenbusState) {
    guest.set(&lab.dom0, key::STATE, Some(state.as_str()));
}

/// Frames flow between the guest and a new one.
fn is_served(lab: &mut Lab, guest: &mut StockGuest) {
    let mut other = StockGuest::connect(lab, mac(7), &StockPlan::default());
    other.send(0, &frame(guest.mac, mac(7), &[1; 100]), TxFlags::empty(), None);
    guest.send(0, &frame(mac(7), guest.mac, &[2; 100]), TxFlags::empty(), None);
    lab.steps(5);
    assert_eq!(guest.take().len(), 1);
    assert_eq!(other.take().len(), 1);
}

/// A frontend's driver begins anew, as Linux does after a kexec and our agent after a restart.
fn begin_anew(lab: &mut Lab, guest: &mut StockGuest) {
    use XenbusState::{Closed, Closing, Initialising};
    guest.say(Closing);
    lab.run_until("Closing", |_| matches!(guest.backend(), Closing | Closed));
    guest.say(Closed);
    lab.run_until("Closed", |_| guest.backend() == Closed);
    guest.say(Initialising);
    guest.shake_hands(lab, &StockPlan::default());
}

/// Hangs on `follow` looking at `hotplug-status`, and on the watch of it.
#[test]
fn nothing_is_connected_before_the_hotplug_script_has_said_so() {
    let mut lab = Lab::default();
    let mut guest = StockGuest::new(&lab, mac(1));
    guest.set(&lab.dom0, key::HOTPLUG_STATUS, None);
    lab.run_until("InitWait", |_| guest.backend() == XenbusState::InitWait);
    guest.say_connected(&StockPlan::default());
    lab.steps(20);
    assert_eq!(guest.backend(), XenbusState::InitWait);
    guest.set(&lab.dom0, key::HOTPLUG_STATUS, Some("error"));
    lab.steps(20);
    assert_eq!(guest.backend(), XenbusState::InitWait);
    guest.set(&lab.dom0, key::HOTPLUG_STATUS, Some("connected"));
    lab.steps(5);
    assert_eq!(guest.backend(), XenbusState::Connected);
    guest.post_all(256);
    is_served(&mut lab, &mut guest);
}

/// Hangs on `is_ours`.
#[test]
fn an_interface_with_another_script_is_left_alone() {
    let script = Some("vif-xenvelope");
    let mut lab = Lab::configured(true, Config { script, ..Config::default() });
    let scripts = [
        (Some("/etc/xen/scripts/vif-xenvelope"), true),
        (Some("vif-xenvelope"), true),
        (Some("/etc/xen/scripts/vif-bridge"), false),
        (Some("/etc/xen/scripts/vif-xenvelope/vif-route"), false),
        (None, false),
    ];
    for (number, (script, ours)) in scripts.into_iter().enumerate() {
        let guest = StockGuest::new(&lab, mac(number));
        guest.set(&lab.dom0, key::SCRIPT, script);
        lab.steps(10);
        let state = if ours { XenbusState::InitWait } else { XenbusState::Initialising };
        assert_eq!(guest.backend(), state, "{script:?}");
        if !ours {
            assert!(!guest.back.feature(&guest.domain, key::FEATURE_RX_COPY));
            guest.remove(&lab.dom0);
            lab.steps(10);
            assert_eq!(guest.backend(), XenbusState::Closing, "not ours to answer");
        }
    }
}

/// Hangs on `follow` knowing our own Closing from the toolstack's.
#[test]
fn closing_is_answered_by_closing_and_closed_by_closed() {
    let mut lab = Lab::default();
    let mut guest = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    guest.say(XenbusState::Closing);
    lab.steps(20);
    assert_eq!(guest.backend(), XenbusState::Closing);
    assert_eq!(lab.backend.connected(), 0);
    guest.say(XenbusState::Closed);
    lab.steps(20);
    assert_eq!(guest.backend(), XenbusState::Closed);
    guest.say(XenbusState::Initialising);
    guest.shake_hands(&mut lab, &StockPlan { queues: 1, split: true, ..StockPlan::default() });
    is_served(&mut lab, &mut guest);
}

/// Hangs on `find` answering the toolstack even when the interface makes no sense.
#[test]
fn an_interface_that_cannot_be_served_can_be_removed() {
    let mut lab = Lab::default();
    let guest = StockGuest::new(&lab, mac(1));
    guest.set(&lab.dom0, key::MAC, Some("nonsense"));
    lab.steps(10);
    assert_eq!(guest.backend(), XenbusState::Initialising);
    guest.remove(&lab.dom0);
    lab.steps(10);
    assert_eq!(guest.backend(), XenbusState::Closed);
}

/// The guest is destroyed: its directory vanishes, and then libxl removes the device.
#[test]
fn a_guest_that_is_destroyed_is_taken_down_and_libxl_hears_closed() {
    let mut lab = Lab::default();
    let guest = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    let path = format!("/local/domain/{}", guest.domain.domid());
    guest.set(&lab.dom0, "unrelated", Some("1"));
    use xenvelope_grant::seam::{Change, Host as _, Store as _};
    lab.dom0.commit(&[Change::Remove { path: &path }]).expect("the toolstack may write");
    lab.steps(10);
    assert_eq!(lab.backend.connected(), 0);
    guest.remove(&lab.dom0);
    lab.steps(10);
    assert_eq!(guest.back.state(&lab.dom0), XenbusState::Closed);
    xenvelope_tests::lab::remove_vif(&lab.dom0, guest.domain.domid());
    lab.steps(10);
    let left = guest.back.text(&lab.dom0, key::STATE);
    assert!(left.is_err(), "nothing is written into a directory that was removed");
    // Its address is free again.
    StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
}

/// Hangs on `write_state` looking whether the directory is still there.
#[test]
fn a_directory_that_the_toolstack_removed_does_not_come_back() {
    use xenvelope_grant::seam::{Change, Host as _, Store as _};
    for connected in [false, true] {
        let mut lab = Lab::default();
        let mut guest = StockGuest::new(&lab, mac(1));
        if connected {
            guest.shake_hands(&mut lab, &StockPlan::default());
        }
        lab.steps(5);
        let home = format!("/local/domain/{}", guest.domain.domid());
        let path = guest.back.path();
        lab.dom0
            .commit(&[Change::Remove { path: &home }, Change::Remove { path }])
            .expect("the toolstack may write");
        lab.steps(10);
        assert!(guest.back.text(&lab.dom0, key::STATE).is_err(), "{connected}");
    }
}

/// Every state that a process before us, and a frontend's driver, can have left.
fn left_behind(ours: XenbusState, theirs: XenbusState) -> (Lab, StockGuest) {
    let mut lab = Lab::default();
    let mut guest = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    lab.kill_backend();
    set_state(&lab, &guest, ours);
    guest.say(theirs);
    guest.take();
    lab.start_backend();
    lab.steps(20);
    (lab, guest)
}

/// Hangs on `create` finding out how far an interface was, and on `follow` going on from there.
#[test]
fn whatever_states_were_left_behind_the_frontend_can_begin_anew() {
    for ours in STATES {
        for theirs in STATES {
            let (mut lab, mut guest) = left_behind(ours, theirs);
            let served = lab.backend.connected() == 1;
            let both = theirs == XenbusState::Connected;
            let may = both && ours != XenbusState::Closing && ours != XenbusState::Closed;
            assert_eq!(served, may, "{ours:?} {theirs:?}");
            begin_anew(&mut lab, &mut guest);
            is_served(&mut lab, &mut guest);
        }
    }
}

/// Hangs on our state Closing being the toolstack's word, whatever we thought of it.
#[test]
fn whatever_states_were_left_behind_libxl_can_remove_the_interface() {
    for ours in STATES {
        for theirs in STATES {
            let (mut lab, guest) = left_behind(ours, theirs);
            guest.remove(&lab.dom0);
            lab.steps(20);
            assert_eq!(guest.backend(), XenbusState::Closed, "{ours:?} {theirs:?}");
            assert_eq!(lab.backend.connected(), 0);
            // It is offline: nobody answers it any more.
            guest.say(XenbusState::Initialising);
            lab.steps(20);
            assert_eq!(guest.backend(), XenbusState::Closed, "{ours:?} {theirs:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever toolstack, script, frontend and driver domain's process do in whatever order:
    /// another guest is served, and this one can begin anew.
    #[test]
    fn no_sequence_of_states_leaves_an_interface_that_cannot_be_used(
        ops in prop::collection::vec((0..6usize, 0..6usize, 0..4usize), 1..25),
    ) {
        let mut lab = Lab::default();
        let mut guest = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
        let mut down = false;
        for (what, state, steps) in ops {
            match what {
                0 | 1 => guest.say(STATES[state]),
                // The toolstack makes and removes; anything else only a process of ours writes.
                2 if down || matches!(STATES[state], XenbusState::Initialising | XenbusState::Closing) => {
                    set_state(&lab, &guest, STATES[state]);
                }
                2 => {}
                3 => guest.set(&lab.dom0, key::ONLINE, Some(if state > 2 { "1" } else { "0" })),
                4 => {
                    let value = (state > 2).then_some("connected");
                    guest.set(&lab.dom0, key::HOTPLUG_STATUS, value);
                }
                _ if down => {
                    lab.start_backend();
                    down = false;
                }
                _ => {
                    lab.kill_backend();
                    down = true;
                }
            }
            lab.steps(steps);
        }
        if down {
            lab.start_backend();
        }
        guest.set(&lab.dom0, key::ONLINE, Some("1"));
        guest.set(&lab.dom0, key::HOTPLUG_STATUS, Some("connected"));
        lab.steps(10);
        begin_anew(&mut lab, &mut guest);
        is_served(&mut lab, &mut guest);
    }
}
