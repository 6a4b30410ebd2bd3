//! The two halves against a model: a path that loses, repeats and delays.

extern crate std;
use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Send,
    Deliver(prop::sample::Index),
    Lose(prop::sample::Index),
    Replay(prop::sample::Index),
    Done,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Send),
        6 => any::<prop::sample::Index>().prop_map(Op::Deliver),
        1 => any::<prop::sample::Index>().prop_map(Op::Lose),
        2 => any::<prop::sample::Index>().prop_map(Op::Replay),
        2 => Just(Op::Done),
    ]
}

proptest! {
    /// Each envelope is accepted at most once, whatever the path does, and the sender gets back
    /// only what was accepted.
    #[test]
    fn nothing_is_accepted_twice_and_done_means_accepted(ops in prop::collection::vec(op(), 1..800)) {
        let mut sender = SendWindow::<u32>::new(7, (1, 2));
        let mut receiver = ReceiveWindow::default();
        let (mut underway, mut gone) = (Vec::new(), Vec::new());
        let mut accepted = BTreeSet::new();
        let mut finished = BTreeSet::new();
        for op in ops {
            match op {
                Op::Send => if let Some(sequence) = sender.open() {
                    sender.keep(sequence, sequence, 100 + sequence % 7, Instant(0));
                    sender.sent();
                    underway.push(sequence);
                },
                Op::Deliver(which) if !underway.is_empty() => {
                    let sequence = underway.remove(which.index(underway.len()));
                    gone.push(sequence);
                    if receiver.check(7, sequence).is_ok() {
                        prop_assert!(accepted.insert(sequence), "{sequence} was accepted twice");
                        receiver.accept(7, sequence, sender.nonce(sequence), 1, Instant(0));
                    }
                }
                Op::Lose(which) if !underway.is_empty() => {
                    let sequence = underway.remove(which.index(underway.len()));
                    let _ = sequence;
                }
                Op::Replay(which) if !gone.is_empty() => {
                    let sequence = gone[which.index(gone.len())];
                    if accepted.contains(&sequence) {
                        prop_assert!(receiver.check(7, sequence).is_err(), "{} came back", sequence);
                    }
                }
                Op::Done => if let Some(done) = receiver.done() {
                    if accepted.is_empty() { continue; }
                    prop_assert_eq!(sender.check(&done), Ok(()));
                    sender.finish(&done, |sequence| { finished.insert(sequence); });
                },
                _ => {}
            }
            let out = (0..sender.next).filter(|sequence| !finished.contains(sequence));
            prop_assert_eq!(sender.bytes(), out.map(|sequence| u64::from(100 + sequence % 7)).sum());
        }
        // Holes that the window gave up are acknowledged cumulatively although they never came;
        // everything else that was finished had been accepted.
        let base = receiver.done().map_or(0, |done| done.cumulative);
        for sequence in finished {
            prop_assert!(accepted.contains(&sequence) || sequence < base);
        }
    }
}

#[test]
fn a_done_for_what_was_never_sent_is_not_believed() {
    let mut sender = SendWindow::<u32>::new(1, (3, 4));
    sender.keep(0, 0, 100, Instant(0));
    sender.sent();
    let done = |cumulative, nonce| Done { epoch: 1, cumulative, selective: 0, nonce };
    assert_eq!(sender.check(&done(2, sender.nonce(1))), Err(BadDone::NeverSent));
    assert_eq!(sender.check(&done(1, sender.nonce(0) ^ 1)), Err(BadDone::WrongNonce));
    assert_eq!(sender.check(&done(0, 0)), Err(BadDone::WrongNonce));
    assert_eq!(sender.check(&Done { epoch: 2, ..done(1, 0) }), Err(BadDone::OtherEpoch));
    assert_eq!(sender.check(&done(1, sender.nonce(0))), Ok(()));
}

#[test]
fn a_full_window_opens_again_when_the_oldest_is_done() {
    let mut sender = SendWindow::<u32>::new(1, (3, 4));
    for _ in 0..WINDOW {
        let sequence = sender.open().expect("there is room");
        sender.keep(sequence, sequence, 100, Instant(5));
        sender.sent();
    }
    assert_eq!(sender.open(), None);
    assert_eq!(sender.bytes(), 100 * u64::from(WINDOW));
    assert_eq!(sender.expired(Instant(5)), None);
    assert_eq!(sender.expired(Instant(6)), Some(0));
    assert_eq!(sender.open(), Some(WINDOW));
    assert_eq!(sender.unsent(WINDOW), None, "it was not the last that was kept");
    assert_eq!(sender.unsent(WINDOW - 1), Some(WINDOW - 1));
    assert_eq!(sender.bytes(), 100 * u64::from(WINDOW - 2));
}
