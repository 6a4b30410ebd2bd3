//! Frames that wait for receive buffers.
//!
//! A guest posts buffers when its stack has run, not when we would like it: a burst of 64 KiB
//! frames needs more than a ring holds. Netback keeps a queue then. So do we: a copy in a buffer
//! of ours, so that the sender gets its pages back, bounded in frames and bytes for each queue of
//! each guest (XSA-392), and in time. Others never wait behind it.
//!
//! The sender was told that its frame is gone, and may take another route, on which it would
//! overtake what waits (rule 6). So only frames wait that the sender's table sends here; when it
//! does not any more, what waits is dropped before the sender can follow the table.

use std::time::Duration;

use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::seam::{Buffer, CopyOp, End, Hypervisor, Instant, NicPort, Offload};
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, EntryFlags};

use super::answer::queue_at;
use super::{Outbound, QueueId, SLOT, Sources};
use crate::counters::DropReason;
use crate::driver_domain::Backend;
use crate::netback::{Source, plan, slots_for};
use crate::passing::Passed;
use crate::uplink::PfControl;
use crate::vif::{Queue, Rings};

/// Frames that may wait for one queue.
pub(crate) const WAITING_FRAMES: usize = 64;
/// And their bytes.
const WAITING_BYTES: usize = 1 << 20;
/// For how long: by then TCP has sent them again.
const PATIENCE: Duration = Duration::from_secs(1);

/// A frame that waits.
pub(crate) struct Waiting<B> {
    pub buffer: B,
    pub length: usize,
    pub offload: Offload,
    /// Who sent it.
    pub source: MacAddress,
    pub since: Instant,
}

impl<H: Hypervisor> Queue<H> {
    /// A frame that was to wait has been copied, or has not. Whether it waits.
    pub fn wait(&mut self, frame: Waiting<H::Buf>, whole: bool) -> bool {
        if whole {
            self.waiting.push_back(frame);
        } else {
            self.left(frame.length);
        }
        whole
    }

    /// A frame does not wait any more.
    fn left(&mut self, length: usize) {
        self.parked = self.parked.saturating_sub(1);
        self.parked_bytes = self.parked_bytes.saturating_sub(length);
    }

    /// The next frame that waits, if there are buffers for it now and the guest has copied what
    /// was passed on to it before.
    fn ready(&mut self, passed: Option<&Passed>) -> Option<Waiting<H::Buf>> {
        let next = self.waiting.front()?;
        self.behind = self.behind.filter(|envelope| passed.is_some_and(|p| !p.is_done(*envelope)));
        if self.behind.is_some() {
            return None;
        }
        let posted = self.rx.pending().ok()? as usize;
        if posted < slots_for(next.length, &next.offload) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.left(next.length);
        Some(next)
    }

    /// Before a sleep: asks for an event when there are buffers for what waits. Whether they are
    /// there, or the ring is broken.
    pub fn buffers_have_come(&mut self) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        if self.behind.is_some() {
            // A done wakes us, too.
            return false;
        }
        let needed = slots_for(next.length, &next.offload) as u32;
        self.rx.ask_after(needed).map_or(true, |posted| posted >= needed)
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Whether what that sender sends to a guest may wait here: no other route is its.
    pub(super) fn may_wait(&self, source: MacAddress, to: u32) -> bool {
        let Some(to) = self.vifs.get(&to) else { return false };
        if to.rings.as_ref().is_none_or(|rings| rings.envelopes.is_none()) {
            // Whatever goes to it comes by here.
            return true;
        }
        let from = self.vifs.values().find(|from| from.mac == source);
        let entry = from.and_then(|from| from.table.as_ref()?.get(to.mac, 0));
        entry.is_none_or(|entry| {
            entry.channel == CHANNEL_DRIVER_DOMAIN && !entry.flags.contains(EntryFlags::ENVELOPE)
        })
    }

    /// Tables have changed: drops what waits and would be overtaken.
    pub(crate) fn drop_overtaken(&mut self) {
        for port in self.vifs.keys().copied().collect::<Vec<_>>() {
            for queue in 0.. {
                let at = QueueId { port, queue };
                let Some((queue, ..)) = queue_at(&mut self.vifs, at) else { break };
                let waiting: Vec<_> = queue.waiting.drain(..).collect();
                let (stays, goes): (Vec<_>, Vec<_>) =
                    waiting.into_iter().partition(|frame| self.may_wait(frame.source, port));
                self.counters.drop_frames(DropReason::NoReceiveBuffer, goes.len() as u64);
                if let Some((queue, ..)) = queue_at(&mut self.vifs, at) {
                    queue.waiting.extend(stays);
                    goes.iter().for_each(|frame| queue.left(frame.length));
                }
            }
        }
    }

