//! A domain as a driver of the simulation has it: the hypervisor's real answers, but for the clock
//! and for what goes wrong.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use xenvelope_grant::seam::{
    Access, CallFailed, Change, Copier, CopyBatch, CopyOp, CopyTicket, Direction, EventError,
    Events, Granter, Host, Instant, Lacks, Mechanism, MechanismError, NoBuffer, Pinned, PortId,
    Refused, Segment, Share, Shared as _, Sight, Store, StoreError, Submitted, WatchEvent,
};
use xenvelope_grant::{DomId, GrantError, Gref, Peer, Status};
use xenvelope_hypervisor_sim::machine::{
    Domain, FrameBuffer, GrantedBuffer, PageArea, Port, SharedPages,
};

use super::faults::Fault;
use super::shared::{Sabotage, Shared};
use super::trace::Note;
use super::traffic::{Came, named};

/// What the world knows of a domain's sleep.
#[derive(Default)]
pub struct Sleep {
    /// Until when its driver wants to sleep, if it does.
    pub until: Cell<Option<Instant>>,
    /// Events that were delivered, and that it has not looked at.
    delivered: RefCell<Vec<PortId>>,
    /// Store events, and when they are told.
    told: RefCell<VecDeque<(u64, u32, String)>>,
    /// Batches that the copy engine has.
    pub underway: Cell<u32>,
    /// References that were to be withdrawn while somebody was inside.
    occupied: RefCell<Vec<Gref>>,
}

/// The domain.
#[derive(Clone)]
pub struct SimHost {
    /// As the hypervisor has it.
    pub domain: Domain,
    /// The run.
    pub shared: Rc<Shared>,
    /// Its sleep.
    pub sleep: Rc<Sleep>,
}

impl SimHost {
    /// A driver's view of a domain.
    pub fn new(domain: Domain, shared: &Rc<Shared>) -> SimHost {
        SimHost { domain, shared: Rc::clone(shared), sleep: Rc::default() }
    }

    /// Takes events that are pending, so that the driver finds them when it looks. How many.
    pub fn deliver(&self) -> u32 {
        let mut ports = [PortId(0); 64];
        let count = self.domain.wait(&mut ports, Instant(0));
        self.sleep.delivered.borrow_mut().extend_from_slice(&ports[..count]);
        self.shared.events_taken(count as u64);
        count as u32
    }

    /// Whether events were delivered that it has not looked at.
    pub fn has_events(&self) -> bool {
        !self.sleep.delivered.borrow().is_empty()
    }

    /// Takes store events in; when the next of those that wait is told.
    pub fn store_due(&self) -> Option<u64> {
        let mut path = [0; 256];
        while let Some(event) = self.domain.next(&mut path) {
            let now = self.shared.now().0;
            let mut due = now;
            if self.shared.hit(Fault::StoreLate, 0) {
                due += self.shared.faults.span(Fault::StoreLate, 10_000, 50_000_000);
            }
            let mut told = self.sleep.told.borrow_mut();
            // A connection to the store keeps its order.
            let due = told.back().map_or(due, |last| due.max(last.0));
            told.push_back((due, event.token, event.path.to_owned()));
        }
        self.sleep.told.borrow().front().map(|event| event.0)
    }

    /// Takes back what a process that has ended could not: its kernel tries until it can.
    pub fn withdraw_rest(&self) {
        self.sleep.occupied.borrow_mut().retain(|gref| self.domain.withdraw(*gref).is_err());
    }

    /// Forgets store events that wait: they were told to a process that is dead.
    pub fn forget_events(&self) {
        self.sleep.told.borrow_mut().clear();
        self.sleep.delivered.borrow_mut().clear();
        self.sleep.until.set(None);
        self.sleep.underway.set(0);
    }

    /// Which operation fails, if one does.
    fn fails(&self, ops: &[CopyOp]) -> Option<(usize, Status)> {
        if ops.is_empty() || self.shared.faults.rate(Fault::CopyStatus) == 0 {
            return None;
        }
        self.shared.hit(Fault::CopyStatus, ops.len() as u64).then(|| {
            let which = self.shared.faults.below(Fault::CopyStatus, ops.len() as u64);
            (which as usize, Status(self.shared.faults.status()))
        })
    }
}

