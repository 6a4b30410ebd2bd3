//! Sequence numbers between two guests: what is outstanding at the sender, what has come at the
//! receiver.
//!
//! Envelopes of one sender to one peer are numbered from 0 in each epoch. The receiver accepts
//! each number once; its done says which are finished. A hole (an envelope that was lost) is
//! forgotten when the window has moved past it: the sender's time-out revokes what it granted,
//! and an envelope of unknown fate is never sent again.

use core::hash::Hasher;

use crate::envelope::Done;
use alloc::collections::VecDeque;
use siphasher::sip::SipHasher13;
use thiserror::Error;
use xenvelope_grant::seam::Instant;

/// How many envelopes of one sender may be outstanding.
pub const WINDOW: u32 = 256;

/// Why an envelope is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Rejected {
    /// It came before.
    #[error("the envelope came before")]
    Duplicate,
    /// It is older than the window: it may have come before.
    #[error("the envelope is older than the window")]
    TooOld,
}

/// Why a done is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadDone {
    /// It is about another epoch.
    #[error("the done is about another epoch")]
    OtherEpoch,
    /// It acknowledges an envelope that was never sent.
    #[error("the done acknowledges what was never sent")]
    NeverSent,
    /// It does not know the nonce of what it acknowledges.
    #[error("the done does not know the nonce")]
    WrongNonce,
}

/// The sender's half: envelopes that are out, and the grants in them.
pub struct SendWindow<O> {
    epoch: u32,
    key: (u64, u64),
    next: u32,
    /// One more than the newest that the peer has said done of.
    reached: u32,
    outstanding: VecDeque<Sent<O>>,
    /// Bytes of those.
    bytes: u64,
}

/// A granted frame that is out.
pub struct Sent<O> {
    /// Of its envelope.
    pub sequence: u32,
    /// The grant.
    pub out: O,
    /// Bytes of the frame.
    pub bytes: u32,
    /// When it was sent.
    pub at: Instant,
}

impl<O> SendWindow<O> {
    /// A window with nothing outstanding. The epoch and the key are random numbers that the peer
    /// (epoch) and nobody (key) knows.
    pub fn new(epoch: u32, key: (u64, u64)) -> SendWindow<O> {
        SendWindow { epoch, key, next: 0, reached: 0, outstanding: VecDeque::new(), bytes: 0 }
    }

    /// Our epoch with this peer.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The next envelope's sequence number, if the window has room for it.
    #[inline]
    pub fn open(&self) -> Option<u32> {
        let oldest = self.outstanding.front().map_or(self.next, |sent| sent.sequence);
        (self.next.wrapping_sub(oldest) < WINDOW).then_some(self.next)
    }

    /// How many more envelopes the window has room for.
    #[inline]
    pub fn room(&self) -> u32 {
        let oldest = self.outstanding.front().map_or(self.next, |sent| sent.sequence);
        WINDOW.saturating_sub(self.next.wrapping_sub(oldest))
    }

    /// The nonce of a sequence number: a keyed hash, so that nothing need be kept and nobody can
    /// guess the next.
    #[inline]
    pub fn nonce(&self, sequence: u32) -> u64 {
        let mut hash = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hash.write_u32(self.epoch);
        hash.write_u32(sequence);
        hash.finish()
    }