    /// Plans the copy of a frame aside, if it may wait.
    pub(super) fn park(
        &mut self,
        (to, source): (QueueId, MacAddress),
        sources: &[Source],
        total: usize,
        offload: Offload,
    ) -> Result<(), DropReason> {
        let may_wait = self.may_wait(source, to.port);
        let (queue, _, takes) = queue_at(&mut self.vifs, to).ok_or(DropReason::NoDestination)?;
        let full = queue.parked >= WAITING_FRAMES || queue.parked_bytes + total > WAITING_BYTES;
        if full || !takes.rx_notify || !may_wait {
            return Err(DropReason::NoReceiveBuffer);
        }
        queue.parked += 1;
        queue.parked_bytes += total;
        let copied = self.copy_aside(sources, total, offload, Some((to, source)));
        if copied.is_err()
            && let Some((queue, ..)) = queue_at(&mut self.vifs, to)
        {
            queue.left(total);
        }
        copied
    }

    /// Plans the copy of a frame into a buffer of ours. Where it goes then is `to`, or the uplink.
    pub(super) fn copy_aside(
        &mut self,
        sources: &[Source],
        total: usize,
        offload: Offload,
        to: Option<(QueueId, MacAddress)>,
    ) -> Result<(), DropReason> {
        let mut copy = self.host.take(None, total).map_err(|_| DropReason::NoBuffer)?;
        let buffer = self.round.buffers.len();
        let first = self.round.ops.len();
        let mut at = 0;
        for source in sources {
            let (mut end, mut left) = (source.end, source.len);
            while left > 0 {
                let piece = left.min(PAGE_SIZE - at % PAGE_SIZE);
                let here = end;
                match &mut end {
                    // Ours already: no call is needed for it, and Linux' has none for two local
                    // ends.
                    End::Local { buffer, offset } => {
                        let mut bytes = [0; SLOT];
                        let from = &self.round.buffers[usize::from(*buffer)];
                        for start in (0..piece).step_by(SLOT) {
                            let bytes = &mut bytes[..SLOT.min(piece - start)];
                            from.get(*offset as usize + start, bytes);
                            copy.put(at + start, bytes);
                        }
                        *offset += piece as u32;
                    }
                    End::Foreign { offset, .. } | End::Keyed { offset, .. } => {
                        let dst = End::Local { buffer: buffer as u16, offset: at as u32 };
                        self.round.ops.push(CopyOp::new(here, dst, piece as u16));
                        *offset = offset.wrapping_add(piece as u16);
                    }
                }
                at += piece;
                left -= piece;
            }
        }
        self.round.buffers.push(copy);
        let ops = first..self.round.ops.len();
        self.round.outbound.push(Outbound { buffer, length: total, ops, offload, to });
        Ok(())
    }

    /// Plans the delivery of frames that have waited long enough. Whether there were any.
    pub(super) fn deliver_waiting(&mut self) -> bool {
        let mut busy = false;
        let Self { vifs, awake, round, counters, .. } = self;
        // For whom frames wait does not rest.
        for port in awake.ports() {
            let Some(vif) = vifs.get_mut(port) else { continue };
            let guest = vif.guest;
            let Some(Rings { queues, passed, .. }) = &mut vif.rings else { continue };
            for (index, queue) in queues.iter_mut().enumerate() {
                if !queue.waiting.is_empty() && queue.rx.pending().is_err() {
                    round.broken.push(*port);
                }
                while let Some(Waiting { buffer, length, offload, .. }) =
                    queue.ready(passed.as_deref())
                {
                    busy = true;
                    let of = round.buffers.len() as u16;
                    let mut sources = Sources::new();
                    for at in (0..length).step_by(PAGE_SIZE) {
                        let end = End::Local { buffer: of, offset: at as u32 };
                        sources.push(Source { end, len: PAGE_SIZE.min(length - at) });
                    }
                    round.buffers.push(buffer);
                    let ops = &mut round.ops;
                    match plan(&mut queue.rx, guest, &sources, length, offload, ops) {
                        Some(delivery) => {
                            counters.waited += 1;
                            let to = QueueId { port: *port, queue: index };
                            round.deliveries.push((to, delivery));
                        }
                        None => counters.drop_frames(DropReason::NoReceiveBuffer, 1),
                    }
                }
            }
        }
        busy
    }

    /// Drops what has waited too long.
    pub(crate) fn give_up_waiting(&mut self, now: Instant) {
        let rings = self.vifs.values_mut().filter_map(|vif| vif.rings.as_mut());
        for queue in rings.flat_map(|rings| &mut rings.queues) {
            while queue.waiting.front().is_some_and(|next| now.since(next.since) > PATIENCE) {
                if let Some(next) = queue.waiting.pop_front() {
                    queue.left(next.length);
                    self.counters.drop_frames(DropReason::NoReceiveBuffer, 1);
                }
            }
        }
    }
}
