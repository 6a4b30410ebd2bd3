//! The driver domain's process is killed under load, and another one goes on where it stopped.
//! Guests notice nothing but a pause.

use proptest::prelude::*;
use xenvelope_backend::{Config, PairRoute};
use xenvelope_frontend::{DropReason, Link};
use xenvelope_grant::Words;
use xenvelope_grant::netif::TxFlags;
use xenvelope_grant::xenbus::{XenbusState, key};
use xenvelope_tests::lab::{
    GuestPlan, HostileGuest, Lab, StockGuest, StockPlan, frame, mac, numbered, numbers_from,
};

/// The stock guests' numbers, after those of the guests with envelopes.
const ENVELOPES: usize = 2;
const STOCK: usize = 2;

/// A host with guests of both kinds, the stock ones with two queues.
struct World {
    lab: Lab,
    stock: Vec<StockGuest>,
    /// What each has got so far.
    came: Vec<Vec<Vec<u8>>>,
    next: u64,
    down: bool,
}

impl World {
    fn new(route: PairRoute) -> World {
        let mut lab = Lab::configured(true, Config { queues: 4, ..Config::default() });
        for _ in 0..ENVELOPES {
            lab.add_guest(&GuestPlan::default());
        }
        lab.connect();
        lab.all_routes(route);
        let plan = StockPlan { queues: 2, split: true, ..StockPlan::default() };
        let stock = (0..STOCK)
            .map(|number| StockGuest::connect(&mut lab, mac(ENVELOPES + number), &plan))
            .collect();
        lab.steps(50);
        World { lab, stock, came: vec![Vec::new(); ENVELOPES + STOCK], next: 0, down: false }
    }

