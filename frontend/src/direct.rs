//! Direct channels to other guests, as the manager arranges them.
//!
//! Guests may not write in each other's part of the store, so the manager relays. For channel N
//! it makes `BACKEND/direct/N` with the peer's domid and incarnation and our role. Each side
//! grants the other the ring that it sends on; the listening side also opens the port. What a
//! side has to tell stands in its own `FRONTEND/direct/N`; what it must know of the other
//! appears in `BACKEND/direct/N`. When the manager removes that, the channel is over: nothing more
//! is sent on it, and it is closed when what had come by then has been taken. The tables name
//! another way before that, so what lies in the channel is all that there will be, and no frame is
//! lost because a route has changed.

use alloc::vec::Vec;

use xenvelope_grant::ring::{Back, Front, RingError};
use xenvelope_grant::seam::{Access, Hypervisor, NicPort, Pinned, Shared};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_grant::{DomId, Peer};
use xenvelope_switch::channel::{EnvelopeChannel, LAYOUT, RING_PAGES, Slot};
use xenvelope_switch::envelope::Envelope;
use xenvelope_switch::table::{FIRST_DIRECT_CHANNEL, MAX_CHANNEL};

use crate::counters::DropReason;
use crate::interface::{Frontend, FrontendError};

/// Rings that one peer may keep mapped after their channel has ended. Beyond that it gets no new
/// channel: each costs us pages and references.
const LINGERING: usize = 4;

/// A direct channel, connected or on the way.
pub(crate) struct Direct<H: Hypervisor> {
    pub number: u16,
    pub peer: Peer,
    pub port: H::Port,
    /// The ring that we send on, until the peer's is there too.
    pub sending: Option<H::Pages>,
    pub channel: Option<EnvelopeChannel<H::Pages>>,
    pub kick: bool,
    /// How many envelopes it had when its index was last read.
    pub come: Result<u32, RingError>,
    /// The manager has ended it: so many envelopes are still to be taken.
    pub ending: Option<u32>,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Looks at what the manager has arranged, and does our part of it.
    pub(crate) fn poll_direct(&mut self) {
        let Ok(arranged) = self.control.back.child(key::DIRECT) else {
            return;
        };
        let mut names = [0; 2048];
        let names = self.host.list(arranged.path(), &mut names).unwrap_or("");
        let numbers: Vec<u16> = names
            .split('\0')
            .filter_map(|name| name.parse().ok())
            .filter(|number| (FIRST_DIRECT_CHANNEL..=MAX_CHANNEL).contains(number))
            .collect();
        self.end_direct(|direct| numbers.contains(&direct.number));
        for number in numbers {
            match self.follow_direct(&arranged, number) {
                // What is not there yet comes with a later change of the store.
                Ok(()) | Err(FrontendError::Store(_)) => {}
                // What its peer said of itself makes no sense: this channel is not used, and the
                // others are.
                Err(_) => self.close_direct(|direct| direct.number != number),
            }
        }
    }

    fn follow_direct(&mut self, arranged: &Directory, number: u16) -> Result<(), FrontendError> {
        let theirs = arranged.child(number)?;
        let peer = Peer {
            domid: theirs.domid(&self.host, key::PEER_ID)?,
            incarnation: theirs.number(&self.host, key::PEER_INCARNATION)? & Peer::INCARNATION_MASK,
        };
        // The number serves somebody else now, or another channel.
        self.close_direct(|direct| {
            direct.number != number || (direct.peer == peer && direct.ending.is_none())
        });
        self.arrange(number, peer, &theirs)
    }

    /// One channel: a step forward, if what it needs is there.
    fn arrange(
        &mut self,
        number: u16,
        peer: Peer,
        theirs: &Directory,
    ) -> Result<(), FrontendError> {
        let backend = self.control.backend;
        let ours = self.control.front.child(key::DIRECT)?.child(number)?;
        let known = self.direct.iter().position(|direct| direct.number == number);
        let index = match known {
            Some(index) => index,
            None => {
                let listens = theirs.text(&self.host, key::ROLE)?.as_str() == "listen";
                let port = if listens {
                    self.host.listen(peer.domid)?
                } else {
                    let remote = theirs.word(&self.host, key::EVENT_CHANNEL)?;
                    self.host.connect(peer.domid, remote)?
                };
                let sending = self.export_ring(peer.domid)?;
                let mut told = Transaction::new();
                if listens {
                    told.write(&ours, key::EVENT_CHANNEL, self.host.id(&port).0, Some(backend));
                }
                told.refs(&ours, key::ENVELOPE_TX_RING_REF, sending.refs(), Some(backend))
                    .state(&ours, XenbusState::Initialised, Some(backend))
                    .commit(&self.host)?;
                let sending = Some(sending);
                self.direct.push(Direct {
                    number,
                    peer,
                    port,
                    sending,
                    channel: None,
                    kick: false,
                    come: Ok(0),
                    ending: None,
                });
                self.direct.len() - 1
            }
        };
        if self.direct[index].channel.is_none() {
            let refs =
                theirs.refs::<RING_PAGES>(&self.host, key::ENVELOPE_RX_RING_REF, RING_PAGES)?;
            let receiving = self.host.import(peer.domid, &refs, Access::Write)?;
            let direct = &mut self.direct[index];
            if let Some(sending) = direct.sending.take() {
                let send = Front::attach(sending, LAYOUT);
                let receive = Back::attach(receiving, LAYOUT);
                direct.channel = Some(EnvelopeChannel::new(send, receive));
            }
            Transaction::new()
                .state(&ours, XenbusState::Connected, Some(backend))
                .commit(&self.host)?;
        }
        Ok(())
    }

