//! Mapping a frontend's rings, at the handshake or in the place of a process before us.

use std::collections::VecDeque;

use xenvelope_grant::Gref;
use xenvelope_grant::netif::{RxRequest, RxResponse};
use xenvelope_grant::ring::Back;
use xenvelope_grant::seam::{Access, Hypervisor, Mechanism, NicPort, Shared, StoreError};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_switch::Vlan;
use xenvelope_switch::channel::{EnvelopeChannel, RING_PAGES};
use xenvelope_switch::table::TableWriter;

use super::MAX_QUEUES;
use crate::driver_domain::{Backend, BackendError};
use crate::forward::{NicQueue, Offered, WAITING_FRAMES};
use crate::manager::Steering;
use crate::netback::{salvage_rx, salvage_tx};
use crate::passing::{Answers, Passed};
use crate::uplink::PfControl;
use crate::vif::{Phase, Queue, RX_LAYOUT, Rings, TX_LAYOUT, Takes, Vif};

/// Forwarding tables of earlier lives that a guest may keep mapped. Beyond that it gets no new
/// one: each costs us pages and references.
const LINGERING: usize = 4;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    /// Maps the rings, keeps a forwarding table for the guest, and says Connected.
    pub(super) fn connect(&mut self, port: u32) -> Result<(), BackendError> {
        self.take_on(port, self.max_queues(), false)
    }

    /// The same for an interface whose both sides are Connected, and whose backend died. The
    /// frontend knows nothing of that: the same rings and ports, answers where the last ones
    /// stopped. A port whose other end died is open for us again (`evtchn_close`). What the dead
    /// process had taken and not answered comes again, so a frame may be sent twice.
    pub(super) fn adopt(&mut self, port: u32) -> Result<(), BackendError> {
        // It may have been offered more queues than we would.
        self.take_on(port, MAX_QUEUES, true)?;
        self.counters.adopted += 1;
        tracing::info!(port, "interface taken over");
        Ok(())
    }

    fn take_on(&mut self, port: u32, max_queues: usize, adopted: bool) -> Result<(), BackendError> {
        let Some(vif) = self.vifs.get(&port) else {
            return Ok(());
        };
        let (host, front, back, guest) = (&self.host, vif.front, vif.back, vif.guest);
        if vif.lingering.len() >= LINGERING {
            return Err(BackendError::Lingering);
        }
        if !front.feature(host, key::REQUEST_RX_COPY) {
            return Err(BackendError::NoRxCopy);
        }
        let count = queue_count(host, &front, max_queues)?;
        let mut queues = Vec::with_capacity(count);
        for index in 0..count {
            let directory = match count {
                1 => front,
                _ => front.child(format_args!("queue-{index}"))?,
            };
            queues.push(map_queue(host, vif, &directory)?);
        }
        if adopted {
            for queue in &mut queues {
                let refused = salvage_tx(&mut queue.tx)?;
                let given_back = salvage_rx(&mut queue.rx)?;
                if refused + given_back > 0 {
                    tracing::info!(port, refused, given_back, "half answered");
                }
            }
        }
        let asked = front.feature(host, key::FEATURE_ENVELOPE);
        if adopted && asked && !self.config.envelopes {
            // It goes on putting envelopes into a channel that nobody reads any more.
            return Err(BackendError::NoEnvelopes);
        }
        let envelopes = self.config.envelopes && asked;
        let channel = if envelopes {
            let send = front.refs::<RING_PAGES>(host, key::ENVELOPE_RX_RING_REF, RING_PAGES)?;
            let receive = front.refs::<RING_PAGES>(host, key::ENVELOPE_TX_RING_REF, RING_PAGES)?;
            let send = host.import(guest, &send, Access::Write)?;
            let receive = host.import(guest, &receive, Access::Write)?;
            Some(EnvelopeChannel::resume(send, receive)?)
        } else {
            None
        };
        let ring = self.map_nic_queue(vif, adopted)?;
        let passes = envelopes
            && front.feature(host, key::FEATURE_TRANSITIVE)
            && host.has(Mechanism::Transitive).is_ok();
        let passed = passes
            .then(|| Box::new(Passed::new(host.random() as u32, (host.random(), host.random()))));
        let rings = Rings {
            queues,
            envelopes: channel,
            window: Box::default(),
            done_to: None,
            envelopes_offered: Offered::default(),
            passed,
            takes: takes(host, &front),
            awake: false,
            quiet: 0,
        };
        let mut keys = Transaction::new();
        let table =
            if envelopes {
                let pages = host.export(guest, self.config.table_pages, Access::Read)?;
                keys.write(&back, key::FORWARDING_TABLE_PAGES, pages.refs().len(), Some(guest))
                    .refs(&back, key::FORWARDING_TABLE_REF, pages.refs(), Some(guest));
                Some(TableWriter::new(pages, host.random(), self.config.epoch)?)
            } else {
                None
            };
        // Written when it is Connected already, too: the frontend sees a new table by it.
        keys.state(&back, XenbusState::Connected, Some(guest));
        let vf = front.feature(host, key::VF_LINK);
        // A guest that tags its frames itself gets what bears a tag by the uplink.
        let vid = match vif.vlan {
            Vlan::Access(vid) => vid,
            Vlan::Trunk(_) => 0,
        };
        let steering = Steering { mac: vif.mac, vid };
        if let Some(ring) = ring {
            self.nic_queues.insert(port, NicQueue::new(ring, steering));
        }
        if let Some(vif) = self.vifs.get_mut(&port) {
            self.awake.add(&self.host, port, vif.rings.insert(rings));
            vif.table = table;
            vif.phase = Phase::Connected;
            vif.vf = vf;
        }
        // The table is filled before the guest can see it.
        self.manager.touch();
        self.poll_manager();
        keys.commit(&self.host)?;
        Ok(())
    }

    /// Maps the ring by which a guest posts buffers to its queue of the card, if it has one.
    #[allow(clippy::type_complexity, reason = "what is in a ring says what ring it is")]
    fn map_nic_queue(
        &self,
        vif: &Vif<H>,
        adopted: bool,
    ) -> Result<Option<Back<H::Pages, RxRequest, RxResponse>>, BackendError> {
        let gref = match vif.front.word(&self.host, key::NIC_QUEUE_RING_REF) {
            // Nobody offered it; or somebody before us did, and then its buffers wait for good,
            // and what they are for comes by the PF and netif.
            _ if !self.card.has_queues() => return Ok(None),
            Err(StoreError::NoEntry) => return Ok(None),
            gref => Gref(gref?),
        };
        let pages = self.host.import(vif.guest, &[gref], Access::Write)?;
        let mut ring = Back::attach(pages, RX_LAYOUT);
        if adopted {
            salvage_rx(&mut ring)?;
        }
        Ok(Some(ring))
    }
}

