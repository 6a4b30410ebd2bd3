//! Frames whose right to be read is passed on: the sender grants to us, as netif has it, we switch
//! the frame, and a transitive grant of ours lets the receiving guest copy it
//! ([`crate::PairRoute::BridgeReceiverCopy`]).
//!
//! The receiver is told in an envelope that is marked as passed on: its references are ours. What
//! we fetched of a frame to switch it travels inline if that is all of it, so that a flow stays on
//! one path. The receiver says done as to anybody, marked too, and only then the sender's requests
//! are answered: its ring holds what the receiver has not copied yet.
//!
//! **What is weaker than with destination mapping.** The sender grants to us, and we say who
//! reads: rule 1 holds as far as we are honest. What is passed on bears no tag, so a reference is
//! not used for another frame before the receiver has said done of it, or its interface is down.
//! A sender whose process ends may use its references anew before we know, and who had been passed
//! an old frame copies a new one.
//! And a driver domain whose process dies forgets what it has passed on: the requests that were not
//! answered by then are taken again, and their frames come twice (rule 6 holds while it lives).
//! A receiver that says nothing costs at most [`OUT`] references and, for [`PATIENCE`], slots of
//! the senders' rings.

mod answers;
mod window;

use std::time::Duration;

use arrayvec::ArrayVec;
use xenvelope_grant::netif::NR_SLOTS_MIN;
use xenvelope_grant::seam::{Buffer, Hypervisor, Instant, MAX_SEGMENTS, NicPort, Offload, Segment};
use xenvelope_grant::{DomId, Peer};
use xenvelope_switch::channel::EnvelopeChannel;
use xenvelope_switch::checksum::locate_checksum;
use xenvelope_switch::envelope::{Addresses, Done, ETHER_TYPE, FrameHead};
use xenvelope_switch::ethernet::{TPID_CUSTOMER, TPID_SERVICE};
use xenvelope_switch::{EthernetHeader, PortId};

pub(crate) use answers::{Answers, Ticket};
use window::Out;
pub(crate) use window::{Passed, Refs};

use crate::counters::DropReason;
use crate::driver_domain::Backend;
use crate::forward::{Frame, HEADERS, QueueId};
use crate::netback::Fragment;
use crate::uplink::PfControl;
use crate::vif::Rings;

/// Frames that one guest may have been passed and not said done of.
const OUT: usize = 512;
/// For how long a sender's requests wait for the receiver's done. Then they are answered, and the
/// receiver cannot read the frame any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// A frame that came by netif: where it lies, and the requests to be answered.
pub(crate) struct Origin<'a> {
    /// Whose requests they are.
    pub from: QueueId,
    /// The sender.
    pub guest: DomId,
    /// The frame's pieces, granted to us.
    pub fragments: &'a ArrayVec<Fragment, NR_SLOTS_MIN>,
}

/// What follows a frame's Ethernet header, piece by piece; `None` if it is more pieces than an
/// envelope can name.
fn after_header(fragments: &[Fragment], header: usize) -> Option<ArrayVec<Segment, MAX_SEGMENTS>> {
    let mut segments = ArrayVec::new();
    let mut skip = header;
    for piece in fragments {
        let here = skip.min(usize::from(piece.len));
        skip -= here;
        if here < usize::from(piece.len) {
            // At most a page.
            let (offset, len) = (piece.offset + here as u16, piece.len - here as u16);
            segments.try_push(Segment { gref: piece.gref, offset, len }).ok()?;
        }
    }
    (!segments.is_empty()).then_some(segments)
}

