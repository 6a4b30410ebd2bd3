//! Done against time-out, and buffers that go back and forth, model checked: a buffer is used
//! again by one of a done and a time-out, never by both, and no envelope delivers bytes that were
//! not sent with it.
//!
//! **Done against time-out.** Envelopes and dones go over a ring, the frame's page is granted by
//! an entry of the grant table: the words of both. Sender and receiver are `SendWindow` and
//! `ReceiveWindow`, each of one owner. The frame's tag is in the page in front of its bytes.
//!
//! **Pools.** Where pages stay granted to a peer (Linux's gntalloc) the done alone hands a page
//! back, and no entry changes: the words are the ring's. The other way round, what the driver
//! domain writes into for us is lent by a request and handed back by a response.
//!
//! **Bounds.** Two threads, a ring of two slots of 12 bytes, one page of 8 bytes that is used
//! twice, two envelopes; at most 3 preemptions.
//!
//! loom never delays a load past a later store. So that a done's index is published with Release,
//! after the loads of the copy, is not shown to be needed here; that the copy comes first is.

use std::sync::Arc;

use loom::thread;
use xenvelope_grant::Words;
use xenvelope_grant::seam::{Access, Instant};
use xenvelope_switch::Done;
use xenvelope_switch::window::{ReceiveWindow, SendWindow};
use xenvelope_tests::loom_domain::{Domain, KINDS, Kind, PAGE, PEER, REF, page};
use xenvelope_tests::loom_ring::{self, LAYOUT, LoomBack, LoomFront, ring};
use xenvelope_tests::loom_words::{Event, LoomMemory, LoomWords, Weakness, caught, check};

/// Of an envelope its sequence number and nonce, of a done what it covers and a nonce.
type Slot = loom_ring::Slot<3>;
type F = LoomFront<3>;
type B = LoomBack<3>;

const EPOCH: u32 = 5;
const NOW: Instant = Instant(0);
const PREEMPTIONS: usize = 3;
const OTHER_FRAME: &str = "not the bytes that were sent with the envelope";
const NOT_DONE: &str = "done was said before the copy was over";

fn slot(number: u32, nonce: u64) -> Slot {
    [number, nonce as u32, (nonce >> 32) as u32]
}

fn nonce_of(slot: Slot) -> u64 {
    u64::from(slot[1]) | u64::from(slot[2]) << 32
}

/// A page with a tag and a frame.
fn tagged(tag: u32, frame: u32) -> [u8; PAGE] {
    (u64::from(tag) | u64::from(frame) << 32).to_le_bytes()
}

fn untagged(bytes: [u8; PAGE]) -> (u32, u32) {
    let both = u64::from_le_bytes(bytes);
    (both as u32, (both >> 32) as u32)
}

/// The bytes of the frame that goes with an envelope.
fn frame(sequence: u32) -> u32 {
    0x1000 | sequence
}

/// What a model of done against time-out runs with.
#[derive(Clone, Copy)]
struct Rules {
    owner: Weakness,
    hypervisor: Weakness,
    /// The sender revokes what has timed out before it uses it again.
    revokes: bool,
    /// The receiver compares the tag.
    compares: bool,
    /// The receiver says done after its copy.
    copies_first: bool,
}

const RULES: Rules = Rules {
    owner: Weakness::None,
    hypervisor: Weakness::None,
    revokes: true,
    compares: true,
    copies_first: true,
};

/// Takes what has come, copies it, says done. Which frames were delivered.
fn receive(kind: Kind, domain: &Domain, mut back: B, rules: Rules) -> thread::JoinHandle<Vec<u32>> {
    let mut hypervisor = domain.hypervisor(rules.hypervisor);
    thread::spawn(move || {
        let (mut window, mut delivered) = (ReceiveWindow::default(), Vec::new());
        for _ in 0..2 {
            for _ in 0..back.pending().expect("a good index") {
                let envelope = back.pop();
                let (sequence, nonce) = (envelope[0], nonce_of(envelope));
                window.check(EPOCH, sequence).expect("it has not come before");
                window.accept(EPOCH, sequence, nonce, 1, NOW);
                let mut say_done = || {
                    let done = window.done().expect("something has come");
                    back.push(&slot(done.cumulative, done.nonce)).expect("a request to answer");
                    let _ = back.publish();
                };
                if !rules.copies_first {
                    say_done();
                }
                let copied = hypervisor.copy(Access::Read, |pages, extent| {
                    assert_eq!(extent, kind.seen(1), "{OTHER_FRAME}");
                    page(pages, 1)
                });
                let found = copied.map(untagged).ok();
                if let Some((_, bytes)) =
                    found.filter(|(tag, _)| *tag == nonce as u32 || !rules.compares)
                {
                    assert_eq!(bytes, frame(sequence), "{OTHER_FRAME}");
                    delivered.push(sequence);
                }
                if rules.copies_first {
                    say_done();
                }
            }
        }
        delivered
    })
}

