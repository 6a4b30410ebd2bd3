//! A domid that goes to another guest, at every step of what goes on.

use std::time::Duration;

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Config;
use xenvelope_grant::seam::Instant;
use xenvelope_hypervisor_sim::machine::DomainOptions;
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::{
    GuestPlan, Lab, Random, frame, lab_guest, mac, make_vif, numbered, payload, remove_vif, seed,
    steal,
};

const WAYS: [PairRoute; 3] = [PairRoute::Switch, PairRoute::Direct, PairRoute::Bridge];

/// By when those that grant have been told that a guest has ended.
const TOLD: Duration = Duration::from_millis(100);

/// Everything that guest 0 has granted to the id of guest 1, as guest 1 can read it.
fn readable(lab: &Lab) -> Vec<u8> {
    let owner = lab.domid(0);
    let grants = lab.machine.scan_grants(owner);
    let of_1 = grants.into_iter().filter(|(_, to, _)| *to == lab.domid(1));
    of_1.flat_map(|(gref, ..)| {
        let pieces = (0..4096).step_by(64);
        pieces.filter_map(move |at| steal(&lab.guests[1].domain, owner, gref, at, 64)).flatten()
    })
    .collect()
}

/// A byte that stands in frames to the life `life` of guest 1, and nowhere else.
fn mark(life: u64) -> u8 {
    0x80 | (life % 0x7F) as u8
}

/// Where guest 1 is in its lives.
struct Lives {
    /// Which it is.
    life: u64,
    /// Since when the driver domain knows that the one before has ended.
    known: Option<Instant>,
}

impl Lives {
    /// What has come is for this life. What can be read, too: a grant names a domid, so this
    /// holds from when those that grant have been told, which is long before Xen gives an id again.
    fn check(&mut self, lab: &mut Lab, what: &str) {
        let life = self.life;
        for bytes in lab.guests[1].take_received() {
            assert_eq!(payload(&bytes)[8], mark(life), "{what}: life {life} has another's frame");
        }
        if self.known.is_none() && !lab.backend_asleep {
            lab.steps(3);
            self.known = Some(lab.now);
        }
        if self.known.is_some_and(|known| lab.now.since(known) > TOLD) {
            let others = |byte: u8| byte >= 0x80 && byte != mark(life);
            let read = readable(lab);
            let mut runs = read.chunk_by(|a, b| a == b);
            let run = runs.find(|run| others(run[0]) && run.len() >= 32);
            assert!(run.is_none(), "{what}: life {life} reads what was for another");
        }
    }
}

/// Ends guest 1, and makes another with its domid and an address of its own: what is underway to
/// the old address is not for it.
fn replace(lab: &mut Lab, life: u64) {
    let domid = lab.domid(1);
    lab.machine.destroy(domid);
    remove_vif(&lab.dom0, domid);
    let options = DomainOptions { domid: Some(domid), ..DomainOptions::new("successor", 8192) };
    let domain = lab.machine.create(&options).expect("the id is free");
    let address = MacAddress([0x02, 0x16, 0x3E, 0x77, 0, life as u8]);
    make_vif(&lab.dom0, domid, address);
    lab.guests[1] = lab_guest(domain, address, Config::default(), None);
}

/// Random steps; after each of them guest 1 may end, and another begin with its id.
/// Hangs on `gone` in `Frontend::expire`, and on the incarnation by which peers are keyed.
#[test]
fn a_successor_gets_nothing_of_its_predecessor_whenever_the_domid_changes_hands() {
    let mut random = Random(seed("domid reuse"));
    let (mut ended, mut arrived) = (0, 0);
    for _ in 0..10 {
        let mut lab = Lab::with_guests(3, &GuestPlan::default());
        let mut lives = Lives { life: 1, known: Some(lab.now) };
        for _ in 0..120 {
            let what = random_step(&mut lab, &mut random, lives.life);
            arrived += lab.guests[1].received.len();
            lives.check(&mut lab, what);
            if random.below(8) > 0 {
                continue;
            }
            ended += 1;
            if random.below(2) == 0 {
                // Some time passes between the two; with or without anybody looking.
                let domid = lab.domid(1);
                lab.guests[1].asleep = true;
                lab.machine.destroy(domid);
                remove_vif(&lab.dom0, domid);
                lab.steps(random.below(4) as usize);
            }
            lives = Lives { life: lives.life + 1, known: None };
            replace(&mut lab, lives.life);
            lives.check(&mut lab, "just replaced");
        }
        lab.backend_asleep = false;
        lab.guests[1].asleep = false;
        lab.connect();
        lab.pass_ms(700);
        lives.check(&mut lab, "the end");
        for (from, to) in [(0, 1), (1, 0), (2, 1)] {
            lab.expect_delivery(from, to, &[1; 1000]);
        }
    }
    println!("{ended} lives ended, {arrived} frames arrived");
    assert!(ended > 30 && arrived > 50, "{ended} lives, {arrived} frames: nothing has happened");
}

/// What it was.
fn random_step(lab: &mut Lab, random: &mut Random, life: u64) -> &'static str {
    match random.below(9) {
        0..=2 => {
            for _ in 0..random.below(5) {
                let bytes = numbered(u64::from(mark(life)), random.pick(&[60, 1000, 5000]));
                let to = lab.guests[1].mac;
                lab.guests[0].send(&frame(to, mac(0), &bytes));
            }
            lab.steps(random.below(3) as usize);
            "sent"
        }
        3 => {
            lab.manager().set_all_routes(random.pick(&WAYS));
            "another route"
        }
        4 => {
            lab.guests[1].asleep ^= true;
            "asleep or awake"
        }
        5 => {
            lab.pass_ms(random.pick(&[10, 120, 120, 700]));
            "time"
        }
        6 => {
            lab.backend_asleep ^= true;
            "the driver domain asleep or awake"
        }
        _ => {
            lab.steps(random.below(6) as usize);
            "steps"
        }
    }
}