    /// The envelope with the number that [`SendWindow::open`] gave has been sent.
    #[inline]
    pub fn sent(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    /// Keeps a grant of the envelope `sequence`, for a frame of so many bytes, until it is done.
    #[inline]
    pub fn keep(&mut self, sequence: u32, out: O, bytes: u32, at: Instant) {
        self.bytes += u64::from(bytes);
        self.outstanding.push_back(Sent { sequence, out, bytes, at });
    }

    /// It is out no longer.
    fn ended(&mut self, sent: Sent<O>) -> O {
        self.bytes -= u64::from(sent.bytes);
        sent.out
    }

    /// The oldest grant, if it is one of those.
    fn oldest_if(&mut self, ends: impl FnOnce(&Sent<O>) -> bool) -> Option<O> {
        if !ends(self.outstanding.front()?) {
            return None;
        }
        let sent = self.outstanding.pop_front()?;
        Some(self.ended(sent))
    }

    /// Takes back the grants of an envelope that could not be sent after all, newest first.
    pub fn unsent(&mut self, sequence: u32) -> Option<O> {
        if self.outstanding.back()?.sequence != sequence {
            return None;
        }
        let sent = self.outstanding.pop_back()?;
        Some(self.ended(sent))
    }

    /// Whether nothing of what was sent, inline frames too, can arrive any more: the peer has said
    /// done of the last envelope. No path lets one overtake another, so those that it has not said
    /// done of are lost.
    pub fn all_done(&self) -> bool {
        self.reached == self.next
    }

    /// Whether neither an envelope nor any before it can arrive any more.
    pub fn is_done(&self, sequence: u32) -> bool {
        self.reached.wrapping_sub(sequence) as i32 > 0
    }

    /// Whatever the peer has not said done of by now is lost, or it will never say.
    pub fn give_up(&mut self) {
        self.reached = self.next;
    }

    /// Whether half of the window is in use: the peer should say done soon.
    #[inline]
    pub fn half_full(&self) -> bool {
        let oldest = self.outstanding.front().map_or(self.next, |sent| sent.sequence);
        self.next.wrapping_sub(oldest) > WINDOW / 2
    }

    /// How many grants are out.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// How many bytes the frames have that are out.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks a peer's done. Nothing is changed.
    #[inline]
    pub fn check(&self, done: &Done) -> Result<(), BadDone> {
        if done.epoch != self.epoch {
            return Err(BadDone::OtherEpoch);
        }
        // The newest acknowledged is one that was sent. How long ago does not matter: dones may
        // overtake each other, and an old one finishes nothing.
        let newest = done.newest();
        if self.next.wrapping_sub(newest) as i32 <= 0 {
            return Err(BadDone::NeverSent);
        }
        if done.nonce != self.nonce(newest) { Err(BadDone::WrongNonce) } else { Ok(()) }
    }

    /// The oldest grants, up to the first that a done does not finish.
    pub fn oldest_done(&mut self, done: &Done) -> impl Iterator<Item = &mut O> {
        let outstanding = self.outstanding.iter_mut();
        outstanding.take_while(|sent| done.covers(sent.sequence)).map(|sent| &mut sent.out)
    }

    /// The grants that a done, which has been checked, finishes.
    pub fn finish(&mut self, done: &Done, mut finished: impl FnMut(O)) {
        let reached = done.newest().wrapping_add(1);
        if reached.wrapping_sub(self.reached) as i32 > 0 {
            self.reached = reached;
        }
        while let Some(out) = self.oldest_if(|sent| done.covers(sent.sequence)) {
            finished(out);
        }
        if done.selective != 0 {
            let mut index = 0;
            while index < self.outstanding.len() {
                if done.covers(self.outstanding[index].sequence) {
                    if let Some(sent) = self.outstanding.remove(index) {
                        finished(self.ended(sent));
                    }
                } else {
                    index += 1;
                }
            }
        }
    }

    /// The oldest grant, if it was sent before `deadline`: nobody has said done in time.
    pub fn expired(&mut self, deadline: Instant) -> Option<O> {
        self.oldest_if(|sent| sent.at < deadline)
    }
}

/// How far beyond a hole a receiver looks: as many as a done's selective part has bits.
const REACH: u32 = 64;

/// The receiver's half: which envelopes have come.
pub struct ReceiveWindow {
    epoch: Option<u32>,
    /// All before it have come or are given up, and the one right before it has come.
    base: u32,
    /// Bit `i`: `base + 1 + i` has come. `base` itself has not.
    seen: u64,
    /// Of the last envelopes, by sequence number: a done proves itself with one.
    nonces: [u64; REACH as usize + 1],
    /// Granted frames that no done has told of.
    unacknowledged: u32,
    since: Option<Instant>,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        ReceiveWindow {
            epoch: None,
            base: 0,
            seen: 0,
            nonces: [0; REACH as usize + 1],
            unacknowledged: 0,
            since: None,
        }
    }
}

