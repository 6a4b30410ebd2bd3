//! A network card: many ports, an embedded switch, an IOMMU, one I/O bus; or less of it
//! ([`NicKind`], [`Translation`]).
//!
//! With all of it, it is what an SR-IOV card such as Intel's 82576 looks like to its drivers, as far as the cost
//! of moving data goes:
//!
//! - The driver of a VF (or of the PF, in the driver domain) writes descriptors of 16 bytes into
//!   rings in its own domain's memory and rings a doorbell ([`VfPort`]).
//! - The card fetches descriptors and frames by DMA into its own memory, switches, and writes
//!   each frame by DMA into a buffer that the receiver posted. So a frame between two VFs crosses
//!   the bus twice, and four descriptors or more with it. Every byte is counted
//!   ([`NicCounters`]) and takes its time on the bus.
//! - Each DMA goes through the IOMMU: [`Dma`] checks it against the domain's pages, and each port
//!   has an IOTLB whose misses cost bus time.
//! - The switch is static: addresses, VLANs and filters are set by the PF's owner
//!   ([`PfControl`]). VFs see no tags, and may send only from their own address unless anti-spoof
//!   is switched off.
//! - The card fills in transport checksums on transmit, and checks them on receive.
//! - It fetches TCP frames of up to 64 KiB once and cuts them (TSO); each piece is switched and
//!   delivered as a frame of its own. As the 82576, it does not put them together again (LRO).
//! - All its counters together are a ledger that closes ([`Nic::ledger`]).
//!
//! The card is a passive state machine ([`Nic::run`]). A scheduler in virtual time runs it, or
//! [`NicThread`] does, in parallel with the processors.

mod attach;
mod bus;
mod checksum;
mod config;
mod control;
mod counters;
mod described;
mod descriptor;
mod dispatch;
mod dma;
mod driver;
mod engine;
mod granted;
mod ingest;
mod iotlb;
mod kind;
mod load;
mod packet;
mod port;
mod queue;
mod registers;
mod segment;
mod table;
#[cfg(test)]
mod tests;
mod thread;
mod wire;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::Instant;

pub use attach::{AttachError, DomainPort};
pub use config::{ConfigError, NicConfig};
pub use control::{CardError, PfControl};
pub use counters::{DropReason, NicCounters};
pub use dma::{Dma, DmaBuffer, DmaFault, DmaWords, Interrupt};
pub use driver::VfPort;
pub use granted::GrantedQueue;
pub use kind::{Functions, NicKind, Translation};
pub use queue::QueuePort;
pub use table::Mac;
pub use thread::NicThread;
pub use wire::{WireEnd, WireFull};

use crate::capture::CardTaps;
use descriptor::DESCRIPTOR_BYTES;
use engine::Engine;
use load::Load;
use port::Owner;
use registers::Bell;
use wire::Wire;

/// A port of the card.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CardPort {
    /// The physical function: the driver domain's.
    Pf,
    /// A virtual function, from 0.
    Vf(usize),
    /// The wire: what the card has towards the outside. Only for its counters.
    Wire,
}

/// What a domain brings to use a port.
pub struct Seat<R> {
    /// In whose memory the rings and all buffers lie.
    pub domain: DomId,
    /// How the card reaches that memory: through the domain's part of the IOMMU.
    pub dma: Arc<dyn Dma>,
    /// Memory for the rings: at least [`NicConfig::ring_bytes`].
    pub rings: R,
    /// How the card tells the driver that something came in or went out.
    pub interrupt: Arc<dyn Interrupt>,
    /// What the card must add to the domain's addresses: 0 where something translates them, else
    /// where the domain's memory lies in the machine's.
    pub base: u64,
}

/// The card.
pub struct Nic {
    config: NicConfig,
    engine: Mutex<Engine>,
    bell: Arc<Bell>,
    wire: Arc<Wire>,
    /// How many wait for the lock, besides whoever runs the card.
    wanted: AtomicUsize,
}

