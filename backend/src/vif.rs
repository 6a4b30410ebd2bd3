//! One guest's interface, as the driver domain has it.

use xenvelope_grant::DomId;
use xenvelope_grant::netif::{RxRequest, RxResponse, TxRequest, TxResponse};
use xenvelope_grant::ring::{Back, RingLayout};
use xenvelope_grant::seam::Hypervisor;
use xenvelope_grant::xenbus::Directory;
use xenvelope_switch::MacAddress;
use xenvelope_switch::channel::EnvelopeChannel;
use xenvelope_switch::envelope::Addresses;
use xenvelope_switch::table::TableWriter;
use xenvelope_switch::window::ReceiveWindow;

/// The layout of netif's rings.
pub(crate) const TX_LAYOUT: RingLayout = RingLayout::one_page::<TxRequest, TxResponse>();
/// The layout of netif's rings.
pub(crate) const RX_LAYOUT: RingLayout = RingLayout::one_page::<RxRequest, RxResponse>();

/// How far an interface is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Our features are in the store; the frontend is to connect.
    InitWait,
    /// Frames flow.
    Connected,
    /// Down.
    Closed,
}

/// The shared rings of a connected interface.
pub(crate) struct Rings<H: Hypervisor> {
    pub tx: Back<H::Pages, TxRequest, TxResponse>,
    pub rx: Back<H::Pages, RxRequest, RxResponse>,
    pub port: H::Port,
    pub envelopes: Option<EnvelopeChannel<H::Pages>>,
    /// Envelopes whose destination we are, on behalf of guests without envelopes.
    pub window: Box<ReceiveWindow>,
    /// Where a done for these goes.
    pub done_to: Option<Addresses>,
    /// Its stack takes frames with a GSO size.
    pub gso: bool,
    /// Its stack takes frames in more than one piece.
    pub sg: bool,
    /// It is to get an event at the end of the round.
    pub kick: bool,
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
    /// Its access VLAN as the switch has it.
    pub vlan: u16,
    /// Tables of earlier lives that it still maps.
    pub lingering: Vec<H::Pages>,
}
