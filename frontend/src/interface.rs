//! The interface: what a network stack sees of the whole, and the loop that drives it.
//!
//! One owner drives a frontend: `poll`, let the stack take and send frames, `flush`, and `wait`
//! when nothing is to be done. Nothing in it is shared but what the protocols share.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;
use xenvelope_grant::seam::{
    EventError, Hypervisor, Instant, Lacks, Mechanism, NicPort, NoBuffer, PortId, StoreError,
};
use xenvelope_grant::{DomId, GrantError, Peer};
use xenvelope_switch::MacAddress;
use xenvelope_switch::channel::EnvelopeChannel;
use xenvelope_switch::envelope::EnvelopeBuilder;
use xenvelope_switch::table::{TableError, TableReader};

use crate::config::Config;
use crate::connect::{Control, TableRefs};
use crate::counters::Counters;
use crate::direct::Direct;
use crate::netfront::{NetifError, NetifOffloads, Receiver, Transmitter};
use crate::peers::{Flow, Path, PeerHash, Peers, Staged};
use crate::polling::Polling;
use crate::receive::{Batch, Come, Flights, Known, Parcels, Received, SmallFrames};
use crate::transmit::{OpenEnvelope, Run, SentByDefault};
use crate::warm::Warm;

/// Why an interface could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrontendError {
    /// Reading or writing the store failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Sharing or mapping pages failed.
    #[error("grant: {0}")]
    Grant(#[from] GrantError),
    /// No event channel.
    #[error("event channel: {0}")]
    Event(#[from] EventError),
    /// No memory for the receive area.
    #[error("receive area: {0}")]
    Memory(#[from] NoBuffer),
    /// The forwarding table is not one.
    #[error("forwarding table: {0}")]
    Table(#[from] TableError),
    /// A peer keeps more of our pages mapped than it may.
    #[error("domain {0} keeps pages of earlier channels mapped")]
    Lingering(DomId),
    /// Grants by a mechanism were asked for that there are not.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// The backend broke netif.
    #[error("netif: {0}")]
    Netif(#[from] NetifError),
    /// The toolstack gave no MAC address that makes sense.
    #[error("the interface has no valid MAC address in the store")]
    Mac,
}

/// How far the connection to the driver domain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Waiting for the backend.
    Down,
    /// Connected: frames flow.
    Up,
    /// Closed: by the backend, since it broke the protocol, or since the device is gone. Unless we
    /// said goodbye it begins anew after a while.
    Closed,
}

/// The connection to the driver domain.
pub(crate) struct DriverDomain<H: Hypervisor> {
    pub transmit: Transmitter<H, H::Pages>,
    pub receive: Receiver<H, H::Pages>,
    /// What the driver domain posts to our queue of the card, if we have one.
    pub nic_queue: Option<Receiver<H, H::Pages>>,
    pub backlog: VecDeque<Staged<H::Buf>>,
    pub envelopes: Option<EnvelopeChannel<H::Pages>>,
    /// What it takes by netif.
    pub offloads: NetifOffloads,
    pub port: H::Port,
    pub kick: bool,
}

/// The forwarding table, and when its heart last beat.
pub(crate) struct Table<W> {
    pub reader: TableReader<W>,
    pub refs: TableRefs,
    pub heartbeat: u64,
    pub beat_at: Instant,
    pub fresh: bool,
}

/// One network interface of a guest.
pub struct Frontend<H: Hypervisor, N: NicPort<Buf = H::Buf>> {
    pub(crate) host: H,
    pub(crate) config: Config,
    pub(crate) mac: MacAddress,
    pub(crate) control: Control,
    pub(crate) link: Link,
    pub(crate) table: Option<Table<H::Pages>>,
    pub(crate) driver: Option<DriverDomain<H>>,
    pub(crate) direct: Vec<Direct<H>>,
    /// Shared pages that could not be taken back yet, and who has them mapped.
    pub(crate) lingering: Vec<(DomId, H::Pages)>,
    /// Frames that a driver domain has answered or lost, and still uses.
    pub(crate) pinned: Vec<H::Out>,
    pub(crate) vf: Option<N>,
    /// Frames that wait for room in the VF's ring.
    pub(crate) vf_backlog: VecDeque<Staged<H::Buf>>,
    /// What the manager has been told of the VF's link.
    pub(crate) vf_told: bool,
    pub(crate) peers: Peers<H>,
    pub(crate) default_flow: Flow<H::Buf>,
    /// Who an address belonged to when it last had an entry.
    pub(crate) last_peer: hashbrown::HashMap<(MacAddress, u16), Peer, PeerHash>,
    /// What the default route's flow was for.
    pub(crate) sent_by_default: SentByDefault,
    /// An address to which frames have gone of late, and whose it was: it is among `last_peer`.
    pub(crate) settled: Option<(MacAddress, u16, Peer)>,
    /// By which way broadcast and multicast come in, and not before when.
    pub(crate) floods_by: Option<Path>,
    pub(crate) floods_after: Instant,
    pub(crate) outbox: VecDeque<Staged<H::Buf>>,
    pub(crate) warm: Warm<H::Buf>,
    pub(crate) inbox: VecDeque<Received<H::Buf>>,
    pub(crate) small: SmallFrames,
    pub(crate) parcels: Parcels,
    /// Gone while it is used.
    pub(crate) come: Option<Come>,
    pub(crate) batch: Batch<H>,
    /// Who sent the envelope that was taken last, for the one after it in the same turn.
    pub(crate) known: Option<Known>,
    pub(crate) flights: Flights<H>,
    /// Where the frame that was sent last went, for the one after it in the same flush.
    pub(crate) run: Option<Run>,
    /// How many runs there were.
    pub(crate) runs: u32,
    pub(crate) open: Option<OpenEnvelope>,
    /// The bytes of the open envelope.
    pub(crate) builder: EnvelopeBuilder,
    pub(crate) dones_due: Vec<Peer>,
    pub(crate) housekeeping_at: Instant,
    /// Between a poll and a flush: what the poll has found out holds.
    pub(crate) in_turn: bool,
    pub(crate) polling: Polling,
    /// The time, as we were last told.
    pub(crate) now: Instant,
    pub(crate) counters: Counters,
}

/// Frames that the stack may stage before a flush.
pub(crate) const OUTBOX: usize = 512;
/// Frames that wait for the stack.
pub(crate) const INBOX: usize = 2048;
/// How often a route that is to drain is looked at.
const HOLDING: Duration = Duration::from_micros(500);
/// How often outstanding grants and the table's heartbeat are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(20);

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// An interface over what the toolstack has put into the store, in whatever state a former
    /// owner of the device has left it. `vf` is the VF that it bonds, if there is one.
    pub fn new(host: H, config: Config, vf: Option<N>) -> Result<Self, FrontendError> {
        if config.keyed {
            host.has(Mechanism::Keyed)?;
        }
        let (control, mac) = Control::open(&host, config.handle)?;
        Ok(Frontend {
            host,
            config,
            mac,
            control,
            link: Link::Down,
            table: None,
            driver: None,
            direct: Vec::new(),
            lingering: Vec::new(),
            pinned: Vec::new(),
            vf,
            vf_backlog: VecDeque::new(),
            vf_told: false,
            peers: Peers::default(),
            default_flow: Flow::default(),
            last_peer: hashbrown::HashMap::default(),
            settled: None,
            sent_by_default: SentByDefault::default(),
            floods_by: None,
            floods_after: Instant::default(),
            outbox: VecDeque::with_capacity(OUTBOX),
            warm: Warm::default(),
            inbox: VecDeque::with_capacity(INBOX),
            small: SmallFrames::default(),
            parcels: Parcels::default(),
            come: Some(Come::default()),
            batch: Batch::default(),
            known: None,
            flights: Flights::default(),
            run: None,
            runs: 0,
            open: None,
            builder: EnvelopeBuilder::default(),
            dones_due: Vec::new(),
            housekeeping_at: Instant::default(),
            in_turn: false,
            polling: Polling::default(),
            now: Instant::default(),
            counters: Counters::default(),
        })
    }

    /// Our MAC address. It may be another when the toolstack has made the device again.
    pub fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The hypervisor that we run on.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// How far the connection to the driver domain is.
    pub fn link(&self) -> Link {
        self.link
    }

    /// What has been done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The VF, if one is bonded.
    pub fn vf(&self) -> Option<&N> {
        self.vf.as_ref()
    }

    /// What the driver domain takes by netif, while there is a connection to it: which of the
    /// frames that envelopes carry can take the default route too.
    pub fn netif_offloads(&self) -> Option<NetifOffloads> {
        self.driver.as_ref().map(|driver| driver.offloads)
    }

    /// Bonds a VF. The manager is told of it at the next [`Frontend::poll`].
    pub fn attach_vf(&mut self, vf: N) {
        self.end_run(self.now);
        self.vf = Some(vf);
    }

    /// Lets go of the VF. The manager is told at once, and frames that wait for room in its ring
    /// take another way. What is in the ring is the card's to send or to lose.
    pub fn detach_vf(&mut self) -> Option<N> {
        self.end_run(self.now);
        let vf = self.vf.take()?;
        self.reroute_vf_backlog(self.now);
        if self.link == Link::Up && self.vf_told {
            self.tell_vf();
        }
        Some(vf)
    }

    /// How many direct channels are connected.
    pub fn direct_channels(&self) -> usize {
        self.direct.iter().filter(|direct| direct.channel.is_some()).count()
    }

    /// Rings that are granted to other guests: those of direct channels that are connected, or on
    /// the way, perhaps for as long as the other side has no room for its own.
    pub fn direct_rings(&self) -> usize {
        self.direct.len()
    }

    /// Granted frames that are outstanding or pinned, over all peers.
    pub fn outstanding(&mut self) -> usize {
        self.peers.iter_mut().map(|(_, peer)| peer.cost()).sum()
    }

    /// Frames that have been staged or are held back, and have not left.
    pub fn queued(&self) -> usize {
        let held: usize = self.peers.iter().map(|(_, peer)| peer.flow.held.len()).sum();
        let backlog = self.driver.as_ref().map_or(0, |driver| driver.backlog.len());
        let open = if self.open.is_some() { self.builder.frames() } else { 0 };
        let staged = self.outbox.len() + open;
        staged + self.default_flow.held.len() + held + backlog + self.vf_backlog.len()
    }

    /// Takes in what has come: store changes, frames, envelopes, dones. Received frames wait in
    /// the inbox for the stack. Whether there was anything.
    pub fn poll(&mut self, now: Instant) -> bool {
        self.now = now;
        self.check_table(now);
        self.end_run(now);
        let mut busy = self.poll_store(now);
        busy |= self.collect(now);
        self.in_turn = true;
        if self.link == Link::Up && self.vf_up() != self.vf_told {
            self.tell_vf();
        }
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.expire(now);
            self.retry_lingering();
        }
        busy
    }

    /// [`Frontend::wait`] without looking before.
    pub(crate) fn sleep(&mut self, until: Instant) {
        let mut until = until.min(self.next_housekeeping()).min(self.control.look_at);
        if !self.dones_due.is_empty() {
            until = until.min(self.host.now() + self.config.done_delay);
        }
        if self.holding() {
            // That an older route has drained is not always told by an event.
            until = until.min(self.host.now() + HOLDING);
        }
        // While no more can be handed over, what is in the rings is no reason to be awake: that a
        // batch has been copied is.
        if !self.flights.is_full() && self.ask_for_events() {
            return;
        }
        let mut fired = [PortId(0); 64];
        let count = self.host.wait(&mut fired, until);
        // Unmask first, look at the rings after: a port that fires in between fires again.
        for id in &fired[..count] {
            if let Some(driver) = &self.driver
                && self.host.id(&driver.port) == *id
            {
                self.host.unmask(&driver.port);
            } else if let Some(direct) =
                self.direct.iter().find(|direct| self.host.id(&direct.port) == *id)
            {
                self.host.unmask(&direct.port);
            } else if let Some(vf) = &self.vf
                && vf.interrupt() == *id
            {
                vf.unmask();
            }
        }
    }

    /// When a sleep has to end to look at grants, at a VF's link, and at the table's heartbeat. Who
    /// has nothing outstanding sleeps for longer: on a host with many idle guests nothing else
    /// would wake them.
    fn next_housekeeping(&self) -> Instant {
        let outstanding = self.link != Link::Up
            || self.vf.is_some()
            || self.queued() > 0
            || !(self.pinned.is_empty() && self.lingering.is_empty())
            || self.peers.iter().any(|(_, peer)| peer.cost() > 0);
        if outstanding {
            return self.housekeeping_at;
        }
        // A heart that stops right after we looked is believed for so much longer.
        self.housekeeping_at.max(self.now + self.config.table_stale / 4)
    }

    /// Whether frames wait for an older route to drain.
    pub(crate) fn holding(&self) -> bool {
        !self.default_flow.held.is_empty()
            || self.peers.iter().any(|(_, peer)| !peer.flow.held.is_empty())
    }

    /// Asks every ring for an event, and says whether one has something already.
    fn ask_for_events(&mut self) -> bool {
        let mut waiting = false;
        if let Some(driver) = &mut self.driver {
            waiting |= driver
                .transmit
                .pending_or_ask()
                .map_or(true, |out| out > 0 && !driver.backlog.is_empty());
            for receiver in driver.receivers() {
                waiting |= receiver.pending_or_ask().map_or(true, |count| count > 0);
            }
            if let Some(envelopes) = &mut driver.envelopes {
                waiting |= envelopes.pending_or_ask().map_or(true, |count| count > 0);
            }
        }
        for direct in &mut self.direct {
            if let Some(channel) = &mut direct.channel {
                waiting |= channel.pending_or_ask().map_or(true, |count| count > 0);
            }
        }
        waiting
    }

    /// Whether the table's heart still beats: a manager that is gone must not send frames to
    /// domids that may be somebody else by now.
    pub(crate) fn check_table(&mut self, now: Instant) {
        if let Some(table) = &mut self.table {
            let heartbeat = table.reader.heartbeat();
            if heartbeat != table.heartbeat {
                table.heartbeat = heartbeat;
                table.beat_at = now;
            }
            table.fresh = now.since(table.beat_at) < self.config.table_stale;
        }
    }
}