impl ReceiveWindow {
    /// Whether an envelope may be accepted. Nothing is changed: on a path that cannot vouch for
    /// the source, the window moves only after the tag has been compared.
    ///
    /// However far ahead it is, it may: all between may have been lost.
    pub fn check(&self, epoch: u32, sequence: u32) -> Result<(), Rejected> {
        if self.epoch != Some(epoch) {
            return Ok(());
        }
        match sequence.wrapping_sub(self.base) {
            0 => Ok(()),
            ahead if ahead <= REACH && self.seen >> (ahead - 1) & 1 == 1 => {
                Err(Rejected::Duplicate)
            }
            ahead if ahead > u32::MAX / 2 => Err(Rejected::TooOld),
            _ => Ok(()),
        }
    }

    /// Accepts an envelope that was checked. So many frames in it were `granted`: the sender may be
    /// waiting for its buffers.
    #[inline]
    pub fn accept(&mut self, epoch: u32, sequence: u32, nonce: u64, granted: u32, now: Instant) {
        if self.epoch != Some(epoch) {
            *self = ReceiveWindow { epoch: Some(epoch), ..ReceiveWindow::default() };
        }
        let slot = |sequence: u32| (sequence % (REACH + 1)) as usize;
        self.nonces[slot(sequence)] = nonce;
        match sequence.wrapping_sub(self.base) {
            0 => {
                // On to the next that has not come.
                let run = self.seen.trailing_ones();
                self.base = self.base.wrapping_add(run + 1);
                self.seen = self.seen.checked_shr(run + 1).unwrap_or(0);
            }
            ahead if ahead <= REACH => self.seen |= 1 << (ahead - 1),
            _ => {
                // Holes that are left behind are given up: the sender's time-out has them.
                self.base = sequence.wrapping_add(1);
                self.seen = 0;
            }
        }
        self.unacknowledged = self.unacknowledged.saturating_add(granted);
        self.since.get_or_insert(now);
    }

    /// What is finished, if anything ever came.
    #[inline]
    pub fn done(&self) -> Option<Done> {
        let epoch = self.epoch?;
        let mut done = Done { epoch, cumulative: self.base, selective: self.seen, nonce: 0 };
        done.nonce = self.nonces[(done.newest() % (REACH + 1)) as usize];
        Some(done)
    }

    /// A done has been sent.
    #[inline]
    pub fn told(&mut self) {
        self.unacknowledged = 0;
        self.since = None;
    }

    /// Granted frames are finished at last. If a done was sent after they had come it did not tell
    /// of them: another is owed.
    #[inline]
    pub fn owe(&mut self, frames: u32, now: Instant) {
        if self.since.is_none() && self.epoch.is_some() {
            self.unacknowledged = frames;
            self.since = Some(now);
        }
    }

    /// The same envelopes have come, and nobody is owed a done of them.
    pub fn come_so_far(&self) -> ReceiveWindow {
        ReceiveWindow {
            epoch: self.epoch,
            base: self.base,
            seen: self.seen,
            nonces: self.nonces,
            ..ReceiveWindow::default()
        }
    }

    /// Granted frames that no done has told of.
    #[inline]
    pub fn unacknowledged(&self) -> u32 {
        self.unacknowledged
    }

    /// Since when the oldest envelope waits that no done has told of.
    #[inline]
    pub fn waiting_since(&self) -> Option<Instant> {
        self.since
    }

    /// Our peer's epoch, if we know one.
    pub fn epoch(&self) -> Option<u32> {
        self.epoch
    }
}

#[cfg(test)]
mod tests;
