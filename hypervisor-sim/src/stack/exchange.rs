//! Frames of a fixed pattern between all guests of a host, without a stack: so that what a packet
//! costs is what frontends and switch make it cost, and is the same packets whatever the way.
//!
//! Guests go in pairs. In each turn a guest sends `busy` frames to its partner and one frame to
//! each of `light` others, another choice in each turn, so that it reaches all in time. It begins
//! the next turn when it has got all frames of this one that are for it: so nobody is sent more
//! than its rings hold, and everybody goes as fast as the slowest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use smoltcp::phy::{Device, RxToken, TxToken};
use smoltcp::time::Instant as SmolInstant;
use xenvelope_grant::seam::Instant;
use xenvelope_switch::MacAddress;

/// IEEE 802, local experimental EtherType 2: no stack takes it, and envelopes have the first.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb6];
/// Ethernet header, sender's number, sequence number.
const HEAD: usize = 14 + 2 + 8;
/// When nothing has come for so long, a frame of the turn is lost.
const LOST: Duration = Duration::from_millis(200);

/// What is exchanged; the same at all guests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// The guests' addresses: an even number of them, at least two. The partner of guest 2n is
    /// 2n+1.
    pub macs: Vec<MacAddress>,
    /// Frames to the partner in each turn.
    pub busy: usize,
    /// Others that get one frame in each turn; at most all but the partner do.
    pub light: usize,
    /// Bytes of a frame, Ethernet header included: 60 to 1514.
    pub frame: usize,
}

impl Pattern {
    /// How many others there are, beside the partner.
    fn others(&self) -> usize {
        self.macs.len() - 2
    }

    /// Frames that a guest sends in a turn: it gets as many.
    pub fn per_turn(&self) -> usize {
        self.busy + self.light.min(self.others())
    }

    /// The `k`th of the others of guest `of`. For each `k` every guest is the `k`th of one other,
    /// so that all get as many frames as they send.
    fn other(&self, of: usize, k: usize) -> usize {
        let pairs = self.macs.len() / 2;
        2 * ((of / 2 + 1 + k / 2) % pairs) + ((of % 2) ^ (k % 2))
    }

    /// To whom guest `of` sends in a turn, in order.
    fn destinations(&self, of: usize, turn: u64) -> impl Iterator<Item = usize> + '_ {
        let (others, light) = (self.others(), self.light.min(self.others()));
        let first = (turn as usize).wrapping_mul(light);
        let to_others = (0..light).map(move |n| self.other(of, first.wrapping_add(n) % others));
        std::iter::repeat_n(of ^ 1, self.busy).chain(to_others)
    }
}

/// What one guest has done in an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExchangeCounts {
    /// Turns that it has sent.
    pub turns: u64,
    /// Frames of the exchange that it got.
    pub received: u64,
    /// Frames that were not as they were sent, or not in the order in which they were sent.
    pub wrong: u64,
    /// Turns in which a frame was lost.
    pub lost: u64,
}

/// One guest's part of an exchange.
#[derive(Debug)]
pub struct Exchange {
    pattern: Arc<Pattern>,
    me: usize,
    stop: Arc<AtomicBool>,
    counts: ExchangeCounts,
    /// What is still to be sent of this turn, last first.
    staged: Vec<usize>,
    /// Frames that have come by the end of the turns so far.
    expected: u64,
    sequence: u64,
    /// The last sequence number of each sender.
    seen: Vec<u64>,
    progressed_at: Instant,
}

impl Exchange {
    /// The part of guest number `me`, until `stop`.
    pub fn new(pattern: Arc<Pattern>, me: usize, stop: Arc<AtomicBool>, now: Instant) -> Exchange {
        let seen = vec![0; pattern.macs.len()];
        let counts = ExchangeCounts::default();
        let (staged, expected, sequence) = (Vec::new(), 0, 0);
        let progressed_at = now;
        Exchange { pattern, me, stop, counts, staged, expected, sequence, seen, progressed_at }
    }

    /// What it has done so far.
    pub fn counts(&self) -> ExchangeCounts {
        self.counts
    }

    /// One turn of the guest's loop. Whether anything happened.
    pub fn step(&mut self, device: &mut impl Device, now: Instant) -> bool {
        let time = SmolInstant::from_micros((now.0 / 1000) as i64);
        let mut moved = false;
        while let Some((token, _)) = device.receive(time) {
            token.consume(|frame| self.take(frame));
            moved = true;
        }
        if moved {
            self.progressed_at = now;
        }
        if self.staged.is_empty() && !self.stop.load(Relaxed) {
            if self.counts.received < self.expected && now.since(self.progressed_at) >= LOST {
                self.counts.lost += 1;
                self.expected = self.counts.received;
            }
            if self.counts.received >= self.expected {
                self.staged.extend(self.pattern.destinations(self.me, self.counts.turns));
                self.staged.reverse();
                self.counts.turns += 1;
                self.expected += self.pattern.per_turn() as u64;
                self.progressed_at = now;
            }
        }
        while let Some(to) = self.staged.pop() {
            let Some(token) = device.transmit(time) else {
                self.staged.push(to);
                break;
            };
            token.consume(self.pattern.frame, |frame| self.build(to, frame));
            moved = true;
        }
        moved
    }

    fn build(&mut self, to: usize, frame: &mut [u8]) {
        self.sequence += 1;
        frame[..6].copy_from_slice(&self.pattern.macs[to].0);
        frame[6..12].copy_from_slice(&self.pattern.macs[self.me].0);
        frame[12..14].copy_from_slice(&ETHER_TYPE);
        frame[14..16].copy_from_slice(&(self.me as u16).to_be_bytes());
        frame[16..HEAD].copy_from_slice(&self.sequence.to_be_bytes());
        frame[HEAD..].fill(self.sequence as u8);
    }

