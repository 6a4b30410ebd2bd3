//! One guest's interface, as the driver domain has it.

use std::collections::VecDeque;

use xenvelope_grant::DomId;
use xenvelope_grant::netif::{RxRequest, RxResponse, TxRequest, TxResponse};
use xenvelope_grant::ring::{Back, RingLayout};
use xenvelope_grant::seam::{Hypervisor, Offload};
use xenvelope_grant::xenbus::Directory;
use xenvelope_switch::channel::EnvelopeChannel;
use xenvelope_switch::envelope::Addresses;
use xenvelope_switch::ethernet::ether_type;
use xenvelope_switch::table::TableWriter;
use xenvelope_switch::window::ReceiveWindow;
use xenvelope_switch::{MacAddress, Vlan};

use crate::forward::{Offered, Waiting};
use crate::passing::{Answers, Passed};

/// The layout of netif's rings.
pub(crate) const TX_LAYOUT: RingLayout = RingLayout::one_page::<TxRequest, TxResponse>();
/// The layout of netif's rings.
pub(crate) const RX_LAYOUT: RingLayout = RingLayout::one_page::<RxRequest, RxResponse>();

/// How far an interface is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Our features are in the store; the frontend is to connect.
    InitWait,
    /// Frames flow. Without rings: they flowed in the life of the process before us.
    Connected,
    /// Down, as the frontend asked; it is to say Closed.
    Closing,
    /// Down.
    Closed,
}

/// A pair of netif's rings.
pub(crate) struct Queue<H: Hypervisor> {
    pub tx: Back<H::Pages, TxRequest, TxResponse>,
    pub rx: Back<H::Pages, RxRequest, RxResponse>,
    /// The port of the transmit ring, and of both if there is only one.
    pub tx_port: H::Port,
    /// The port of the receive ring, if it has one of its own.
    pub rx_port: Option<H::Port>,
    /// The transmit ring's side is to get an event at the end of the round.
    pub kick_tx: bool,
    /// The receive ring's side is.
    pub kick_rx: bool,
    /// What its transmit ring holds.
    pub offered: Offered,
    /// Answers that wait for other guests to copy what was passed on to them.
    pub answers: Answers,
    /// Frames that wait for receive buffers, in order, in buffers of ours.
    pub waiting: VecDeque<Waiting<H::Buf>>,
    /// Frames that wait, those too that are being copied for it in this round.
    pub parked: usize,
    /// Their bytes.
    pub parked_bytes: usize,
    /// The guest has to say done of that envelope of frames that were passed on to it before it
    /// gets what waits.
    pub behind: Option<u32>,
}

impl<H: Hypervisor> Queue<H> {
    /// Its ports.
    pub fn ports(&self) -> impl Iterator<Item = &H::Port> {
        std::iter::once(&self.tx_port).chain(&self.rx_port)
    }

    /// Sends the events that are due.
    pub fn kick(&mut self, host: &H) {
        let (tx, rx) = (std::mem::take(&mut self.kick_tx), std::mem::take(&mut self.kick_rx));
        match &self.rx_port {
            Some(port) if rx => host.notify(port),
            _ => {}
        }
        if tx || (rx && self.rx_port.is_none()) {
            host.notify(&self.tx_port);
        }
    }
}

/// What a guest's stack takes, by the frontend's keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Takes {
    /// Frames in more than one piece.
    pub sg: bool,
    /// TCP over IPv4 with a GSO size.
    pub gso_v4: bool,
    /// TCP over IPv6 with a GSO size.
    pub gso_v6: bool,
    /// Blank checksums over IPv4.
    pub checksum_v4: bool,
    /// Blank checksums over IPv6.
    pub checksum_v6: bool,
    /// It sends an event when it has posted receive buffers: for one that does not, frames do
    /// not wait for buffers, since nobody would tell us of them.
    pub rx_notify: bool,
}

impl Takes {
    /// Whether it takes frames with that GSO size and kind.
    pub fn gso(&self, offload: &Offload) -> bool {
        match (offload.gso_size, offload.gso_type) {
            (0, _) => true,
            (_, 1) => self.gso_v4,
            (_, 4) => self.gso_v6,
            _ => false,
        }
    }

    /// Whether it takes a frame of that EtherType with its checksum as it is.
    pub fn checksum(&self, ether_type: u16, offload: &Offload) -> bool {
        match ether_type {
            _ if !offload.needs_checksum => true,
            ether_type::IPV4 => self.checksum_v4,
            ether_type::IPV6 => self.checksum_v6,
            // Nobody knows where the checksum of such a frame is; as Linux' netback it is passed
            // on with its flag.
            _ => true,
        }
    }
}

/// The shared rings of a connected interface.
pub(crate) struct Rings<H: Hypervisor> {
    /// At least one.
    pub queues: Vec<Queue<H>>,
    /// The envelope channel. Its events go to the first queue's receive port.
    pub envelopes: Option<EnvelopeChannel<H::Pages>>,
    /// What that holds.
    pub envelopes_offered: Offered,
    /// Envelopes whose destination we are, on behalf of guests without envelopes.
    pub window: Box<ReceiveWindow>,
    /// Where a done for these goes.
    pub done_to: Option<Addresses>,
    /// What was passed on to it; none if it does not take that, or there is no such thing here.
    pub passed: Option<Box<Passed>>,
    pub takes: Takes,
    /// Rounds look at it.
    pub awake: bool,
    /// Rounds since it last had something.
    pub quiet: u32,
}

/// One guest's interface.
pub(crate) struct Vif<H: Hypervisor> {
    pub guest: DomId,
    pub handle: u32,
    pub front: Directory,
    pub back: Directory,
    pub mac: MacAddress,
    pub phase: Phase,
    /// Which life of the guest's interface this is, for the forwarding tables.
    pub incarnation: u64,
    /// It has a VF with a link.
    pub vf: bool,
    pub rings: Option<Rings<H>>,
    pub table: Option<TableWriter<H::Pages>>,
    /// Its VLANs as the switch has them.
    pub vlan: Vlan,
    /// Tables of earlier lives that it still maps.
    pub lingering: Vec<H::Pages>,
}
