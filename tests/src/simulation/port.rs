//! A port of the card as a driver has it: the real one, and between it and the card what goes wrong
//! on the way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;

use xenvelope_grant::seam::{
    Arrival, Buffer, Granter, Host as _, NicCapabilities, NicPort, Offload, PortId, Unsent,
};
use xenvelope_hypervisor_sim::machine::FrameBuffer;
use xenvelope_hypervisor_sim::nic::DomainPort;
use xenvelope_switch::envelope::{Envelope, is_envelope};

use super::faults::Fault;
use super::host::SimHost;
use super::shared::Sabotage;
use super::trace::Note;
use super::traffic::{self, Came, named};
use crate::lab::mac;

/// An envelope that the card keeps.
struct Late {
    due: u64,
    buffer: FrameBuffer,
    frame: Range<usize>,
    offload: Offload,
    carried: u64,
}

/// The port.
pub struct SimPort {
    inner: DomainPort,
    host: SimHost,
    late: RefCell<VecDeque<Late>>,
    lost: RefCell<Vec<FrameBuffer>>,
    sent: Cell<u64>,
}

impl SimPort {
    /// A port between a driver and the card.
    pub fn new(inner: DomainPort, host: &SimHost) -> SimPort {
        let (late, lost) = (RefCell::default(), RefCell::default());
        SimPort { inner, host: host.clone(), late, lost, sent: Cell::new(0) }
    }

    /// When the card lets go of what it keeps.
    pub fn due(&self) -> Option<u64> {
        self.late.borrow().iter().map(|late| late.due).min()
    }

    fn let_go(&self) {
        let now = self.host.shared.now().0;
        let mut late = self.late.borrow_mut();
        while let Some(at) = late.iter().position(|late| late.due <= now) {
            let Some(Late { buffer, frame, offload, carried, .. }) = late.remove(at) else { break };
            if let Err(unsent) = self.inner.send(buffer, frame, offload) {
                self.lose(unsent.buffer, carried);
            }
        }
    }

    fn lose(&self, buffer: FrameBuffer, carried: u64) {
        let shared = &self.host.shared;
        if shared.sabotage != Some(Sabotage::LostQuietly) {
            shared.lost.set(shared.lost.get() + carried);
        }
        self.lost.borrow_mut().push(buffer);
    }

    /// An envelope that comes twice, if it comes at all.
    fn send_twice(
        &self,
        buffer: FrameBuffer,
        frame: Range<usize>,
        offload: Offload,
        carried: u64,
    ) -> Result<(), Unsent<FrameBuffer>> {
        let copy = self.host.domain.take(None, frame.end).map(|mut copy| {
            copy.put(frame.start, &buffer.stack_bytes()[frame.clone()]);
            copy
        });
        self.inner.send(buffer, frame.clone(), offload)?;
        if copy.is_ok_and(|copy| self.inner.send(copy, frame, offload).is_ok()) {
            let shared = &self.host.shared;
            shared.made.set(shared.made.get() + carried);
        }
        Ok(())
    }
}

/// Between which guests a frame travels.
fn between(bytes: &[u8]) -> Option<(u8, u8)> {
    let number = |bytes: &[u8]| bytes.last().map(|last| last.wrapping_sub(mac(0).0[5]));
    let to = bytes.get(..6)?;
    let to = if to[0] & 1 == 1 { traffic::ALL } else { number(to)? };
    Some((number(bytes.get(6..12)?)?, to))
}

impl NicPort for SimPort {
    type Buf = FrameBuffer;

    fn capabilities(&self) -> NicCapabilities {
        self.inner.capabilities()
    }
    fn link(&self) -> bool {
        self.inner.link()
    }
    fn interrupt(&self) -> PortId {
        self.inner.interrupt()
    }
    fn unmask(&self) {
        self.inner.unmask();
    }
    fn send(
        &self,
        buffer: FrameBuffer,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), Unsent<FrameBuffer>> {
        self.let_go();
        let shared = &*self.host.shared;
        self.sent.set(self.sent.get() + 1);
        if shared.sabotage == Some(Sabotage::LostQuietly) && self.sent.get() % 64 == 63 {
            self.lose(buffer, 1);
            return Ok(());
        }
        if !shared.faults.are_on() || !self.link() {
            return self.inner.send(buffer, frame, offload);
        }
        let bytes = &buffer.stack_bytes()[frame.clone()];
        if !is_envelope(bytes) {
            if shared.hit(Fault::FrameLost, frame.len() as u64) {
                self.lose(buffer, 1);
                return Ok(());
            }
            return self.inner.send(buffer, frame, offload);
        }
        let carried = Envelope::parse(bytes).map_or(0, |envelope| envelope.carried());
        if shared.hit(Fault::EnvelopeLost, carried) {
            self.lose(buffer, carried);
            return Ok(());
        }
        if shared.hit(Fault::EnvelopeLate, carried) {
            if let Some((from, to)) = between(bytes) {
                shared.overtakes(from, to);
            }
            let due = shared.now().0 + shared.faults.span(Fault::EnvelopeLate, 1000, 1_000_000_000);
            self.late.borrow_mut().push_back(Late { due, buffer, frame, offload, carried });
            return Ok(());
        }
        if shared.hit(Fault::EnvelopeDuplicated, carried) {
            return self.send_twice(buffer, frame, offload, carried);
        }
        self.inner.send(buffer, frame, offload)
    }
    fn kick(&self) {
        self.let_go();
        self.inner.kick();
    }
    fn completed(&self) -> Option<FrameBuffer> {
        self.lost.borrow_mut().pop().or_else(|| self.inner.completed())
    }
    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.late.borrow().len()
    }
    fn wanted(&self) -> (usize, usize) {
        self.inner.wanted()
    }
    fn post(&self, buffer: FrameBuffer, headroom: usize) -> Result<(), FrameBuffer> {
        self.inner.post(buffer, headroom)
    }
    fn refill(&self, granter: &impl Granter<Buf = FrameBuffer>, headroom: usize) {
        self.inner.refill(granter, headroom);
    }
    fn receive(&self) -> Option<Arrival<FrameBuffer>> {
        let arrival = self.inner.receive()?;
        let bytes = &arrival.buffer.stack_bytes()[arrival.frame.clone()];
        if let Some(Came { from, to, number }) = named(bytes) {
            let at = self.host.domain.domid().0;
            self.host.shared.note(Note::Brought(at, from, to, number));
        }
        Some(arrival)
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        let shared = &self.host.shared;
        let kept: u64 = self.late.borrow().iter().map(|late| late.carried).sum();
        shared.lost.set(shared.lost.get() + kept);
    }
}