impl Nic {
    /// A card. All VFs are plugged in, in no VLAN, with addresses
    /// that follow the PF's; nobody uses any.
    pub fn new(config: NicConfig) -> Result<Arc<Nic>, ConfigError> {
        config.check()?;
        let wire = Arc::new(Wire::default());
        let engine = Mutex::new(Engine::new(&config, Arc::clone(&wire)));
        let (bell, wanted) = (Arc::new(Bell::default()), AtomicUsize::new(0));
        Ok(Arc::new(Nic { config, engine, bell, wire, wanted }))
    }

    /// What the card was made with.
    pub fn config(&self) -> &NicConfig {
        &self.config
    }

    /// The settings of the PF's owner.
    pub fn pf_control(self: &Arc<Self>) -> PfControl {
        PfControl::new(Arc::clone(self))
    }

    /// A VF that nobody uses or was lent, and that is plugged in.
    pub fn allocate_vf(&self) -> Result<usize, CardError> {
        let engine = self.lock();
        let free =
            |port: &port::Port| port.owner.is_none() && port.plugged && port.lent_to.is_none();
        engine.ports.iter().skip(1).position(free).ok_or(CardError::NoVfLeft)
    }

    /// Gives a VF to a domain, until the returned port is dropped.
    pub fn attach_vf<B: DmaBuffer, R: DmaWords>(
        self: &Arc<Self>,
        vf: usize,
        seat: Seat<R>,
    ) -> Result<VfPort<B, R>, CardError> {
        let port = CardPort::Vf(vf);
        let (interrupt, base) = (Arc::clone(&seat.interrupt), seat.base);
        let (registers, rings) = self.take_seat(port, seat)?;
        Ok(VfPort::new(Arc::clone(self), port, registers, interrupt, rings, base))
    }

    /// Gives a receive queue to the driver domain, until the returned port is dropped. It is a VF
    /// whose transmit ring stays empty and whose buffers may be anybody's pages.
    pub fn attach_queue<R: DmaWords>(
        self: &Arc<Self>,
        queue: usize,
        seat: Seat<R>,
    ) -> Result<QueuePort<R>, CardError> {
        let port = CardPort::Vf(queue);
        let interrupt = Arc::clone(&seat.interrupt);
        let (registers, rings) = self.take_seat(port, seat)?;
        Ok(QueuePort::new(Arc::clone(self), port, registers, interrupt, rings))
    }

    /// Gives the PF to the driver domain, until the returned port is dropped.
    pub fn attach_pf<B: DmaBuffer, R: DmaWords>(
        self: &Arc<Self>,
        seat: Seat<R>,
    ) -> Result<VfPort<B, R>, CardError> {
        let (interrupt, base) = (Arc::clone(&seat.interrupt), seat.base);
        let (registers, rings) = self.take_seat(CardPort::Pf, seat)?;
        Ok(VfPort::new(Arc::clone(self), CardPort::Pf, registers, interrupt, rings, base))
    }

    /// Lets a domain use a port, if it may. The port's registers, and the rings back.
    fn take_seat<R: DmaWords>(
        self: &Arc<Self>,
        port: CardPort,
        seat: Seat<R>,
    ) -> Result<(Arc<registers::Registers>, R), CardError> {
        if seat.rings.size() < self.config.ring_bytes() {
            return Err(CardError::RingsTooSmall);
        }
        let mut engine = self.lock();
        let number = match port {
            CardPort::Vf(vf) => engine.vf(vf)?,
            CardPort::Pf | CardPort::Wire => 0,
        };
        if number != 0 {
            self.config.may_use(
                engine.ports[0].domain(),
                engine.ports[number].lent_to,
                seat.domain,
            )?;
        }
        let state = &mut engine.ports[number];
        if state.owner.is_some() {
            return Err(CardError::PortInUse);
        }
        let interrupt = Arc::clone(&seat.interrupt);
        let (domain, rings) = (seat.domain, seat.base + seat.rings.dma_address());
        state.owner = Some(Owner { domain, dma: seat.dma, interrupt, rings });
        // Nobody unplugs the PF: it can only have been stopped for what its last owner did.
        state.plugged |= number == 0;
        let registers = Arc::clone(&state.registers);
        engine.update_link(number);
        Ok((registers, seat.rings))
    }