/// How many queues the frontend has. Absent: one. None or too many is an error, before anything
/// is made by that number (CVE-2026-45890).
fn queue_count<H: Hypervisor>(
    host: &H,
    front: &Directory,
    max: usize,
) -> Result<usize, BackendError> {
    let asked = match front.number(host, key::MULTI_QUEUE_NUM_QUEUES) {
        Err(StoreError::NoEntry) => 1,
        asked => asked?,
    };
    let count = usize::try_from(asked).ok().filter(|count| (1..=max).contains(count));
    count.ok_or(BackendError::Queues { asked, max })
}

/// Maps a queue whose keys are in `directory`.
fn map_queue<H: Hypervisor>(
    host: &H,
    vif: &Vif<H>,
    directory: &Directory,
) -> Result<Queue<H>, BackendError> {
    let tx = Gref(directory.word(host, key::TX_RING_REF)?);
    let rx = Gref(directory.word(host, key::RX_RING_REF)?);
    let tx = host.import(vif.guest, &[tx], Access::Write)?;
    let rx = host.import(vif.guest, &[rx], Access::Write)?;
    // Split ports first, as Linux' netback looks for them.
    let (tx_remote, rx_remote) = match directory.word(host, key::EVENT_CHANNEL_TX) {
        Ok(tx) => (tx, Some(directory.word(host, key::EVENT_CHANNEL_RX)?)),
        Err(_) => (directory.word(host, key::EVENT_CHANNEL)?, None),
    };
    let tx_port = host.connect(vif.guest, tx_remote)?;
    let rx_port = match rx_remote.filter(|rx| *rx != tx_remote) {
        Some(remote) => Some(host.connect(vif.guest, remote)?),
        None => None,
    };
    Ok(Queue {
        tx: Back::attach(tx, TX_LAYOUT),
        rx: Back::attach(rx, RX_LAYOUT),
        tx_port,
        rx_port,
        // Events that were sent while nobody listened are lost, theirs and ours.
        kick_tx: true,
        kick_rx: true,
        offered: Offered::default(),
        answers: Answers::default(),
        waiting: VecDeque::with_capacity(WAITING_FRAMES),
        parked: 0,
        parked_bytes: 0,
        behind: None,
    })
}

fn takes<H: Hypervisor>(host: &H, front: &Directory) -> Takes {
    let said = |key| front.feature(host, key);
    Takes {
        sg: said(key::FEATURE_SG),
        gso_v4: said(key::FEATURE_GSO_TCPV4),
        gso_v6: said(key::FEATURE_GSO_TCPV6),
        checksum_v4: !said(key::FEATURE_NO_CSUM_OFFLOAD),
        checksum_v6: said(key::FEATURE_IPV6_CSUM_OFFLOAD),
        rx_notify: said(key::FEATURE_RX_NOTIFY),
    }
}