/// Envelopes that dones finish.
fn take_dones(front: &mut F, window: &mut SendWindow<u32>) -> Vec<u32> {
    let mut finished = Vec::new();
    for _ in 0..front.pending().expect("a good index") {
        let said = front.pop();
        let done = Done { epoch: EPOCH, cumulative: said[0], selective: 0, nonce: nonce_of(said) };
        window.check(&done).expect("an honest done");
        window.finish(&done, |sequence| finished.push(sequence));
    }
    finished
}

/// The sender sends a frame in a page, looks once whether it is done, lets it time out if not,
/// and sends another frame to the same peer in the same page, by the same reference.
fn done_or_time_out(kind: Kind, rules: Rules) {
    let (mut front, back) = ring::<3>(0, Weakness::None, Weakness::None);
    let domain = Domain::new(kind);
    let owner = domain.owner(rules.owner);
    let mut window = SendWindow::new(EPOCH, (1, 2));
    let send = |front: &mut F, window: &mut SendWindow<u32>| {
        let sequence = window.open().expect("room in the window");
        let nonce = window.nonce(sequence);
        owner.write(1, tagged(nonce as u32, frame(sequence)));
        owner.grant(1, PEER, Access::Read);
        window.keep(sequence, sequence, 1, NOW);
        window.sent();
        front.push(&slot(sequence, nonce)).expect("a free slot");
        let _ = front.publish();
    };
    let receiver = receive(kind, &domain, back, rules);
    send(&mut front, &mut window);

    let finished = take_dones(&mut front, &mut window);
    let timed_out = window.expired(Instant::FAR_FUTURE);
    assert_eq!(finished.len() + usize::from(timed_out.is_some()), 1, "one of the two has it");
    let free = owner.table.revoke(REF).is_ok();
    if free || !rules.revokes {
        send(&mut front, &mut window);
    }
    let delivered = receiver.join().expect("the receiver ends");
    let late = take_dones(&mut front, &mut window);
    assert!(!late.contains(&0), "a late done hands back what has been handed back");
    assert!(finished.is_empty() || delivered.contains(&0), "{NOT_DONE}");
    assert!(finished.is_empty() || free, "{NOT_DONE}");
}

/// What a model of pages that stay granted runs with.
#[derive(Clone, Copy)]
struct Pool {
    sender: Weakness,
    receiver: Weakness,
    /// The sender waits for the done.
    waits: bool,
    /// The receiver says done after its copy.
    copies_first: bool,
}

const POOL: Pool =
    Pool { sender: Weakness::None, receiver: Weakness::None, waits: true, copies_first: true };

/// Two frames go through one page that the peer may read all the time. If no done comes for the
/// first the page is never used again: it is freed, and the kernel keeps it while it is mapped.
fn pool_hand_back(pool: Pool) {
    let (mut front, mut back) = ring::<3>(0, pool.sender, pool.receiver);
    let pages = LoomMemory::new().with_u32(0..PAGE).share();
    let seen = LoomWords::of(&pages);
    let receiver = thread::spawn(move || {
        for _ in 0..2 {
            for _ in 0..back.pending().expect("a good index") {
                let [sequence, ..] = back.pop();
                let mut say_done = || {
                    back.push(&slot(sequence, 0)).expect("a request to answer");
                    let _ = back.publish();
                };
                if !pool.copies_first {
                    say_done();
                }
                let found = page(&seen, 0);
                assert_eq!(found, tagged(sequence, frame(sequence)), "{OTHER_FRAME}");
                if pool.copies_first {
                    say_done();
                }
            }
        }
    });
    let pages = LoomWords::of(&pages);
    for sequence in 0..2 {
        pages.copy_in(0, &tagged(sequence, frame(sequence)));
        front.push(&slot(sequence, 0)).expect("a free slot");
        let _ = front.publish();
        if pool.waits && front.pending() != Ok(1) {
            break;
        }
    }
    receiver.join().expect("the receiver ends");
}

