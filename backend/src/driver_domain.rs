//! The driver domain's loop.
//!
//! A round takes what all guests and the uplink have, finds out where it goes, copies it with
//! two calls (headers, then everything), and answers. Nobody waits for a guest that is slow: what
//! it has no receive buffers for is copied aside, as much as a bound allows, and the rest dropped.
//!
//! A process that ends leaves the store as it is, and interfaces Connected: the next one goes on
//! with their rings. So [`Backend::shutdown`] and a kill differ by little.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;
use xenvelope_grant::GrantError;
use xenvelope_grant::ring::RingError;
use xenvelope_grant::seam::{EventError, Hypervisor, Instant, NicPort, NoBuffer, StoreError};
use xenvelope_switch::table::TableError;
use xenvelope_switch::{PortConfig, PortError, Switch};

use crate::counters::{Counters, DropReason};
use crate::forward::{Awake, NicQueue, Round, rings_of};
use crate::manager::Manager;
use crate::netback::NetbackError;
use crate::passing::Refs;
use crate::uplink::PfControl;
use crate::vif::Vif;

/// Why an interface could not be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BackendError {
    /// Reading or writing the store failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Sharing or mapping pages failed.
    #[error("grant: {0}")]
    Grant(#[from] GrantError),
    /// No event channel.
    #[error("event channel: {0}")]
    Event(#[from] EventError),
    /// No memory for headers.
    #[error("buffers: {0}")]
    Memory(#[from] NoBuffer),
    /// The guest broke netif.
    #[error("netif: {0}")]
    Netif(#[from] NetbackError),
    /// The switch does not take the port.
    #[error("switch: {0}")]
    Switch(#[from] PortError),
    /// The forwarding table's pages do not hold a table.
    #[error("forwarding table: {0}")]
    Table(#[from] TableError),
    /// The toolstack gave the interface no MAC address that makes sense.
    #[error("the interface has no valid MAC address in the store")]
    Mac,
    /// It keeps more forwarding tables of earlier lives mapped than it may.
    #[error("the guest keeps the forwarding tables of earlier connections mapped")]
    Lingering,
    /// The indices of its envelope ring cannot be.
    #[error("envelope ring: {0}")]
    Ring(#[from] RingError),
    /// No queues, or more than it was offered.
    #[error("the frontend wants {asked} queues, of at most {max}")]
    Queues {
        /// What it asks for.
        asked: u64,
        /// What there may be.
        max: usize,
    },
    /// It sends envelopes, which are not offered any more.
    #[error("the frontend was offered envelopes by a process before us")]
    NoEnvelopes,
    /// The frontend does not ask for received frames to be copied.
    #[error("the frontend wants pages flipped, which nobody does any more")]
    NoRxCopy,
}

/// What can be set for the driver domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Whether envelopes are offered to guests. Without them this is a netif backend like any
    /// other.
    pub envelopes: bool,
    /// Pages of each guest's forwarding table: 1 to 16. A page holds 64 entries.
    pub table_pages: usize,
    /// How often the tables' heart beats.
    pub heartbeat: Duration,
    /// The manager's epoch: grows with each start on a host. Incarnations are made from it.
    pub epoch: u64,
    /// How many queues a frontend may have: 1 to 8.
    pub queues: usize,
    /// Only interfaces whose hotplug script has this file name are ours (`script=` in xl's
    /// `vif`); others are left alone. `None`: all are.
    pub script: Option<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            envelopes: true,
            table_pages: 4,
            heartbeat: Duration::from_millis(500),
            epoch: 1,
            queues: 1,
            script: None,
        }
    }
}

/// The uplink's port in the switch.
pub(crate) const UPLINK: xenvelope_switch::PortId = xenvelope_switch::PortId(0);

/// The driver domain's process: serves the interfaces of all guests.
pub struct Backend<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> {
    pub(crate) host: H,
    pub(crate) config: Config,
    pub(crate) uplink: Option<N>,
    pub(crate) card: C,
    pub(crate) switch: Switch,
    /// By port number.
    pub(crate) vifs: BTreeMap<u32, Vif<H>>,
    /// Guests' queues of the card, by port number.
    pub(crate) nic_queues: BTreeMap<u32, NicQueue<H::Pages, C::Queue>>,
    pub(crate) next_port: u32,
    pub(crate) incarnations: u64,
    pub(crate) manager: Manager,
    pub(crate) awake: Awake,
    pub(crate) round: Round<H>,
    /// References of ours that pass on what guests granted to us.
    pub(crate) refs: Refs,
    pub(crate) counters: Counters,
    pub(crate) beat_at: Instant,
}

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// A driver domain with an uplink, if there is one. It serves the interfaces that the
    /// toolstack puts under `backend/vif`.
    pub fn new(host: H, config: Config, uplink: Option<N>, card: C) -> Result<Self, BackendError> {
        let mut switch = Switch::new();
        if uplink.is_some() {
            switch.add_port(UPLINK, PortConfig::Uplink)?;
        }
        let round = Round::new(&host)?;
        let mut backend = Backend {
            host,
            config,
            uplink,
            card,
            switch,
            vifs: BTreeMap::new(),
            nic_queues: BTreeMap::new(),
            next_port: 1,
            incarnations: 0,
            manager: Manager::default(),
            awake: Awake::default(),
            round,
            refs: Refs::default(),
            counters: Counters::default(),
            beat_at: Instant::default(),
        };
        backend.watch_toolstack()?;
        Ok(backend)
    }

    /// Who may reach whom and by which way. Changes take effect at the next [`Backend::poll`].
    pub fn manager(&mut self) -> &mut Manager {
        &mut self.manager
    }

    /// What has been done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The way to the outside, if there is one.
    pub fn uplink(&self) -> Option<&N> {
        self.uplink.as_ref()
    }

    /// Interfaces that carry frames.
    pub fn connected(&self) -> usize {
        self.awake.connected()
    }

    /// Of them, those that the next round looks at: the others have had nothing for a while, and
    /// were asked to send an event when they have.
    pub fn awake(&self) -> usize {
        self.awake.ports().len()
    }

    /// The hypervisor that we run on.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Ends serving, for a process that is to be followed by another: interfaces stay Connected
    /// in the store, so their guests go on, and rings are unmapped. What has been taken has been
    /// answered, at the end of each round.
    pub fn shutdown(mut self) -> Counters {
        self.unwatch_all();
        self.end_passing();
        for vif in self.vifs.values_mut() {
            let waiting = vif.rings.take().map_or(0, |rings| {
                rings.queues.iter().map(|queue| queue.waiting.len() as u64).sum()
            });
            self.counters.drop_frames(DropReason::NoReceiveBuffer, waiting);
        }
        let leaving = self.round.leaving.len() as u64;
        self.counters.drop_frames(DropReason::Uplink, leaving + self.left_in_uplink());
        self.counters
    }

    /// One round. Whether there was anything to do.
    pub fn poll(&mut self, now: Instant) -> bool {
        // First: an event may be all that says that the store has changed.
        let mut busy = self.take_events();
        busy |= self.poll_store();
        busy |= self.poll_manager();
        busy |= self.forward(now);
        if now >= self.beat_at {
            self.beat_at = now + self.config.heartbeat;
            self.give_up_waiting(now);
            self.give_up_passed(now);
            for vif in self.vifs.values_mut() {
                if let Some(table) = &mut vif.table {
                    table.beat();
                }
                let host = &self.host;
                let kept = std::mem::take(&mut vif.lingering).into_iter();
                vif.lingering = kept
                    .filter_map(|pages| host.unexport(pages).err())
                    .map(|kept| kept.0)
                    .collect();
            }
        }
        busy
    }

    /// Sleeps until something comes, or until `until`. Returns at once if something is there.
    ///
    /// A port that our caller waits for by the same [`Hypervisor`] may end this, or be reported
    /// to [`Backend::poll`], which says then that there was something: it stays masked until the
    /// caller unmasks it, after either of the two.
    pub fn wait(&mut self, until: Instant) {
        if self.ask_for_events() {
            return;
        }
        let until = until.min(self.beat_at).min(self.next_done().unwrap_or(until));
        self.heed_events(until);
    }

    /// Asks every ring for an event, and says whether one has something already. Those that rest
    /// have asked.
    fn ask_for_events(&mut self) -> bool {
        let Self { nic_queues, awake, vifs, .. } = self;
        let mut waiting = false;
        for queue in nic_queues.values_mut() {
            waiting |= queue.buffers_have_come();
        }
        for port in awake.ports() {
            waiting |= rings_of(vifs, *port).is_some_and(|rings| rings.ask_for_events());
        }
        waiting
    }
}