    fn take(&mut self, frame: &[u8]) {
        let ours = frame.len() >= HEAD
            && frame[..6] == self.pattern.macs[self.me].0
            && frame[12..14] == ETHER_TYPE;
        if !ours {
            return;
        }
        self.counts.received += 1;
        let from = usize::from(u16::from_be_bytes([frame[14], frame[15]]));
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&frame[16..HEAD]);
        let sequence = u64::from_be_bytes(sequence);
        let right = frame.len() == self.pattern.frame
            && self.pattern.macs.get(from).is_some_and(|mac| frame[6..12] == mac.0)
            && self.seen[from] < sequence
            && frame[HEAD..].iter().all(|byte| *byte == sequence as u8);
        if right {
            self.seen[from] = sequence;
        } else {
            self.counts.wrong += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use smoltcp::phy::{DeviceCapabilities, Medium};

    use super::*;

    fn pattern(guests: u8, busy: usize, light: usize) -> Pattern {
        let macs = (0..guests).map(|n| MacAddress([2, 0, 0, 0, 0, n])).collect();
        Pattern { macs, busy, light, frame: 600 }
    }

    #[test]
    fn everybody_gets_as_many_frames_in_a_turn_as_it_sends_and_reaches_all_in_time() {
        for (guests, light) in [(2, 8), (4, 8), (6, 3), (16, 8), (34, 5)] {
            let pattern = pattern(guests, 3, light);
            let n = usize::from(guests);
            let mut reached = BTreeMap::<(usize, usize), usize>::new();
            for turn in 0..200 {
                let mut got = vec![0; n];
                for of in 0..n {
                    for to in pattern.destinations(of, turn) {
                        assert_ne!(of, to, "{guests} guests, turn {turn}");
                        got[to] += 1;
                        *reached.entry((of, to)).or_default() += 1;
                    }
                }
                assert!(got.iter().all(|got| *got == pattern.per_turn()), "{guests}: {got:?}");
            }
            assert_eq!(reached.len(), n * (n - 1), "{guests} guests");
            assert_eq!(reached[&(0, 1)], 600, "{guests} guests");
        }
    }

    /// A device whose frames are taken and put by hand.
    #[derive(Default)]
    struct ByHand {
        out: Vec<Vec<u8>>,
        into: VecDeque<Vec<u8>>,
    }

    struct Give(Vec<u8>);
    struct Keep<'a>(&'a mut Vec<Vec<u8>>);

    impl RxToken for Give {
        fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
            read(&self.0)
        }
    }

    impl TxToken for Keep<'_> {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, build: F) -> R {
            let mut frame = vec![0; len];
            let result = build(&mut frame);
            self.0.push(frame);
            result
        }
    }

    impl Device for ByHand {
        type RxToken<'a> = Give;
        type TxToken<'a> = Keep<'a>;
        fn receive(&mut self, _: SmolInstant) -> Option<(Give, Keep<'_>)> {
            Some((Give(self.into.pop_front()?), Keep(&mut self.out)))
        }
        fn transmit(&mut self, _: SmolInstant) -> Option<Keep<'_>> {
            Some(Keep(&mut self.out))
        }
        fn capabilities(&self) -> DeviceCapabilities {
            let mut capabilities = DeviceCapabilities::default();
            capabilities.medium = Medium::Ethernet;
            capabilities
        }
    }

    fn one(pattern: &Arc<Pattern>, me: usize) -> Exchange {
        Exchange::new(Arc::clone(pattern), me, Arc::default(), Instant(0))
    }

    #[test]
    fn a_turn_begins_when_the_last_one_has_come_or_its_frames_are_lost() {
        let pattern = Arc::new(pattern(2, 4, 0));
        let (mut a, mut b) = (one(&pattern, 0), one(&pattern, 1));
        let (mut at_a, mut at_b) = (ByHand::default(), ByHand::default());
        a.step(&mut at_a, Instant(1));
        b.step(&mut at_b, Instant(1));
        assert_eq!((at_a.out.len(), at_b.out.len()), (4, 4));
        at_b.into.extend(at_a.out.drain(..));
        b.step(&mut at_b, Instant(2));
        assert_eq!((b.counts().turns, b.counts().received, b.counts().wrong), (2, 4, 0));
        // Three of four come to a: it waits, and then gives the fourth up.
        at_a.into.extend(at_b.out.drain(..3));
        a.step(&mut at_a, Instant(2));
        a.step(&mut at_a, Instant(100_000_000));
        assert_eq!((a.counts().turns, a.counts().lost), (1, 0));
        a.step(&mut at_a, Instant(300_000_000));
        assert_eq!((a.counts().turns, a.counts().lost), (2, 1));
    }

    #[test]
    fn frames_that_are_changed_or_come_twice_or_late_are_wrong() {
        let pattern = Arc::new(pattern(2, 4, 0));
        let (mut a, mut b) = (one(&pattern, 0), one(&pattern, 1));
        let (mut at_a, mut at_b) = (ByHand::default(), ByHand::default());
        a.step(&mut at_a, Instant(1));
        let sent = std::mem::take(&mut at_a.out);
        let mut flipped = sent[3].clone();
        flipped[599] ^= 1;
        at_b.into.extend([sent[1].clone(), sent[0].clone(), sent[1].clone(), flipped]);
        b.step(&mut at_b, Instant(2));
        assert_eq!((b.counts().received, b.counts().wrong), (4, 3));
    }
}