/// We lend the driver domain a page, it writes a frame into it and hands it back, twice.
fn area_hand_back(front: Weakness, back: Weakness, reads_first: bool) {
    let (mut front, mut back) = ring::<3>(0, front, back);
    let pages = LoomMemory::new().with_u32(0..PAGE).share();
    let theirs = LoomWords::of(&pages);
    let lent = Arc::new(Event::new());
    let returned = Arc::new(Event::new());
    let (on_lent, tell_returned) = (Arc::clone(&lent), Arc::clone(&returned));
    let writer = thread::spawn(move || {
        for number in 0..2 {
            while back.pending_or_ask().expect("a good index") == 0 {
                on_lent.wait();
            }
            let _ = back.pop();
            theirs.copy_in(0, &tagged(number, frame(number)));
            back.push(&slot(number, 0)).expect("a request to answer");
            if back.publish() {
                tell_returned.notify();
            }
        }
    });
    let ours = LoomWords::of(&pages);
    let lend = |front: &mut F, number| {
        front.push(&slot(number, 0)).expect("a free slot");
        if front.publish() {
            lent.notify();
        }
    };
    lend(&mut front, 0);
    for number in 0..2 {
        while front.pending_or_ask().expect("a good index") == 0 {
            returned.wait();
        }
        let _ = front.pop();
        if number == 0 && !reads_first {
            lend(&mut front, 1);
        }
        assert_eq!(page(&ours, 0), tagged(number, frame(number)), "{OTHER_FRAME}");
        if number == 0 && reads_first {
            lend(&mut front, 1);
        }
    }
    writer.join().expect("the writer ends");
}

#[test]
fn a_frame_is_handed_back_by_its_done_or_its_time_out() {
    for kind in KINDS {
        check(PREEMPTIONS, move || done_or_time_out(kind, RULES));
    }
}

#[test]
fn a_page_that_stays_granted_carries_one_frame_at_a_time() {
    check(PREEMPTIONS, || pool_hand_back(POOL));
}

#[test]
fn a_page_that_is_lent_again_holds_what_was_written_into_it_last() {
    check(PREEMPTIONS, || area_hand_back(Weakness::None, Weakness::None, true));
}

#[test]
fn a_receiver_that_does_not_compare_the_tag_is_caught() {
    for kind in KINDS {
        let rules = Rules { compares: false, ..RULES };
        caught(PREEMPTIONS, OTHER_FRAME, move || done_or_time_out(kind, rules));
    }
}

#[test]
fn a_time_out_that_does_not_revoke_is_caught() {
    for kind in KINDS {
        let rules = Rules { revokes: false, ..RULES };
        caught(PREEMPTIONS, OTHER_FRAME, move || done_or_time_out(kind, rules));
    }
}

#[test]
fn a_done_that_comes_before_its_copy_is_caught() {
    for kind in KINDS {
        let rules = Rules { copies_first: false, ..RULES };
        caught(PREEMPTIONS, NOT_DONE, move || done_or_time_out(kind, rules));
    }
    let pool = Pool { copies_first: false, ..POOL };
    caught(PREEMPTIONS, OTHER_FRAME, move || pool_hand_back(pool));
}

#[test]
fn a_time_out_whose_revoke_has_no_full_barrier_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        let owner = Rules { owner: Weakness::NoFullBarrier, ..RULES };
        caught(PREEMPTIONS, OTHER_FRAME, move || done_or_time_out(kind, owner));
        let hypervisor = Rules { hypervisor: Weakness::NoFullBarrier, ..RULES };
        caught(PREEMPTIONS, OTHER_FRAME, move || done_or_time_out(kind, hypervisor));
    }
}

#[test]
fn a_page_that_is_used_again_without_a_done_is_caught() {
    let pool = Pool { waits: false, ..POOL };
    caught(PREEMPTIONS, OTHER_FRAME, move || pool_hand_back(pool));
}

#[test]
fn a_page_that_is_handed_over_without_release_or_acquire_is_caught() {
    let sender = Pool { sender: Weakness::ReleaseRelaxed(LAYOUT.req_prod), ..POOL };
    caught(PREEMPTIONS, OTHER_FRAME, move || pool_hand_back(sender));
    let receiver = Pool { receiver: Weakness::AcquireRelaxed(LAYOUT.req_prod), ..POOL };
    caught(PREEMPTIONS, OTHER_FRAME, move || pool_hand_back(receiver));
    let back = Weakness::ReleaseRelaxed(LAYOUT.rsp_prod);
    caught(PREEMPTIONS, OTHER_FRAME, move || area_hand_back(Weakness::None, back, true));
    let front = Weakness::AcquireRelaxed(LAYOUT.rsp_prod);
    caught(PREEMPTIONS, OTHER_FRAME, move || area_hand_back(front, Weakness::None, true));
}

#[test]
fn a_page_that_is_lent_again_before_it_was_read_is_caught() {
    caught(PREEMPTIONS, OTHER_FRAME, || area_hand_back(Weakness::None, Weakness::None, false));
}
