//! Envelopes through the driver domain: passed on to guests that know them; taken, as their
//! destination, for guests that do not.

use std::time::Duration;

use xenvelope_grant::seam::{Buffer, End, Hypervisor, Instant, Mechanism, NicPort};
use xenvelope_switch::channel::Slot;
use xenvelope_switch::envelope::{
    Addresses, Body, Deliver, DeliverHead, Envelope, EnvelopeBuilder, FrameRecord,
};
use xenvelope_switch::window::ReceiveWindow;
use xenvelope_switch::{Destination, EthernetHeader, Forward, PortId};

use crate::counters::DropReason;
use crate::driver_domain::{Backend, UPLINK};
use crate::forward::{Frame, Sources, rings_of};
use crate::netback::Source;
use crate::uplink::PfControl;

/// Envelopes that one guest gets in a round before others have their turn.
const BUDGET: u32 = 64;
/// For how long a guest may wait for a done of frames that were all in their envelopes: only a
/// flow that changes its route waits for it (rule 6).
const DONE_DELAY: Duration = Duration::from_millis(2);
/// The VLAN in a tag.
const VID: u16 = 0xFFF;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Takes envelopes from all guests. Whether there were any.
    pub(crate) fn take_envelopes(&mut self, now: Instant) -> bool {
        let mut busy = false;
        let mut slot = Slot::empty();
        let mut ports = self.ports_in_turn();
        for port in ports.drain(..) {
            let Some(rings) = self.vifs.get_mut(&port).and_then(|vif| vif.rings.as_mut()) else {
                continue;
            };
            let waiting = match rings.envelopes.as_ref().map(|channel| channel.pending()) {
                Some(Ok(waiting)) => waiting.min(rings.envelopes_offered.due()).min(BUDGET),
                Some(Err(error)) => {
                    tracing::warn!(port, %error, "guest broke its envelope ring, closing");
                    self.counters.closed_hostile += 1;
                    self.close_vif(port);
                    continue;
                }
                None => continue,
            };
            rings.envelopes_offered.take(waiting);
            for _ in 0..waiting {
                let Some(envelope) = self.channel(port).map(|channel| channel.pop(&mut slot))
                else {
                    break;
                };
                busy = true;
                self.switch_envelope(PortId(port), envelope, now);
            }
        }
        self.round.ports = ports;
        busy
    }

    /// One envelope of a guest's through the switch: the same checks of source and VLAN as any
    /// frame.
    fn switch_envelope(&mut self, from: PortId, bytes: &[u8], now: Instant) {
        let Ok(envelope) = Envelope::parse(bytes) else {
            return self.counters.drop_frames(DropReason::Malformed, 1);
        };
        let frames = envelope.carried();
        if envelope.mechanism == Mechanism::Transitive {
            return match envelope.body {
                Body::Done { done, .. } => self.take_passed_done(from.0, &done),
                // Only we pass anything on.
                _ => self.counters.drop_frames(DropReason::Malformed, frames),
            };
        }
        let result = match self.switch.ingress(from, &envelope.header, now.0) {
            Err(discard) => Err(discard.into()),
            Ok(Forward { vid, to: Destination::Port(to) }) => {
                // The priority beside the VLAN is the sender's to choose.
                let tag = envelope.header.tci.map(|tci| tci & VID);
                if self.switch.egress_tag(to, vid) != tag {
                    Err(DropReason::CannotTake)
                } else if !self.may_pass(from, to) {
                    Err(DropReason::Policy)
                } else {
                    self.envelope_to(from, to, vid, &envelope, bytes, now)
                }
            }
            // An envelope names one destination's grants: it is never flooded.
            Ok(Forward { to: Destination::Flood, .. }) => Err(DropReason::NoDestination),
        };
        if let Err(reason) = result {
            self.counters.drop_frames(reason, frames);
            if let Body::Deliver(deliver) = &envelope.body {
                self.accept_dropped(from.0, &envelope.header, &deliver.head, now);
            }
        }
    }

    /// An envelope that was for us, as its epoch says, and whose frames go nowhere: its sender gets
    /// its pages back at once, and does not wait for it when the flow's route changes.
    fn accept_dropped(
        &mut self,
        from: u32,
        header: &EthernetHeader,
        head: &DeliverHead,
        now: Instant,
    ) {
        let rings = self.vifs.get_mut(&from).and_then(|vif| vif.rings.as_mut());
        let Some(rings) = rings.filter(|rings| rings.window.epoch() == Some(head.epoch)) else {
            return;
        };
        if rings.window.check(head.epoch, head.sequence).is_ok() {
            self.accept(from, header, head, 1, now);
        }
    }

    /// Notes that an envelope of a guest's with so many granted frames has come to us, and that it
    /// is to be told so.
    fn accept(
        &mut self,
        from: u32,
        header: &EthernetHeader,
        head: &DeliverHead,
        granted: u32,
        now: Instant,
    ) {
        let rings = self.vifs.get_mut(&from).and_then(|vif| vif.rings.as_mut());
        let Some(rings) = rings else { return };
        rings.window.accept(head.epoch, head.sequence, head.nonce, granted, now);
        rings.done_to = Some(Addresses {
            destination: header.source,
            source: header.destination,
            tci: header.tci,
        });
        if !self.round.dones.contains(&from) {
            self.round.dones.push(from);
        }
    }

    fn envelope_to(
        &mut self,
        from: PortId,
        to: PortId,
        vid: u16,
        envelope: &Envelope<'_>,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        if to == UPLINK {
            return Err(DropReason::NoDestination);
        }
        if let Some(channel) = self.channel(to.0) {
            if channel.room().is_err() {
                self.round.broken.push(to.0);
                return Err(DropReason::NoDestination);
            }
            channel.push(bytes).map_err(|_| DropReason::ChannelFull)?;
            self.counters.envelopes_forwarded += 1;
            return Ok(());
        }
        match envelope.body.clone() {
            // What bears a key is not granted to us, on whose behalf ever.
            _ if envelope.mechanism == Mechanism::Keyed => Err(DropReason::Malformed),
            Body::Deliver(deliver) => self.take_for(from, to, vid, &envelope.header, deliver, now),
            // A guest without envelopes has sent none: there is nothing to be done with.
            _ => Err(DropReason::NoDestination),
        }
    }

    /// We are the destination, for a guest without envelopes: its frames are copied straight
    /// from the sender's pages into that guest's receive buffers.
    fn take_for(
        &mut self,
        from: PortId,
        to: PortId,
        vid: u16,
        header: &EthernetHeader,
        deliver: Deliver<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let head = deliver.head;
        if let Some(done) = &deliver.done {
            // We are its peer: what we passed on to it is meant.
            self.take_passed_done(from.0, done);
        }
        // A tag means that the frames are granted to another guest, not to us.
        if head.tagged {
            return Err(DropReason::Malformed);
        }
        let granted = deliver.frames.granted();
        let vif = self.vifs.get_mut(&from.0).ok_or(DropReason::NoDestination)?;
        let guest = vif.guest;
        let rings = vif.rings.as_mut().ok_or(DropReason::NoDestination)?;
        rings.window.check(head.epoch, head.sequence).map_err(|_| DropReason::Replayed)?;
        self.accept(from.0, header, &head, granted, now);
        self.counters.envelopes_taken += 1;
        for record in deliver.frames {
            if let Err(reason) = self.take_frame(guest, to, vid, header, &record) {
                self.counters.drop_frames(reason, 1);
            }
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        guest: xenvelope_grant::DomId,
        to: PortId,
        vid: u16,
        header: &EthernetHeader,
        record: &FrameRecord<'_>,
    ) -> Result<(), DropReason> {
        // Others need slots too: tiny frames for a stock guest must not take them all.
        let slot = self.round.envelope_slot().ok_or(DropReason::NoBuffer)?;
        let header = EthernetHeader { ether_type: record.head.ether_type, ..*header };
        let mut bytes = [0; 18];
        let length = header.write(&mut bytes);
        let scratch = &mut self.round.buffers[0];
        scratch.put(slot, &bytes[..length]);
        scratch.put(slot + length, record.inline);
        let mut sources = Sources::new();
        let first = length + record.inline.len();
        sources.push(Source { end: End::Local { buffer: 0, offset: slot as u32 }, len: first });
        for segment in record.segments.clone() {
            let (gref, offset) = (segment.gref, segment.offset);
            let end = End::Foreign { dom: guest, gref, offset };
            sources
                .try_push(Source { end, len: segment.len as usize })
                .map_err(|_| DropReason::Malformed)?;
        }
        let total = length + record.head.total as usize;
        let offload = record.head.offload;
        let by_address = true;
        let (sources, origin) = (&sources, None);
        self.deliver(to, vid, &Frame { header, slot, sources, total, offload, by_address, origin })
    }

    /// Says done to the guests whose frames we have taken, after the copy; of frames that were all
    /// in their envelopes a little later, since nobody's pages wait for that.
    pub(crate) fn send_dones(&mut self) {
        let Self { round, vifs, awake, .. } = self;
        let now = round.now;
        // Those whose channel is full stay, for the next round.
        round.dones.retain(|port| {
            let Some(rings) = rings_of(vifs, *port) else { return false };
            match due(&rings.window) {
                None => return false,
                Some(due) if due > now => return true,
                Some(_) => {}
            }
            let (Some(done), Some(addresses), Some(channel)) =
                (rings.window.done(), rings.done_to, &mut rings.envelopes)
            else {
                return false;
            };
            // Our own epoch is of no use to it: we send it nothing that it would acknowledge.
            let mut builder = EnvelopeBuilder::done(addresses, 0, done);
            let sent =
                channel.room().is_ok_and(|room| room > 0) && channel.push(builder.finish()).is_ok();
            if sent {
                rings.window.told();
                awake.wake(*port, rings);
            }
            !sent
        });
    }

    /// When the next done is due, of those for which there was no reason to try yet.
    pub(crate) fn next_done(&self) -> Option<Instant> {
        let rings = |port| self.vifs.get(port).and_then(|vif| vif.rings.as_ref());
        let dues = self.round.dones.iter().filter_map(|port| due(&rings(port)?.window));
        dues.filter(|due| *due > self.round.now).min()
    }

    /// A guest's envelope channel, to be used in this round.
    fn channel(
        &mut self,
        port: u32,
    ) -> Option<&mut xenvelope_switch::channel::EnvelopeChannel<H::Pages>> {
        let rings = rings_of(&mut self.vifs, port)?;
        self.awake.wake(port, rings);
        rings.envelopes.as_mut()
    }
}

/// When a guest is to be told what has come from it: at once if its pages wait for that.
fn due(window: &ReceiveWindow) -> Option<Instant> {
    let since = window.waiting_since()?;
    Some(if window.unacknowledged() > 0 { since } else { since + DONE_DELAY })
}