    fn send(&mut self, from: usize, to: usize, length: usize) {
        let bytes = frame(mac(to), mac(from), &numbered(self.next, length));
        self.next += 1;
        match from.checked_sub(ENVELOPES) {
            None => drop(self.lab.guests[from].send(&bytes)),
            Some(stock) => {
                let queue = to % 2;
                if self.stock[stock].has_room(queue) {
                    self.stock[stock].send(queue, &bytes, TxFlags::empty(), None);
                }
            }
        }
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.lab.step();
            for (number, guest) in self.stock.iter_mut().enumerate() {
                let came = guest.take().into_iter().map(|frame| frame.bytes);
                self.came[ENVELOPES + number].extend(came);
                guest.post_all(256);
            }
        }
        for number in 0..ENVELOPES {
            let came = self.lab.guests[number].take_received();
            self.came[number].extend(came);
        }
    }

    fn set_down(&mut self, down: bool, killed: bool) {
        match (self.down, down) {
            (false, true) if killed => self.lab.kill_backend(),
            (false, true) => drop(self.lab.shut_backend_down()),
            (true, false) => self.lab.start_backend(),
            _ => {}
        }
        self.down = down;
    }

    /// Nobody was closed, everything that was sent is answered, and all pairs reach each other.
    fn all_go_on(&mut self) {
        self.set_down(false, false);
        self.steps(600);
        // A frontend that does not look for the new table believes the old one for so long.
        self.lab.pass_ms(3200);
        self.steps(20);
        assert_eq!(self.lab.backend.connected(), ENVELOPES + STOCK);
        assert_eq!(self.lab.backend.counters().closed_hostile, 0);
        for guest in &self.lab.guests {
            assert_eq!(guest.frontend.link(), Link::Up);
        }
        for guest in &self.stock {
            assert_eq!(guest.backend(), XenbusState::Connected);
            assert_eq!(guest.unanswered(), 0);
        }
        for (to, came) in self.came.iter_mut().enumerate() {
            for from in 0..ENVELOPES + STOCK {
                // In order, whole, and no more than what was underway twice.
                let numbers = numbers_from(mac(from), came);
                let mut last = None;
                for number in numbers {
                    assert!(last.is_none_or(|last| last <= number), "{from} to {to}");
                    last = Some(number);
                }
            }
            came.clear();
        }
        for from in 0..ENVELOPES + STOCK {
            for to in (0..ENVELOPES + STOCK).filter(|to| *to != from) {
                for length in [60, 1400] {
                    let number = self.next;
                    self.send(from, to, length);
                    // Frames are held for 20 ms if nobody has said done of an older route.
                    let arrived = (0..60).any(|_| {
                        self.steps(50);
                        numbers_from(mac(from), &self.came[to]).contains(&number)
                    });
                    assert!(arrived, "{from} to {to} with {length} bytes");
                }
            }
        }
        // What a former process had in its rings is forwarded by the next, under new incarnations:
        // its done is of another epoch then, which is ignored, and nobody is closed for it.
        for guest in &self.lab.guests {
            assert_eq!(guest.counters().dropped_for(DropReason::PeerClosed), 0);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Send { from: usize, to: usize, length: usize, count: usize },
    Steps(usize),
    Kill,
    ShutDown,
    Start,
}

fn op() -> impl Strategy<Value = Op> {
    let all = ENVELOPES + STOCK;
    let pair = (0..all, 1..all).prop_map(move |(from, to)| (from, (from + to) % all));
    let length = prop_oneof![Just(60usize), Just(1400)];
    prop_oneof![
        8 => (pair, length, 1usize..30)
            .prop_map(|((from, to), length, count)| Op::Send { from, to, length, count }),
        4 => (0usize..6).prop_map(Op::Steps),
        2 => Just(Op::Kill),
        1 => Just(Op::ShutDown),
        2 => Just(Op::Start),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Hangs on `adopt`: on the rings' indices, on ports being connected again, on each port
    /// being told once, and on direct channels being arranged anew.
    #[test]
    fn guests_go_on_whenever_the_process_ends_and_another_begins(
        route in prop_oneof![
            Just(PairRoute::Auto), Just(PairRoute::Bridge), Just(PairRoute::Switch), Just(PairRoute::Direct)
        ],
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut world = World::new(route);
        for op in ops {
            match op {
                Op::Send { from, to, length, count } => {
                    (0..count).for_each(|_| world.send(from, to, length));
                }
                Op::Steps(count) => world.steps(count),
                Op::Kill => world.set_down(true, true),
                Op::ShutDown => world.set_down(true, false),
                Op::Start => world.set_down(false, false),
            }
        }
        world.all_go_on();
    }
}

/// Hangs on `adopted`, and on the table being published again with the state.
#[test]
fn a_new_process_takes_over_and_publishes_new_tables_and_incarnations() {
    let mut lab = Lab::with_guests(1, &GuestPlan::default());
    let observer = HostileGuest::connect(&mut lab, mac(9));
    let before = observer.back.word(&observer.domain, "forwarding-table-ref0").expect("a table");
    let peer = observer.table.as_ref().and_then(|table| table.lookup(mac(0), 0)).expect("a peer");
    lab.kill_backend();
    lab.start_backend();
    lab.steps(10);
    assert_eq!(lab.backend.counters().adopted, 2);
    let refs = observer.back.refs::<16>(&observer.domain, key::FORWARDING_TABLE_REF, 4);
    let refs = refs.expect("a table");
    assert_ne!(refs[0].0, before, "the old pages cannot be opened again");
    use xenvelope_grant::seam::{Access, Share as _};
    let words = observer.domain.import(xenvelope_grant::DomId::DOM0, &refs, Access::Read);
    let table = xenvelope_switch::table::TableReader::attach(words.expect("ours to read"));
    let table = table.expect("a table");
    assert_eq!(table.epoch(), 2);
    let after = table.lookup(mac(0), 0).expect("an entry");
    assert_eq!(after.peer.domid, peer.peer.domid);
    assert!(after.peer.incarnation > peer.peer.incarnation);
}

/// Hangs on `direct` being removed before anything else is arranged.
#[test]
fn direct_channels_of_the_life_before_are_not_taken_for_new_ones() {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    lab.all_routes(PairRoute::Direct);
    lab.run_until("a direct channel", |lab| lab.guests[0].frontend.direct_channels() == 1);
    lab.kill_backend();
    lab.steps(5);
    assert_eq!(lab.guests[0].frontend.direct_channels(), 1, "it needs no driver domain");
    lab.start_backend();
    lab.manager().set_all_routes(PairRoute::Switch);
    lab.steps(20);
    assert_eq!(lab.guests[0].frontend.direct_channels(), 0);
    lab.all_routes(PairRoute::Direct);
    lab.run_until("a direct channel", |lab| lab.guests[1].frontend.direct_channels() == 1);
    lab.expect_delivery(0, 1, &[1; 1000]);
    lab.expect_delivery(1, 0, &[1; 1000]);
}

/// The process was killed after it had written answers and before it published them. Hangs on
/// `salvage_tx` and `salvage_rx`.
#[test]
fn answers_that_were_not_published_are_not_taken_for_requests() {
    let mut lab = Lab::default();
    let mut one = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
    let mut other = StockGuest::connect(&mut lab, mac(2), &StockPlan::default());
    lab.steps(5);
    lab.kill_backend();
    let bytes = frame(mac(2), mac(1), &[1; 100]);
    for _ in 0..3 {
        one.send(0, &bytes, TxFlags::empty(), None);
    }
    // Id 0 and RSP_OKAY in the first two transmit slots, in the place of the reference.
    let slot = |index: usize, stride: usize| 64 + index * stride;
    for index in 0..2usize {
        let words = one.queues[0].tx.words();
        words.copy_in(slot(index, 12), &(index as u32).to_le_bytes());
    }
    // A frame of three slots in the receive ring: 4096 bytes, an extra info, 100 bytes.
    let (first, last) = (0x1000_000eu32, 0x0064_0000u32);
    let extra = [[1, 0, 0xa8, 5], [1, 0, 0, 0]].concat();
    let words = other.queues[0].rx.words();
    words.copy_in(slot(0, 8) + 4, &first.to_le_bytes());
    words.copy_in(slot(1, 8), &extra);
    words.copy_in(slot(2, 8) + 4, &last.to_le_bytes());
    lab.start_backend();
    lab.steps(5);
    one.reap();
    assert_eq!(one.unanswered(), 0);
    assert_eq!(one.queues[0].refused, 2);
    // Three buffers come back with errors, the fourth with the frame that was left.
    let came = other.queues[0].rx.next_index() - other.queues[0].rx.outstanding();
    assert_eq!(came, 0);
    let frames = other.take();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].bytes, bytes);
    assert_eq!(other.queues[0].rx.outstanding(), 252);
}

