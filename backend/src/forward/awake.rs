//! Which guests a round looks at.
//!
//! A host has many guests of which few are busy, and what a packet costs must not grow with the
//! others. So a guest that had nothing for [`QUIET`] rounds rests: rounds pass it over until its
//! event channel says that there is something, or until there is something for it.
//!
//! Nothing is slept through: a guest rests only if its rings were empty after they had asked for
//! an event (`Back::pending_or_ask`), so whoever puts something in after that sends one, which
//! stays pending until it is taken, at the beginning of a round or in the sleep. For a guest that
//! sends none, each round looks at one of those that rest all the same: it is late, and no more.
//! When the tables change everybody is looked at: what guests have sent by the old ones is taken
//! in the round in which they see the new ones (rule 6).

use std::collections::BTreeMap;
use std::ops::Bound;

use xenvelope_grant::seam::{GuestQueue, Hypervisor, Instant, NicPort, PortId};

use super::{NicQueue, QueueId};
use crate::driver_domain::Backend;
use crate::uplink::PfControl;
use crate::vif::{Rings, Vif};

/// Rounds without anything from a guest after which it rests. Asking its rings for events costs
/// about as much as looking at them in a few rounds.
const QUIET: u32 = 32;
/// Events that are taken at a time.
const EVENTS: usize = 256;

/// The guests that rounds look at.
#[derive(Default)]
pub(crate) struct Awake {
    /// Their port numbers, in order.
    ports: Vec<u32>,
    /// Whose event channels are whose, of all that are connected.
    channels: BTreeMap<PortId, QueueId>,
    /// Interfaces that are connected.
    connected: usize,
    /// The port of the last one that was looked at although it rests.
    looked_at: u32,
}

impl Awake {
    /// Interfaces that are connected.
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// Those that are awake, in order.
    pub fn ports(&self) -> &[u32] {
        &self.ports
    }

    /// An interface has been connected: it is awake.
    pub fn add<H: Hypervisor>(&mut self, host: &H, port: u32, rings: &mut Rings<H>) {
        for (index, queue) in rings.queues.iter().enumerate() {
            let at = QueueId { port, queue: index };
            self.channels.extend(queue.ports().map(|channel| (host.id(channel), at)));
        }
        self.connected += 1;
        // A round allocates nothing.
        self.ports.reserve(self.connected.saturating_sub(self.ports.len()));
        self.wake(port, rings);
    }

    /// An interface is connected no more.
    pub fn remove(&mut self, port: u32) {
        self.channels.retain(|_, at| at.port != port);
        self.connected -= 1;
        self.ports.retain(|other| *other != port);
    }

    /// Has rounds look at a guest from now on.
    #[inline]
    pub fn wake<H: Hypervisor>(&mut self, port: u32, rings: &mut Rings<H>) {
        if !rings.awake {
            (rings.awake, rings.quiet) = (true, 0);
            self.insert(port);
        }
    }

    #[cold]
    fn insert(&mut self, port: u32) {
        if let Err(place) = self.ports.binary_search(&port) {
            self.ports.insert(place, port);
        }
    }

    /// Calls `each` with all that are awake; those that it says no to rest.
    pub fn retain<H: Hypervisor>(
        &mut self,
        vifs: &mut BTreeMap<u32, Vif<H>>,
        mut each: impl FnMut(&mut Rings<H>) -> bool,
    ) {
        self.ports.retain(|port| {
            let Some(rings) = rings_of(vifs, *port) else { return false };
            rings.awake = each(rings);
            rings.awake
        });
    }
}

/// The rings of an interface, if it is connected.
pub(crate) fn rings_of<H: Hypervisor>(
    vifs: &mut BTreeMap<u32, Vif<H>>,
    port: u32,
) -> Option<&mut Rings<H>> {
    vifs.get_mut(&port)?.rings.as_mut()
}

