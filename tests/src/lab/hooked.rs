//! A domain whose granting, copying and waiting a test can step into.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use xenvelope_grant::seam::{
    Access, CallFailed, Change, Copier, CopyBatch, CopyOp, CopyTicket, EventError, Events, Granter,
    Host, Instant, Lacks, Mechanism, MechanismError, NoBuffer, Pinned, PortId, Refused, Segment,
    Share, Store, StoreError, Submitted, WatchEvent,
};
use xenvelope_grant::{DomId, GrantError, Gref, Peer, Status};
use xenvelope_hypervisor_sim::machine::{
    Domain, FrameBuffer, GrantedBuffer, PageArea, Port, SharedPages,
};

/// What a test does at the point that it is called at.
type Hook = Box<dyn FnMut()>;

/// What becomes of copies that the hypervisor does not carry out, and says that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uncopied {
    /// Nobody writes their statuses.
    Unsaid,
    /// Their statuses are this.
    Said(i16),
}

/// What happens at chosen points. Clones are the same hooks.
#[derive(Clone, Default)]
pub struct Hooks {
    after_grant: Rc<RefCell<Option<Hook>>>,
    fail_revokes: Rc<Cell<bool>>,
    revokes: Rc<Cell<u64>>,
    before_copy: Rc<RefCell<Option<Hook>>>,
    after_unmask: Rc<RefCell<Option<Hook>>>,
    connected: Rc<RefCell<Vec<(DomId, PortId)>>>,
    stale: Rc<RefCell<Vec<PortId>>>,
    uncopied: Rc<Cell<Option<Uncopied>>>,
}

impl Hooks {
    /// Called right after each grant has become valid.
    pub fn after_grant(&self, hook: impl FnMut() + 'static) {
        *self.after_grant.borrow_mut() = Some(Box::new(hook));
    }

    /// From now on revoking fails, or no longer does: the peer is inside.
    pub fn fail_revokes(&self, fail: bool) {
        self.fail_revokes.set(fail);
    }

    /// Called right before each call for copies.
    pub fn before_copy(&self, hook: impl FnMut() + 'static) {
        *self.before_copy.borrow_mut() = Some(Box::new(hook));
    }

    /// Called right after each port may fire again.
    pub fn after_unmask(&self, hook: impl FnMut() + 'static) {
        *self.after_unmask.borrow_mut() = Some(Box::new(hook));
    }

    /// The ports that were connected to a peer's.
    pub fn connected_to(&self, peer: DomId) -> Vec<PortId> {
        let connected = self.connected.borrow();
        connected.iter().filter(|(of, _)| *of == peer).map(|(_, port)| *port).collect()
    }

    /// The next `wait` reports this port, too: an event that was queued before the port closed.
    pub fn report(&self, port: PortId) {
        self.stale.borrow_mut().push(port);
    }

    /// Whether `wait` has reported all that it was to report.
    pub fn all_reported(&self) -> bool {
        self.stale.borrow().is_empty()
    }

    /// From now on batches that are handed over are left as they are, or no longer are.
    pub fn leave_copies(&self, uncopied: Option<Uncopied>) {
        self.uncopied.set(uncopied);
    }

    /// How many buffers were to be taken back so far.
    pub fn revokes(&self) -> u64 {
        self.revokes.get()
    }
}

fn call(hook: &RefCell<Option<Hook>>) {
    if let Some(hook) = &mut *hook.borrow_mut() {
        hook();
    }
}

/// The domain.
pub struct Hooked {
    domain: Domain,
    hooks: Hooks,
}

impl Hooked {
    /// A domain with hooks.
    pub fn new(domain: Domain, hooks: Hooks) -> Hooked {
        Hooked { domain, hooks }
    }
}

impl Host for Hooked {
    fn domid(&self) -> DomId {
        self.domain.domid()
    }
    fn epoch(&self) -> u64 {
        self.domain.epoch()
    }
    fn now(&self) -> Instant {
        self.domain.now()
    }
    fn random(&self) -> u64 {
        self.domain.random()
    }
}

impl Granter for Hooked {
    type Buf = FrameBuffer;
    type Out = GrantedBuffer;
    type Area = PageArea;