/// Hangs on `EnvelopeChannel::resume`: indices that cannot be end that interface only.
#[test]
fn a_guest_that_wrote_nonsense_while_nobody_looked_is_closed_and_others_are_taken_over() {
    for which in 0..3 {
        let mut lab = Lab::with_guests(2, &GuestPlan::default());
        let hostile = HostileGuest::connect(&mut lab, mac(9));
        lab.kill_backend();
        let channel = xenvelope_switch::channel::LAYOUT;
        match which {
            0 => HostileGuest::overrun(hostile.receive.words(), channel.rsp_prod),
            1 => HostileGuest::overrun(hostile.receive.words(), channel.req_prod),
            _ => HostileGuest::overrun(hostile.tx.words(), 0),
        }
        lab.start_backend();
        lab.steps(20);
        assert!(hostile.is_closed(), "ring {which}");
        assert_eq!(lab.backend.connected(), 2);
        lab.expect_delivery(0, 1, &[1; 1000]);
        lab.expect_delivery(1, 0, &[1; 1000]);
    }
}

/// Hangs on `ReceiveWindow` accepting a stream in its middle, and on the sender's time-out.
#[test]
fn frames_in_envelopes_for_stock_guests_go_on_and_their_grants_come_back() {
    let mut lab = Lab::default();
    lab.add_guest(&GuestPlan::default());
    lab.connect();
    let mut stock = StockGuest::connect(&mut lab, mac(5), &StockPlan::default());
    lab.steps(20);
    for lives in 0..4 {
        for number in 0..70 {
            lab.guests[0].send(&frame(mac(5), mac(0), &numbered(number, 1000)));
            lab.steps(1);
        }
        lab.steps(5);
        assert!(stock.take().len() >= 70);
        stock.post_all(256);
        // Envelopes that nobody has taken, and some that the dead process took.
        for number in 0..10 {
            lab.guests[0].send(&frame(mac(5), mac(0), &numbered(number, 1000)));
        }
        lab.guests[0].turn(lab.now);
        if lives % 2 == 0 {
            lab.backend.poll(lab.now);
        }
        lab.kill_backend();
        lab.start_backend();
        lab.steps(20);
        let came = stock.take();
        assert!(came.len() >= 10, "life {lives}: {}", came.len());
        stock.post_all(256);
        lab.pass_ms(700);
        assert_eq!(lab.guests[0].frontend.outstanding(), 0);
        assert_eq!(lab.guests[0].counters().bad_dones, 0);
    }
}

/// Hangs on `MAX_QUEUES` in `adopt`, and on `NoEnvelopes`.
#[test]
fn a_process_with_another_configuration_takes_over_what_it_can() {
    let mut lab = Lab::configured(true, Config { queues: 8, ..Config::default() });
    lab.add_guest(&GuestPlan::default());
    lab.connect();
    let plan = StockPlan { queues: 8, ..StockPlan::default() };
    let stock = StockGuest::connect(&mut lab, mac(5), &plan);
    lab.kill_backend();
    lab.backend_config.queues = 1;
    lab.backend_config.envelopes = false;
    lab.start_backend();
    lab.steps(20);
    assert_eq!(stock.backend(), XenbusState::Connected);
    assert_eq!(lab.guests[0].frontend.link(), Link::Closed);
}