impl<H: Hypervisor> Rings<H> {
    /// Asks each ring for an event, and says whether one has something already. One that is broken
    /// counts as something: the next round closes it.
    pub fn ask_for_events(&mut self) -> bool {
        let mut waiting = false;
        for queue in &mut self.queues {
            waiting |= queue.tx.pending_or_ask().map_or(true, |count| count > 0);
            waiting |= queue.buffers_have_come();
        }
        if let Some(envelopes) = &mut self.envelopes {
            waiting |= envelopes.pending_or_ask().map_or(true, |count| count > 0);
        }
        waiting
    }

    /// At the end of a round, when everything is published: whether it is to be looked at in the
    /// next, too.
    pub fn stays_awake(&mut self) -> bool {
        if self.quiet < QUIET {
            return true;
        }
        self.quiet = 0;
        // Frames that wait for receive buffers are looked at without an event.
        self.queues.iter().any(|queue| queue.parked > 0) || self.ask_for_events()
    }

    /// Whether there is anything, of one that rests.
    fn has_something(&self) -> bool {
        let queued = |queue: &crate::vif::Queue<H>| queue.tx.pending().map_or(true, |n| n > 0);
        self.queues.iter().any(queued)
            || self.envelopes.as_ref().is_some_and(|e| e.pending().map_or(true, |n| n > 0))
    }
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// At the beginning of a round: wakes those who have sent an event. Whether there was an event
    /// that is none of ours: our caller's, who is to look at it before it sleeps.
    pub(crate) fn take_events(&mut self) -> bool {
        self.awake.ports.len() < self.awake.connected && self.heed_events(Instant(0))
    }

    /// Has the next round look at everybody.
    pub(crate) fn wake_all(&mut self) {
        let Self { awake, vifs, .. } = self;
        for (port, vif) in vifs {
            if let Some(rings) = &mut vif.rings {
                awake.wake(*port, rings);
            }
        }
    }

    /// Sleeps until there is an event, or until `until`, and wakes those who have sent one. As
    /// [`Backend::take_events`].
    pub(crate) fn heed_events(&mut self, until: Instant) -> bool {
        let mut fired = [PortId(0); EVENTS];
        let count = self.host.wait(&mut fired, until);
        let mut others = false;
        for id in &fired[..count] {
            others |= !self.heed(*id);
        }
        others
    }

    /// Unmasks first: rings are looked at after. Whether the event is one of ours.
    fn heed(&mut self, id: PortId) -> bool {
        let Self { awake, vifs, host, .. } = self;
        if let Some(at) = awake.channels.get(&id).copied() {
            if let Some(rings) = rings_of(vifs, at.port) {
                let queue = rings.queues.get(at.queue);
                if let Some(port) =
                    queue.and_then(|queue| queue.ports().find(|port| host.id(port) == id))
                {
                    host.unmask(port);
                }
                awake.wake(at.port, rings);
            }
            return true;
        }
        if let Some(uplink) = self.uplink.as_ref().filter(|uplink| uplink.interrupt() == id) {
            uplink.unmask();
            return true;
        }
        let mut queues = self.nic_queues.values().filter_map(NicQueue::card);
        let queue = queues.find(|queue| queue.interrupt() == id);
        if let Some(queue) = queue {
            queue.unmask();
        }
        queue.is_some()
    }

    /// Wakes the next of those that rest, if it has something.
    pub(super) fn look_at_one_that_rests(&mut self) {
        let Self { awake, vifs, .. } = self;
        if awake.ports.len() == awake.connected {
            return;
        }
        let after = (Bound::Excluded(awake.looked_at), Bound::Unbounded);
        let Some((port, vif)) = vifs.range_mut(after).next() else {
            awake.looked_at = 0;
            return;
        };
        awake.looked_at = *port;
        if let Some(rings) = vif.rings.as_mut().filter(|rings| !rings.awake)
            && rings.has_something()
        {
            awake.wake(*port, rings);
        }
    }
}