    fn take(&self, hint: Option<Peer>, len: usize) -> Result<FrameBuffer, NoBuffer> {
        self.domain.take(hint, len)
    }
    fn grant(
        &self,
        buffer: FrameBuffer,
        to: Peer,
        used: Range<usize>,
        access: Access,
    ) -> Result<GrantedBuffer, Refused<FrameBuffer>> {
        let out = self.domain.grant(buffer, to, used, access)?;
        call(&self.hooks.after_grant);
        Ok(out)
    }
    fn segments<'a>(&self, out: &'a GrantedBuffer) -> &'a [Segment] {
        self.domain.segments(out)
    }
    fn end<'o>(&self, outs: impl Iterator<Item = &'o mut GrantedBuffer>) {
        self.domain.end(outs);
    }
    fn recycle(&self, out: GrantedBuffer) -> Result<FrameBuffer, Pinned<GrantedBuffer>> {
        self.hooks.revokes.set(self.hooks.revokes.get() + 1);
        if self.hooks.fail_revokes.get() {
            return Err(Pinned(out));
        }
        self.domain.recycle(out)
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
        self.domain.pass_on(ours, from, theirs, to)
    }
    fn withdraw(&self, ours: Gref) -> Result<(), Pinned<()>> {
        self.domain.withdraw(ours)
    }
    fn grant_keyed(
        &self,
        buffer: FrameBuffer,
        key: u64,
        used: Range<usize>,
    ) -> Result<GrantedBuffer, Refused<FrameBuffer, MechanismError>> {
        self.domain.grant_keyed(buffer, key, used)
    }
    fn receive_area(&self, writer: DomId, pages: usize) -> Result<PageArea, NoBuffer> {
        self.domain.receive_area(writer, pages)
    }
}

impl Copier for Hooked {
    fn copy(&self, ops: &mut [CopyOp], buffers: &mut [FrameBuffer]) -> Result<(), CallFailed> {
        call(&self.hooks.before_copy);
        self.domain.copy(ops, buffers)
    }
    fn submit(&self, batch: &mut CopyBatch<FrameBuffer>) -> Submitted {
        let Some(uncopied) = self.hooks.uncopied.get() else {
            return self.domain.submit(batch);
        };
        if let Uncopied::Said(code) = uncopied {
            batch.ops.iter_mut().for_each(|op| op.status = Status(code));
        }
        Submitted::Finished(Ok(()))
    }
    fn finished(
        &self,
        ticket: CopyTicket,
        batch: &mut CopyBatch<FrameBuffer>,
    ) -> Option<Result<(), CallFailed>> {
        self.domain.finished(ticket, batch)
    }
    fn abandon(&self, ticket: CopyTicket) {
        self.domain.abandon(ticket);
    }
}

impl Share for Hooked {
    type Pages = SharedPages;

    fn export(&self, to: DomId, pages: usize, access: Access) -> Result<SharedPages, GrantError> {
        self.domain.export(to, pages, access)
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

impl Events for Hooked {
    type Port = Port;

    fn listen(&self, peer: DomId) -> Result<Port, EventError> {
        self.domain.listen(peer)
    }
    fn connect(&self, peer: DomId, remote: u32) -> Result<Port, EventError> {
        let port = self.domain.connect(peer, remote)?;
        self.hooks.connected.borrow_mut().push((peer, self.domain.id(&port)));
        Ok(port)
    }
    fn id(&self, port: &Port) -> PortId {
        self.domain.id(port)
    }
    fn notify(&self, port: &Port) {
        self.domain.notify(port);
    }
    fn wait(&self, out: &mut [PortId], until: Instant) -> usize {
        let count = self.domain.wait(out, until);
        let mut stale = self.hooks.stale.borrow_mut();
        let room = stale.len().min(out.len() - count);
        for (place, port) in out[count..].iter_mut().zip(stale.drain(..room)) {
            *place = port;
        }
        count + room
    }
    fn unmask(&self, port: &Port) {
        self.domain.unmask(port);
        call(&self.hooks.after_unmask);
    }
}

impl Store for Hooked {
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
        self.domain.next(out)
    }
}