impl Host for SimHost {
    fn domid(&self) -> DomId {
        self.domain.domid()
    }
    fn epoch(&self) -> u64 {
        self.domain.epoch()
    }
    fn now(&self) -> Instant {
        self.shared.now()
    }
    fn random(&self) -> u64 {
        self.shared.random()
    }
    fn observe<'a>(&self, sight: impl FnOnce() -> Sight<'a>) {
        if let Sight::Frame { direction: Direction::Out, travel, bytes } = sight()
            && let Some(Came { from, to, number }) = named(bytes)
        {
            let enclosed = travel.enclosed.is_some();
            self.shared.note(Note::Leaves(from, to, number, travel.way, enclosed));
        }
    }
}

impl Granter for SimHost {
    type Buf = FrameBuffer;
    type Out = GrantedBuffer;
    type Area = PageArea;

    fn take(&self, hint: Option<Peer>, len: usize) -> Result<FrameBuffer, NoBuffer> {
        if self.shared.hit(Fault::BufferRefused, len as u64) {
            return Err(NoBuffer);
        }
        self.domain.take(hint, len)
    }
    fn grant(
        &self,
        buffer: FrameBuffer,
        to: Peer,
        used: Range<usize>,
        access: Access,
    ) -> Result<GrantedBuffer, Refused<FrameBuffer>> {
        if self.shared.hit(Fault::GrantRefused, 0) {
            return Err(Refused { cause: GrantError::NoSpace, buffer });
        }
        let out = self.domain.grant(buffer, to, used, access)?;
        self.look_at_grant(to, access, self.domain.segments(&out));
        Ok(out)
    }
    fn segments<'a>(&self, out: &'a GrantedBuffer) -> &'a [Segment] {
        self.domain.segments(out)
    }
    fn end<'o>(&self, outs: impl Iterator<Item = &'o mut GrantedBuffer>) {
        // Who keeps its grants ends none.
        if self.shared.sabotage != Some(Sabotage::GrantKept) {
            self.domain.end(outs);
        }
    }
    fn recycle(&self, out: GrantedBuffer) -> Result<FrameBuffer, Pinned<GrantedBuffer>> {
        if self.shared.hit(Fault::RevokePinned, 0) {
            return Err(Pinned(out));
        }
        let segments = self.domain.segments(&out).to_vec();
        if self.shared.sabotage == Some(Sabotage::GrantKept) && self.domid() != DomId::DOM0 {
            std::mem::forget(out);
            self.shared.grants_ended(self.domid(), &segments);
            return Ok(self.domain.take(None, 4096).expect("memory"));
        }
        let recycled = self.domain.recycle(out);
        if recycled.is_ok() {
            self.shared.grants_ended(self.domid(), &segments);
        }
        recycled
    }
    fn revoke(&self, out: GrantedBuffer) -> Result<(), Pinned<GrantedBuffer>> {
        self.recycle(out).map(drop)
    }
    fn forget(&self, peer: Peer) {
        self.domain.forget(peer);
    }
    fn has(&self, mechanism: Mechanism) -> Result<(), Lacks> {
        self.domain.has(mechanism)
    }
    fn reserve(&self) -> Result<Gref, MechanismError> {
        self.domain.reserve()
    }
    fn pass_on(
        &self,
        ours: Gref,
        from: DomId,
        theirs: Gref,
        to: Peer,
    ) -> Result<(), MechanismError> {
        if self.shared.hit(Fault::GrantRefused, 1) {
            return Err(GrantError::NoSpace.into());
        }
        self.domain.pass_on(ours, from, theirs, to)
    }
    fn withdraw(&self, ours: Gref) -> Result<(), Pinned<()>> {
        let withdrawn = match self.shared.hit(Fault::RevokePinned, 1) {
            true => Err(Pinned(())),
            false => self.domain.withdraw(ours),
        };
        if withdrawn.is_err() {
            self.sleep.occupied.borrow_mut().push(ours);
        }
        withdrawn
    }
    fn grant_keyed(
        &self,
        buffer: FrameBuffer,
        key: u64,
        used: Range<usize>,
    ) -> Result<GrantedBuffer, Refused<FrameBuffer, MechanismError>> {
        if self.shared.hit(Fault::GrantRefused, 2) {
            return Err(Refused { cause: GrantError::NoSpace.into(), buffer });
        }
        self.domain.grant_keyed(buffer, key, used)
    }
    fn receive_area(&self, writer: DomId, pages: usize) -> Result<PageArea, NoBuffer> {
        self.domain.receive_area(writer, pages)
    }
}

