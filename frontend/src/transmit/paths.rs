//! The paths themselves: envelope channels, the VF, netif, and what comes back from them.

use xenvelope_grant::seam::{
    Buffer, Direction, Hypervisor, Instant, NicError, NicPort, Offload, Pinned, Sight, Unsent,
};
use xenvelope_switch::EthernetHeader;
use xenvelope_switch::channel::EnvelopeChannel;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, CHANNEL_VF};

use crate::connect::PINNED;
use crate::counters::DropReason;
use crate::direct::Direct;
use crate::interface::{DriverDomain, Frontend};
use crate::netfront::Finished;
use crate::peers::{Path, Staged};
use crate::transmit::{FRAME_AT, header_of};

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Whether a channel can take an envelope now.
    pub(super) fn room(&mut self, channel: u16) -> bool {
        if channel == CHANNEL_VF {
            return self.vf_up();
        }
        self.channel(channel).is_some_and(|channel| channel.room().is_ok_and(|room| room > 0))
    }

    /// Puts the envelope that was built on a channel.
    pub(super) fn push_built(&mut self, number: u16) -> bool {
        let Self { builder, host, vf, driver, direct, .. } = self;
        push(host, vf.as_ref(), driver, direct, number, builder.finish())
    }

    /// Puts an envelope on a channel.
    pub(super) fn push(&mut self, number: u16, envelope: &[u8]) -> bool {
        let Self { host, vf, driver, direct, .. } = self;
        push(host, vf.as_ref(), driver, direct, number, envelope)
    }

    /// The envelope channel of a number that is not the VF's.
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut EnvelopeChannel<H::Pages>> {
        channel(&mut self.driver, &mut self.direct, number)
    }

    pub(super) fn by_vf(&mut self, staged: Staged<H::Buf>) {
        if self.vf_backlog.len() >= self.config.backlog {
            return self.drop_one(DropReason::PathFull);
        }
        self.vf_backlog.push_back(staged);
        self.drain_vf_backlog();
    }

    /// Moves frames from the queue in front of the VF's ring into the ring.
    fn drain_vf_backlog(&mut self) {
        while let Some(vf) = &self.vf {
            let Some(Staged { buffer, frame, offload }) = self.vf_backlog.pop_front() else {
                break;
            };
            match vf.send(buffer, frame.clone(), offload) {
                Ok(()) => self.counters.sent_by.vf_frames += 1,
                // Without a link they take another way at the next flush.
                Err(Unsent { cause: NicError::Full | NicError::NoLink, buffer }) => {
                    self.vf_backlog.push_front(Staged { buffer, frame, offload });
                    break;
                }
                Err(Unsent { cause: NicError::TooLong, .. }) => {
                    self.drop_one(DropReason::Malformed);
                }
            }
        }
    }

    /// Frames that waited for room in the ring of a VF that is gone, or has no link, are held back
    /// until they may take the way that is theirs now: before what waits for them to drain.
    pub(crate) fn reroute_vf_backlog(&mut self, now: Instant) {
        for staged in core::mem::take(&mut self.vf_backlog).into_iter().rev() {
            let route = header_of(&staged).and_then(|header| Some((header, self.route(&header)?)));
            match route {
                // A link that came back in this moment.
                Some((_, route)) if route.path == Path::VfFrame => {
                    self.vf_backlog.push_front(staged);
                }
                Some((header, route)) => {
                    self.counters.rerouted += 1;
                    let peer = self.flow_of(&header, &route);
                    let flow = self.flow(peer);
                    flow.held_since.get_or_insert(now);
                    flow.held.push_front(staged);
                }
                None => self.drop_one(DropReason::NoPath),
            }
        }
    }

    pub(super) fn by_netif(&mut self, staged: Staged<H::Buf>, header: &EthernetHeader) {
        let limit = self.config.backlog;
        let Some(driver) = &mut self.driver else {
            return self.drop_one(DropReason::NoPath);
        };
        if !driver.offloads.can_take(header.ether_type, &staged.frame, &staged.offload) {
            return self.drop_one(DropReason::CannotTake);
        }
        if driver.backlog.len() >= limit {
            return self.drop_one(DropReason::PathFull);
        }
        driver.backlog.push_back(staged);
        self.drain_backlog();
    }

    /// Moves frames from the queue in front of netif's ring into the ring.
    pub(super) fn drain_backlog(&mut self) {
        let Some(driver) = &mut self.driver else {
            return;
        };
        while let Some(Staged { buffer, frame, offload }) = driver.backlog.pop_front() {
            match driver.transmit.send(&self.host, buffer, frame.clone(), offload) {
                Ok(()) => self.counters.sent_by.netif_frames += 1,
                Err(refused) if refused.full => {
                    let buffer = refused.buffer;
                    driver.backlog.push_front(Staged { buffer, frame, offload });
                    break;
                }
                Err(_) => self.counters.drop_frames(DropReason::GrantFailed, 1),
            }
        }
    }

    /// Takes back what has left: the VF's buffers and netif's answers.
    pub(super) fn reap(&mut self) {
        if let Some(vf) = &self.vf {
            while vf.completed().is_some() {}
            self.drain_vf_backlog();
        }
        let Self { host, driver, counters, pinned, .. } = self;
        let Some(link) = driver else { return };
        let result = link.transmit.reap(|finished| {
            let out = match finished {
                Finished::Taken(out) => out,
                Finished::Refused(out) => {
                    counters.drop_frames(DropReason::Refused, 1);
                    out
                }
            };
            if let Err(Pinned(out)) = host.recycle(out) {
                // Answered, but still in use: not used again before it is let go (XSA-396).
                counters.pinned += 1;
                pinned.push(out);
            }
        });
        match result {
            Ok(_) if self.pinned.len() <= PINNED => self.drain_backlog(),
            _ => self.fail(),
        }
    }

    /// Publishes on every path, with one event to each side that asked for one.
    pub(super) fn publish(&mut self) {
        if let Some(driver) = &mut self.driver {
            let mut kick = core::mem::take(&mut driver.kick);
            kick |= driver.transmit.publish();
            for receiver in driver.receivers() {
                kick |= receiver.post();
            }
            if let Some(envelopes) = &mut driver.envelopes {
                kick |= envelopes.publish();
            }
            if kick {
                self.host.notify(&driver.port);
            }
        }
        for direct in &mut self.direct {
            let mut kick = core::mem::take(&mut direct.kick);
            if let Some(channel) = &mut direct.channel {
                kick |= channel.publish();
            }
            if kick {
                self.host.notify(&direct.port);
            }
        }
        if let Some(vf) = &self.vf {
            vf.refill(&self.host, FRAME_AT);
            vf.kick();
        }
    }
}

