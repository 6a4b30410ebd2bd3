//! VFs that come and go while frames are underway.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Config;
use xenvelope_grant::seam::Store as _;
use xenvelope_tests::lab::{GuestPlan, Lab, ROUTES, mac, numbered, numbers_from};

fn lab_with_vfs(config: Config, route: PairRoute) -> Lab {
    let plan = GuestPlan { vf: true, config, ..GuestPlan::default() };
    let mut lab = Lab::with_guests(2, &plan);
    lab.all_routes(route);
    lab.run_until("the VFs' link", |lab| (0..2).all(|guest| vf_link(lab, guest)));
    lab.steps(50);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.expect_delivery(1, 0, &[1; 1000]);
    lab.steps(500);
    lab
}

fn vf_link(lab: &Lab, guest: usize) -> bool {
    let mut value = [0; 8];
    let path = "device/vif/0/vf-link";
    lab.guests[guest].domain.read(path, &mut value).is_ok_and(|value| value == "1")
}

fn send_numbers(lab: &mut Lab, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers {
        lab.send(0, 1, &numbered(number, length));
        if number % 16 == 15 {
            lab.step();
        }
    }
}

fn arrived(lab: &mut Lab) -> Vec<u64> {
    numbers_from(mac(0), &lab.guests[1].take_received())
}

/// Hangs on `reroute_vf_backlog`.
#[test]
fn frames_that_wait_for_a_vf_that_is_let_go_of_take_another_way_in_order() {
    let mut lab = lab_with_vfs(Config::default(), PairRoute::NicFrame);
    lab.nic_asleep = true;
    // The ring holds 127; the others wait.
    send_numbers(&mut lab, 0..400, 200);
    let waiting = lab.guests[0].frontend.queued() as u64;
    assert!(waiting > 200);
    let vf = lab.guests[0].frontend.detach_vf().expect("it has one");
    assert!(!vf_link(&lab, 0), "the manager is told at once");
    assert!(lab.guests[0].frontend.vf().is_none());
    assert_eq!(lab.guests[0].counters().rerouted, waiting);
    send_numbers(&mut lab, 400..500, 200);
    lab.steps(3000);
    let by_driver_domain = arrived(&mut lab);
    // What was in the ring is the card's.
    assert_eq!(by_driver_domain, (400 - waiting..500).collect::<Vec<_>>());
    lab.nic_asleep = false;
    lab.steps(1000);
    assert_eq!(arrived(&mut lab).len() as u64, 400 - waiting);
    assert_eq!(lab.guests[0].counters().dropped(), 0);
    // And back again.
    lab.guests[0].frontend.attach_vf(vf);
    lab.run_until("the VF's link", |lab| vf_link(lab, 0));
    lab.steps(500);
    let before = lab.guests[0].counters().sent_by.vf_frames;
    send_numbers(&mut lab, 500..600, 200);
    lab.steps(3000);
    assert_eq!(arrived(&mut lab), (500..600).collect::<Vec<_>>());
    assert_eq!(lab.guests[0].counters().sent_by.vf_frames, before + 100);
}

/// Hangs on `Frontend::path_of` and on the time that a frame may be held.
#[test]
fn a_flow_whose_vf_loses_its_link_goes_on_at_once_and_comes_back_with_the_link() {
    for route in [PairRoute::NicFrame, PairRoute::NicEnvelope] {
        let mut lab = lab_with_vfs(Config::default(), route);
        let vf = lab.guests[0].vf.expect("it has one");
        for round in 0..3 {
            send_numbers(&mut lab, 0..60, 1000);
            // In the middle of it.
            lab.nic.unplug_vf(vf).expect("it is plugged");
            send_numbers(&mut lab, 60..100, 1000);
            // Not longer than frames may be held, and a little.
            lab.steps(2600);
            let numbers = arrived(&mut lab);
            let later: Vec<u64> = numbers.iter().copied().filter(|number| *number >= 60).collect();
            assert_eq!(later, (60..100).collect::<Vec<_>>(), "{route:?}, round {round}");
            assert!(!vf_link(&lab, 0));
            // What the lost envelopes had granted comes back.
            lab.pass_ms(600);
            assert_eq!(lab.guests[0].frontend.outstanding(), 0);
            // While it was away its frames went to the PF. That ends first.
            lab.nic.pf_control().remove_pf_filter(mac(0).0, 0);
            lab.nic.plug_vf(vf).expect("it is not plugged");
            lab.run_until("the VF's link", |lab| vf_link(lab, 0));
            lab.steps(500);
            let before = lab.guests[0].counters().sent_by;
            send_numbers(&mut lab, 100..150, 1000);
            lab.steps(2600);
            assert_eq!(arrived(&mut lab), (100..150).collect::<Vec<_>>(), "{route:?}");
            let after = lab.guests[0].counters().sent_by;
            let by_vf =
                after.vf_frames + after.enveloped_vf - before.vf_frames - before.enveloped_vf;
            assert_eq!(by_vf, 50, "{route:?}");
        }
    }
}

/// Hangs on the counters of both sides saying the same.
#[test]
fn what_is_sent_by_a_way_is_received_by_that_way() {
    for route in ROUTES {
        let mut lab = lab_with_vfs(Config::default(), route);
        lab.steps(500);
        let sent_before = lab.guests[0].counters().sent_by;
        let received_before = lab.guests[1].counters().received_by;
        send_numbers(&mut lab, 0..100, 900);
        lab.steps(2000);
        assert_eq!(arrived(&mut lab).len(), 100);
        let (sent, received) =
            (lab.guests[0].counters().sent_by, lab.guests[1].counters().received_by);
        assert_eq!(sent.frames() - sent_before.frames(), 100);
        assert_eq!(received.frames() - received_before.frames(), 100);
        let by = |pick: fn(&xenvelope_frontend::Ways) -> u64| {
            (pick(&sent) - pick(&sent_before), pick(&received) - pick(&received_before))
        };
        let (ours, theirs) = match route {
            PairRoute::Bridge => by(|ways| ways.netif_frames),
            PairRoute::Switch => by(|ways| ways.enveloped_driver_domain),
            PairRoute::Direct => by(|ways| ways.enveloped_direct),
            PairRoute::NicFrame => by(|ways| ways.vf_frames),
            _ => by(|ways| ways.enveloped_vf),
        };
        assert_eq!((ours, theirs), (100, 100), "{route:?}");
        let counters = lab.guests[0].counters();
        assert_eq!(counters.sent.frames, counters.sent_by.frames() + counters.dropped());
    }
}