    /// Takes a port back. When this returns the card touches none of its domain's memory.
    fn detach(&self, port: CardPort) {
        let mut engine = self.lock();
        let number = match port {
            CardPort::Vf(vf) => vf + 1,
            CardPort::Pf => 0,
            CardPort::Wire => return,
        };
        engine.detach(number);
    }

    /// Counts frames that a port's driver put into its ring, but that the card never saw.
    fn count_lost(&self, port: CardPort, lost: impl Iterator<Item = Load>) {
        let mut lost = lost.peekable();
        let number = match port {
            CardPort::Vf(vf) => vf + 1,
            CardPort::Pf | CardPort::Wire => 0,
        };
        if lost.peek().is_some() {
            let mut engine = self.lock();
            for load in lost {
                let counters = &mut engine.ports[number].counters;
                counters.count_tx(load);
                counters.drop_frame(DropReason::LinkDown, load);
            }
        }
    }

    /// Takes a VF away from whoever has it: its link goes down at once, and when this returns
    /// the card touches none of its buffers. Frames that lie in its transmit ring count as sent
    /// and dropped ([`DropReason::LinkDown`]) at once; those that are on their way to it are
    /// dropped when they would have arrived; those that the card has read go on.
    pub fn unplug_vf(&self, vf: usize) -> Result<(), CardError> {
        self.lock().unplug(vf)
    }

    /// Gives a VF back: to the same driver, if that still has the port.
    pub fn plug_vf(&self, vf: usize) -> Result<(), CardError> {
        self.lock().plug(vf)
    }

    /// The other end of the wire. There is one.
    pub fn wire(&self) -> Result<WireEnd, CardError> {
        WireEnd::connect(Arc::clone(&self.wire), Arc::clone(&self.bell)).ok_or(CardError::WireInUse)
    }

    /// What a port has done so far; nothing, if there is no such port.
    pub fn counters(&self, port: CardPort) -> NicCounters {
        let engine = self.lock();
        let number = match port {
            CardPort::Pf => 0,
            CardPort::Vf(vf) => vf.saturating_add(1),
            CardPort::Wire => return engine.wire_counters,
        };
        engine.ports.get(number).map(counted).unwrap_or_default()
    }

    /// What all ports have done so far, without the wire.
    pub fn total_counters(&self) -> NicCounters {
        self.lock().ports.iter().map(counted).fold(NicCounters::default(), |sum, one| sum + one)
    }

    /// What all ports and the wire have done so far: the card's ledger. While no frame is on its
    /// way through the card, [`NicCounters::frames_missing`] and
    /// [`NicCounters::envelopes_missing`] of it are zero.
    pub fn ledger(&self) -> NicCounters {
        let engine = self.lock();
        engine.ports.iter().map(counted).fold(engine.wire_counters, |sum, one| sum + one)
    }

    /// Does what is due at `now`, and says when it next wants to run: not before a doorbell or a
    /// frame by the wire ([`Nic::rung`]) if `None`. One call does a limited amount of work and
    /// may want to run again at once. Time never runs backwards from call to call.
    pub fn run(&self, now: Instant) -> Option<Instant> {
        self.bell.silence();
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).run(now)
    }

    /// Whether a doorbell rang or a frame came by the wire since the card last ran.
    pub fn rung(&self) -> bool {
        self.bell.is_rung()
    }

    /// Shows to `taps` what crosses the card's ports and the wire from now on.
    pub fn observe(&self, taps: CardTaps) {
        self.lock().taps = Some(taps);
    }

    fn ring(&self) {
        self.bell.ring();
    }

    fn sleep(&self, at_most: Option<Duration>) {
        self.bell.sleep(at_most);
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        let guard = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        guard
    }
}

fn counted(port: &port::Port) -> NicCounters {
    NicCounters { doorbells: port.registers.doorbells(), ..port.counters }
}

impl fmt::Debug for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nic").field("config", &self.config).finish_non_exhaustive()
    }
}
