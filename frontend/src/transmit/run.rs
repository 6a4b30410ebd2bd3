//! Runs: frames one after the other from and to the same addresses.
//!
//! Frames come in bursts, and most go where the one before went. What was found out of a run's
//! first frame (its entry, its path, that nothing of its flow waits for an older route) is true of
//! the next one too: none of it changes within a flush but by a frame that goes elsewhere, which
//! ends the run, or by the manager, who changes the table at any time. So a run's frames may go
//! where the table led when its flush began, as if they had all left at that moment. What is
//! granted is another matter: see [`Frontend::seal`].

use xenvelope_grant::seam::{
    Buffer, Direction, Enclosed, Hypervisor, Instant, NicPort, Sight, Travel,
};
use xenvelope_switch::envelope::{Addresses, EnvelopeBuilder, FrameHead};
use xenvelope_switch::ethernet::TPID_CUSTOMER;
use xenvelope_switch::table::{CHANNEL_VF, Entry, EntryFlags};
use xenvelope_switch::{EthernetHeader, MAX_FRAME};

use crate::counters::DropReason;
use crate::interface::Frontend;
use crate::peers::{Path, Staged};
use crate::route::way_of;
use crate::transmit::header_of;

/// Where the frames of a run go, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Which one it is: an envelope is filled by one.
    pub number: u32,
    pub addresses: Addresses,
    pub entry: Entry,
    pub channel: u16,
    /// The path cannot vouch for the source: nothing goes inline, since it is the granted tag that
    /// a third guest cannot write.
    pub unvouched: bool,
    /// Headers travel inside the envelope.
    pub inspect: bool,
    /// What is granted begins with the envelope's tag.
    pub tagged: bool,
    /// The addresses as a frame begins with them.
    pub ends: [u8; 12],
    /// How long frames are that may be built in the envelope: none if the longest is 0.
    pub built: (usize, usize),
}

impl Run {
    /// Bytes of its frames' Ethernet headers.
    #[inline]
    pub fn header_len(&self) -> usize {
        if self.addresses.tci.is_some() { 18 } else { 14 }
    }

    /// How its frames travel.
    pub fn travel(&self, inline: bool) -> Travel {
        let enclosed = Some(Enclosed { peer: self.entry.peer, inline });
        Travel { way: way_of(self.channel), enclosed }
    }

    /// The type of a frame that can be sent, if it is one of this run.
    #[inline(always)]
    pub(super) fn type_of(&self, frame: &[u8]) -> Option<u16> {
        let (ends, rest) = frame.split_first_chunk::<12>()?;
        if *ends != self.ends {
            return None;
        }
        let (here, rest) = rest.split_first_chunk()?;
        let here = u16::from_be_bytes(*here);
        let (ether_type, payload) = match self.addresses.tci {
            None if here == TPID_CUSTOMER => return None,
            None => (here, rest.len()),
            Some(tci) => {
                let ([c0, c1, t0, t1], payload) = rest.split_first_chunk()?;
                if here != TPID_CUSTOMER || u16::from_be_bytes([*c0, *c1]) != tci {
                    return None;
                }
                (u16::from_be_bytes([*t0, *t1]), payload.len())
            }
        };
        (payload > 0 && frame.len() <= MAX_FRAME).then_some(ether_type)
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Puts staged frames into the open envelope for as long as they are of its run, small, and fit.
    /// What this does not take [`Frontend::send_one`] does.
    pub(super) fn follow_run(&mut self) {
        let Self {
            outbox, run: Some(run), open: Some(open), builder, counters, warm, host, ..
        } = self
        else {
            return;
        };
        if open.run.number != run.number || run.unvouched {
            return;
        }
        let header_len = run.header_len();
        while let Some(Staged { buffer, frame, offload }) = outbox.front() {
            if frame.len() > header_len + EnvelopeBuilder::inline_limit() {
                return;
            }
            let Some(bytes) = buffer.stack_bytes().get(frame.clone()) else { return };
            let Some(ether_type) = run.type_of(bytes) else { return };
            let payload = &bytes[header_len..];
            // At most the limit.
            let head = FrameHead { ether_type, total: payload.len() as u16, offload: *offload };
            if builder.push_inline(head, payload).is_err() {
                return;
            }
            host.observe(|| Sight::Frame {
                direction: Direction::Out,
                travel: run.travel(true),
                bytes,
            });
            counters.inlined_frames += 1;
            counters.inlined_bytes += bytes.len() as u64;
            if let Some(staged) = outbox.pop_front() {
                warm.keep(staged.buffer);
            }
        }
    }

    pub(super) fn send_one(&mut self, staged: Staged<H::Buf>, now: Instant) {
        if let Some(run) = self.run
            && let Some(bytes) = staged.buffer.stack_bytes().get(staged.frame.clone())
            && let Some(ether_type) = run.type_of(bytes)
        {
            return self.envelope(staged, ether_type, &run, now);
        }
        self.run = None;
        let Some(header) = header_of(&staged) else {
            return self.drop_one(DropReason::Malformed);
        };
        let Some(route) = self.route(&header) else {
            return self.drop_one(DropReason::NoPath);
        };
        if header.destination.is_multicast() && self.floods_apart() {
            // No part of the default route's flow, which goes another way all the time.
            return self.dispatch(staged, &header, route, now);
        }
        let Some(staged) = self.in_order(staged, &header, &route, now) else { return };
        if let (Path::Envelope(channel), Some(entry)) = (route.path, route.entry) {
            let run = self.run_to(&header, entry, channel);
            self.run = Some(run);
            return self.envelope(staged, header.ether_type, &run, now);
        }
        self.dispatch(staged, &header, route, now);
    }

    /// How frames with these addresses go to that entry's peer in envelopes.
    pub(super) fn run_to(&mut self, header: &EthernetHeader, entry: Entry, channel: u16) -> Run {
        let addresses = header.addresses();
        if let Some(open) = self.open_run()
            && (open.addresses, open.entry, open.channel) == (addresses, entry, channel)
        {
            return *open;
        }
        let unvouched = entry.flags.contains(EntryFlags::TAGGED) && channel == CHANNEL_VF;
        // Rules that need inspection forbid the card's path, the only one that cannot vouch.
        let inspect = entry.flags.contains(EntryFlags::INSPECT) && !unvouched;
        let tagged = unvouched || !(inspect || self.is_driver_domain(entry.peer));
        self.runs = self.runs.wrapping_add(1);
        let mut ends = [0; 12];
        ends[..6].copy_from_slice(&addresses.destination.0);
        ends[6..].copy_from_slice(&addresses.source.0);
        let header = if addresses.tci.is_some() { 18 } else { 14 };
        let longest = if unvouched { 0 } else { header + EnvelopeBuilder::inline_limit() };
        Run {
            number: self.runs,
            addresses,
            entry,
            channel,
            unvouched,
            inspect,
            tagged,
            ends,
            built: (header + 1, longest),
        }
    }
}