fn channel<'a, H: Hypervisor>(
    driver: &'a mut Option<DriverDomain<H>>,
    direct: &'a mut [Direct<H>],
    number: u16,
) -> Option<&'a mut EnvelopeChannel<H::Pages>> {
    if number == CHANNEL_DRIVER_DOMAIN {
        return driver.as_mut()?.envelopes.as_mut();
    }
    direct.iter_mut().find(|direct| direct.number == number)?.channel.as_mut()
}

fn push<H: Hypervisor, N: NicPort<Buf = H::Buf>>(
    host: &H,
    vf: Option<&N>,
    driver: &mut Option<DriverDomain<H>>,
    direct: &mut [Direct<H>],
    number: u16,
    envelope: &[u8],
) -> bool {
    if number == CHANNEL_VF {
        let Some(vf) = vf else { return false };
        let Ok(mut buffer) = host.take(None, envelope.len()) else {
            return false;
        };
        buffer.put(0, envelope);
        return vf.send(buffer, 0..envelope.len(), Offload::default()).is_ok();
    }
    let pushed = channel(driver, direct, number).is_some_and(|to| to.push(envelope).is_ok());
    if pushed {
        let direction = Direction::Out;
        host.observe(|| Sight::Envelope { direction, bytes: envelope });
    }
    pushed
}