impl Copier for SimHost {
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [FrameBuffer]) -> Result<(), CallFailed> {
        if self.shared.hit(Fault::CopyCall, ops.len() as u64) {
            return Err(CallFailed);
        }
        let Some((which, status)) = self.fails(ops) else {
            let result = self.domain.copy(ops, buffers);
            self.look_at_copies(ops);
            return result;
        };
        self.domain.copy(&mut ops[..which], buffers)?;
        self.domain.copy(&mut ops[which + 1..], buffers)?;
        ops[which].status = status;
        Ok(())
    }
    fn submit(&self, batch: &mut CopyBatch<FrameBuffer>) -> Submitted {
        if !self.shared.has_engine {
            return Submitted::Finished(self.copy(&mut batch.ops, &mut batch.buffers));
        }
        if self.shared.hit(Fault::CopyCall, batch.ops.len() as u64) {
            return Submitted::Finished(Err(CallFailed));
        }
        let submitted = self.domain.submit(batch);
        if let Submitted::Underway(_) = submitted {
            self.sleep.underway.set(self.sleep.underway.get() + 1);
        }
        submitted
    }
    fn finished(
        &self,
        ticket: CopyTicket,
        batch: &mut CopyBatch<FrameBuffer>,
    ) -> Option<Result<(), CallFailed>> {
        let result = self.domain.finished(ticket, batch)?;
        self.sleep.underway.set(self.sleep.underway.get().saturating_sub(1));
        if let Some((which, status)) = self.fails(&batch.ops) {
            batch.ops[which].status = status;
        }
        Some(result)
    }
    fn abandon(&self, ticket: CopyTicket) {
        self.sleep.underway.set(self.sleep.underway.get().saturating_sub(1));
        self.domain.abandon(ticket);
    }
}

impl Share for SimHost {
    type Pages = SharedPages;

    fn export(&self, to: DomId, pages: usize, access: Access) -> Result<SharedPages, GrantError> {
        if self.shared.hit(Fault::GrantRefused, 3) {
            return Err(GrantError::NoSpace);
        }
        let pages = self.domain.export(to, pages, access)?;
        self.shared.exported(self.domid(), pages.refs(), to);
        Ok(pages)
    }
    fn import(
        &self,
        from: DomId,
        refs: &[Gref],
        access: Access,
    ) -> Result<SharedPages, GrantError> {
        self.domain.import(from, refs, access)
    }
    fn unexport(&self, pages: SharedPages) -> Result<(), Pinned<SharedPages>> {
        self.domain.unexport(pages)
    }
}

impl Events for SimHost {
    type Port = Port;

    fn listen(&self, peer: DomId) -> Result<Port, EventError> {
        self.domain.listen(peer)
    }
    fn connect(&self, peer: DomId, remote: u32) -> Result<Port, EventError> {
        self.domain.connect(peer, remote)
    }
    fn id(&self, port: &Port) -> PortId {
        self.domain.id(port)
    }
    fn notify(&self, port: &Port) {
        if self.shared.hit(Fault::EventLost, 0) {
            return;
        }
        if self.shared.hit(Fault::EventDuplicated, 0) {
            self.domain.notify(port);
        }
        self.domain.notify(port);
    }
    fn wait(&self, out: &mut [PortId], until: Instant) -> usize {
        self.deliver();
        let mut delivered = self.sleep.delivered.borrow_mut();
        let count = delivered.len().min(out.len());
        for (place, port) in out.iter_mut().zip(delivered.drain(..count)) {
            *place = port;
        }
        if count == 0 && until > self.shared.now() {
            self.sleep.until.set(Some(until));
        }
        count
    }
    fn unmask(&self, port: &Port) {
        self.domain.unmask(port);
    }
}

impl Store for SimHost {
    fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        self.domain.read(path, out)
    }
    fn list<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        self.domain.list(path, out)
    }
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.domain.commit(changes)
    }
    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError> {
        self.domain.watch(path, token)
    }
    fn unwatch(&self, token: u32) {
        self.domain.unwatch(token);
    }
    fn next<'o>(&self, out: &'o mut [u8]) -> Option<WatchEvent<'o>> {
        if self.store_due()? > self.shared.now().0 {
            return None;
        }
        let (_, token, path) = self.sleep.told.borrow_mut().pop_front()?;
        let length = path.len().min(out.len());
        out[..length].copy_from_slice(&path.as_bytes()[..length]);
        let path = std::str::from_utf8(&out[..length]).ok()?;
        Some(WatchEvent { token, path })
    }
}

/// The grants that were made for frames, and the rings that were shared: by granter and reference.
pub type Known = BTreeMap<(u16, u32), (DomId, u64)>;