    /// A ring that we send on, initialised, granted to `peer`.
    fn export_ring(&self, peer: DomId) -> Result<H::Pages, FrontendError> {
        let kept = self.lingering.iter().filter(|(domid, _)| *domid == peer).count();
        if kept >= LINGERING {
            return Err(FrontendError::Lingering(peer));
        }
        let pages = self.host.export(peer, RING_PAGES, Access::Write)?;
        Ok(Front::<_, Slot, ()>::new(pages, LAYOUT).into_words())
    }

    /// Takes shared pages back. While the other side has them mapped they stay granted, and are
    /// kept to be tried again.
    pub(crate) fn take_back_pages(&mut self, from: DomId, pages: H::Pages) {
        if let Err(Pinned(pages)) = self.host.unexport(pages) {
            self.lingering.push((from, pages));
        }
    }

    /// Tries again to take back what was kept.
    pub(crate) fn retry_lingering(&mut self) {
        for (from, pages) in core::mem::take(&mut self.lingering) {
            self.take_back_pages(from, pages);
        }
        for out in core::mem::take(&mut self.pinned) {
            if let Err(Pinned(out)) = self.host.revoke(out) {
                self.pinned.push(out);
            }
        }
    }

    /// Ends the direct channels that are not to be kept: nothing more is sent on them, and they are
    /// closed when what has come by them has been taken.
    fn end_direct(&mut self, keep: impl Fn(&Direct<H>) -> bool) {
        for direct in self.direct.iter_mut().filter(|direct| direct.ending.is_none()) {
            if !keep(direct) {
                let pending = direct.channel.as_ref().map(|channel| channel.pending());
                // A peer that goes on sending does not keep the channel open.
                direct.ending = Some(pending.map_or(0, |count| count.unwrap_or(0)));
            }
        }
        self.close_ended();
    }

    /// Closes the direct channels that were ended and of which all has been taken.
    pub(crate) fn close_ended(&mut self) {
        if self.direct.iter().any(|direct| direct.ending == Some(0)) {
            self.close_direct(|direct| direct.ending != Some(0));
        }
    }

    /// Counts frames that lie in a channel that is closed.
    pub(crate) fn count_unread(&mut self, channel: &mut EnvelopeChannel<H::Pages>) {
        let mut slot = Slot::empty();
        for _ in 0..channel.pending().unwrap_or(0) {
            self.count_ended(channel.pop(&mut slot));
        }
    }

    /// Counts frames that lie in a channel that is closed, and that the other side will not take.
    pub(crate) fn count_untaken(&mut self, channel: &mut EnvelopeChannel<H::Pages>) {
        for slot in channel.untaken().into_iter().flatten() {
            self.count_ended(&slot.0);
        }
    }

    fn count_ended(&mut self, envelope: &[u8]) {
        match Envelope::parse(envelope) {
            Ok(envelope) => {
                self.counters.drop_frames(DropReason::ChannelEnded, envelope.carried());
            }
            Err(_) => self.counters.drop_frames(DropReason::BadEnvelope, 1),
        }
    }

    /// Closes the direct channels that are not to be kept. What was outstanding on them is
    /// reclaimed by the peer's window.
    pub(crate) fn close_direct(&mut self, keep: impl Fn(&Direct<H>) -> bool) {
        let mut index = 0;
        while index < self.direct.len() {
            if keep(&self.direct[index]) {
                index += 1;
                continue;
            }
            let direct = self.direct.swap_remove(index);
            let sending = match direct.channel {
                Some(mut channel) => {
                    self.count_unread(&mut channel);
                    Some(channel.into_words().0)
                }
                None => direct.sending,
            };
            if let Some(pages) = sending {
                self.take_back_pages(direct.peer.domid, pages);
            }
            if let Ok(ours) =
                self.control.front.child(key::DIRECT).and_then(|dir| dir.child(direct.number))
            {
                let _ = self
                    .host
                    .commit(&[xenvelope_grant::seam::Change::Remove { path: ours.path() }]);
            }
        }
    }
}