/// netif says that a checksum is blank, but not where it is; an envelope says both. `header` is
/// the header as the receiver will see it. `None` if it cannot be said in an envelope.
fn placed(
    beginning: &[u8],
    old: &EthernetHeader,
    new: &EthernetHeader,
    offload: Offload,
) -> Option<Offload> {
    if !offload.needs_checksum {
        return (offload.gso_size == 0).then_some(offload);
    }
    match locate_checksum(beginning) {
        Some((start, checksum_offset)) => {
            let start = usize::from(start) - old.len() + new.len();
            let checksum_start = u16::try_from(start).ok()?;
            Some(Offload { checksum_start, checksum_offset, ..offload })
        }
        // In what is neither TCP nor UDP there is none to fill in.
        None if offload.gso_size == 0 => {
            Some(Offload { needs_checksum: false, checksum_valid: true, ..offload })
        }
        None => None,
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Whether frames between the two are the receiver's to copy. Not while others wait for its
    /// receive buffers, which they would overtake (rule 6).
    pub(crate) fn passes_on(&self, from: PortId, to: PortId) -> bool {
        if !self.manager.any_receiver_copies() {
            return false;
        }
        let (Some(from), Some(to)) = (self.vifs.get(&from.0), self.vifs.get(&to.0)) else {
            return false;
        };
        let can = |rings: &Rings<H>| {
            rings.passed.is_some() && rings.queues.iter().all(|queue| queue.parked == 0)
        };
        to.rings.as_ref().is_some_and(can) && self.manager.receiver_copies(from.mac, to.mac)
    }

    /// The envelope that a guest has to say done of before a frame from another comes to it by its
    /// receive ring, if there is one.
    pub(crate) fn not_done(&mut self, from: u32, to: PortId) -> Option<u32> {
        // One that is being filled has a number when it is on its way.
        self.seal_passed(to.0);
        self.passed(to)?.not_done(from)
    }

    /// Passes a frame on to a guest. `false` if an envelope cannot say it: it is to be copied.
    pub(crate) fn pass_frame(
        &mut self,
        to: PortId,
        tci: Option<u16>,
        frame: &Frame<'_>,
        origin: &Origin<'_>,
    ) -> Result<bool, DropReason> {
        let header = frame.header.len();
        let Ok(total) = u16::try_from(frame.total - header) else { return Ok(false) };
        let ether_type = frame.header.ether_type;
        if total == 0 {
            // An envelope cannot say it. By netif it would overtake what was passed on before,
            // and no stack sends a header with nothing after it.
            return Err(DropReason::Malformed);
        }
        if [ETHER_TYPE, TPID_CUSTOMER, TPID_SERVICE].contains(&ether_type) {
            return Ok(false);
        }
        let mut seen = [0; HEADERS];
        let seen = &mut seen[..HEADERS.min(frame.total)];
        self.round.buffers[0].get(frame.slot, seen);
        let new = EthernetHeader { tci, ..frame.header };
        let Some(offload) = placed(seen, &frame.header, &new, frame.offload) else {
            return Ok(false);
        };
        let addresses = Addresses { destination: new.destination, source: new.source, tci };
        let head = FrameHead { ether_type, total, offload };
        if seen.len() == frame.total {
            self.open_for(to, addresses, origin, 0, usize::from(total), &offload)?;
            let passed = self.passed(to).ok_or(DropReason::NoDestination)?;
            passed.push_inline(head, &seen[header..]).map_err(|_| DropReason::Malformed)?;
            return Ok(true);
        }
        let Some(segments) = after_header(origin.fragments, header) else { return Ok(false) };
        self.open_for(to, addresses, origin, segments.len(), 0, &offload)?;
        let ours = self.pass_segments(to, origin.guest, segments)?;
        let (now, ticket) = (self.round.now, self.round.next_ticket());
        let out = Out {
            refs: ours.iter().map(|segment| segment.gref).collect(),
            waiting: Some((origin.from, ticket)),
            since: now,
        };
        let passed = self.passed(to).ok_or(DropReason::NoDestination)?;
        if let Err(out) = passed.push_granted(head, &ours, out, now) {
            for gref in out.refs {
                self.refs.give_back(&self.host, gref);
            }
            return Err(DropReason::Malformed);
        }
        self.round.ticket = Some(ticket);
        self.counters.passed_on += 1;
        Ok(true)
    }

    /// References of ours by which `to` may read what `from` granted to us.
    fn pass_segments(
        &mut self,
        to: PortId,
        from: DomId,
        mut segments: ArrayVec<Segment, MAX_SEGMENTS>,
    ) -> Result<ArrayVec<Segment, MAX_SEGMENTS>, DropReason> {
        let vif = self.vifs.get(&to.0).ok_or(DropReason::NoDestination)?;
        let peer = Peer { domid: vif.guest, incarnation: vif.incarnation };
        let (host, refs) = (&self.host, &mut self.refs);
        for done in 0..segments.len() {
            let theirs = segments[done].gref;
            let passed = refs
                .take(host)
                .and_then(|ours| host.pass_on(ours, from, theirs, peer).map(|()| ours));
            match passed {
                Ok(ours) => segments[done].gref = ours,
                Err(_) => {
                    for segment in &segments[..done] {
                        refs.give_back(host, segment.gref);
                    }
                    return Err(DropReason::NoBuffer);
                }
            }
        }
        Ok(segments)
    }

    /// An open envelope to a guest with these addresses and room for one more frame.
    fn open_for(
        &mut self,
        to: PortId,
        addresses: Addresses,
        origin: &Origin<'_>,
        segments: usize,
        inline: usize,
        offload: &Offload,
    ) -> Result<(), DropReason> {
        let fits = |passed: &Passed| passed.fits(&addresses, segments, inline, offload);
        let passed = self.passed(to).ok_or(DropReason::NoDestination)?;
        if fits(passed) {
            return Ok(());
        }
        self.seal_passed(to.0);
        let rings = self.vifs.get_mut(&to.0).and_then(|vif| vif.rings.as_mut());
        let Some(rings) = rings else { return Err(DropReason::NoDestination) };
        let (Some(passed), Some(channel)) = (&mut rings.passed, &mut rings.envelopes) else {
            return Err(DropReason::NoDestination);
        };
        match channel.room() {
            Ok(0) => Err(DropReason::ChannelFull),
            Ok(_) => passed.open(origin.from.port, addresses).ok_or(DropReason::ChannelFull),
            Err(_) => {
                self.round.broken.push(to.0);
                Err(DropReason::NoDestination)
            }
        }
    }

    fn passed(&mut self, to: PortId) -> Option<&mut Passed> {
        self.vifs.get_mut(&to.0)?.rings.as_mut()?.passed.as_deref_mut()
    }

    /// Puts the open envelope to a guest on its way, if there is one.
    fn seal_passed(&mut self, port: u32) {
        let Self { vifs, round, counters, host, refs, .. } = self;
        let Some(rings) = vifs.get_mut(&port).and_then(|vif| vif.rings.as_mut()) else { return };
        let (Some(passed), Some(channel)) = (&mut rings.passed, &mut rings.envelopes) else {
            return;
        };
        let Some(frames) = passed.frames_open() else { return };
        let push = |channel: &mut EnvelopeChannel<H::Pages>, envelope: &[u8]| {
            channel.room().is_ok_and(|room| room > 0) && channel.push(envelope).is_ok()
        };
        if !passed.seal(|envelope| push(channel, envelope), |out| finish(host, refs, round, out)) {
            counters.drop_frames(DropReason::ChannelFull, frames as u64);
        }
    }

    /// Puts all open envelopes on their way: the end of a round.
    pub(crate) fn seal_all_passed(&mut self) {
        if !self.manager.any_receiver_copies() {
            return;
        }
        let mut ports = std::mem::take(&mut self.round.ports);
        // Whoever has one open was given something in this round.
        ports.extend(self.awake.ports());
        for port in ports.drain(..) {
            self.seal_passed(port);
        }
        self.round.ports = ports;
    }

    /// A guest says which frames that were passed on to it it has copied.
    pub(crate) fn take_passed_done(&mut self, port: u32, done: &Done) {
        let Self { vifs, round, host, refs, .. } = self;
        let Some(rings) = vifs.get_mut(&port).and_then(|vif| vif.rings.as_mut()) else { return };
        let Some(passed) = &mut rings.passed else { return };
        if !passed.finish(done, |out| finish(host, refs, round, out)) {
            tracing::warn!(port, "guest says done of what it was not passed, closing");
            round.broken.push(port);
        }
    }

    /// Answers senders whose receiver says nothing, and locks that receiver out.
    pub(crate) fn give_up_passed(&mut self, now: Instant) {
        let Self { vifs, round, host, refs, .. } = self;
        let deadline = Instant(now.0.saturating_sub(PATIENCE.as_nanos() as u64));
        for rings in vifs.values_mut().filter_map(|vif| vif.rings.as_mut()) {
            if let Some(passed) = &mut rings.passed {
                passed.expire(deadline, |out| {
                    for gref in &out.refs {
                        // Whoever is inside is the last, and keeps the sender's page from being
                        // used for anything else meanwhile.
                        let _ = host.withdraw(*gref);
                    }
                    round.finished.extend(out.waiting.take());
                });
            }
        }
        refs.retry(host);
        if !self.round.finished.is_empty() {
            self.answer_finished();
            self.publish();
        }
    }

    /// The interface of a guest is going down: nothing is passed on to it any more, and who waits
    /// for it is answered.
    pub(crate) fn drop_passed(&mut self, passed: &mut Passed) {
        let Self { round, host, refs, .. } = self;
        passed.clear(|out| finish(host, refs, round, out));
    }

    /// Nothing is passed on any more: all senders are answered.
    pub(crate) fn end_passing(&mut self) {
        let ports: Vec<u32> = self.vifs.keys().copied().collect();
        for port in ports {
            let rings = self.vifs.get_mut(&port).and_then(|vif| vif.rings.as_mut());
            if let Some(mut passed) = rings.and_then(|rings| rings.passed.take()) {
                self.drop_passed(&mut passed);
            }
        }
        self.answer_finished();
        self.publish();
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Drop for Backend<H, N, C> {
    /// Nobody reads on by us when we are gone. Requests that were not answered stay so, for the
    /// process that follows: this is all that a killed process' kernel does, too.
    fn drop(&mut self) {
        let Self { vifs, host, .. } = self;
        for rings in vifs.values_mut().filter_map(|vif| vif.rings.as_mut()) {
            if let Some(passed) = &mut rings.passed {
                passed.clear(|out| {
                    for gref in out.refs {
                        let _ = host.withdraw(gref);
                    }
                });
            }
        }
    }
}

/// A frame is done with: its references are free, and its sender is answered at the end of the
/// round.
fn finish<H: Hypervisor>(
    host: &H,
    refs: &mut Refs,
    round: &mut crate::forward::Round<H>,
    out: Out,
) {
    for gref in out.refs {
        refs.give_back(host, gref);
    }
    round.finished.extend(out.waiting);
}

#[cfg(test)]
mod tests {
    use xenvelope_grant::{Gref, PAGE_SIZE};

    use super::*;

    fn piece(offset: u16, len: u16) -> Fragment {
        Fragment { gref: Gref(u32::from(offset)), offset, len }
    }

    #[test]
    fn what_follows_the_header_begins_in_whatever_piece_it_ends_in() {
        let after = |pieces: &[Fragment]| {
            let segments = after_header(pieces, 14)?;
            Some(segments.iter().map(|segment| (segment.offset, segment.len)).collect::<Vec<_>>())
        };
        assert_eq!(after(&[piece(18, 100)]), Some(vec![(32, 86)]));
        assert_eq!(after(&[piece(0, 14), piece(7, 9)]), Some(vec![(7, 9)]));
        assert_eq!(after(&[piece(0, 10), piece(100, 10)]), Some(vec![(104, 6)]));
        assert_eq!(after(&[piece(0, 14)]), None);
        assert_eq!(after(&[piece(0, PAGE_SIZE as u16); 18]), None);
    }
}
