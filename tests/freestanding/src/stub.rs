//! A hypervisor without another domain: a store that says what a driver domain would, memory
//! from the heap, and nobody who ever answers.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use xenvelope_grant::seam::{
    Access, Arrival, Buffer, CallFailed, Change, Copier, CopyOp, EventError, Events, Granter, Host,
    Instant, NicCapabilities, NicError, NicPort, NoBuffer, Offload, Pinned, PortId, ReceiveArea,
    Refused, Segment, Share, Shared, Store, StoreError, Unsent, WatchEvent, piece_in_page,
};
use xenvelope_grant::xenbus::XenbusState;
use xenvelope_grant::{DomId, GrantError, Gref, PAGE_SIZE, Peer, Words};

const BACKEND: &str = "/local/domain/0/backend/vif/1/0";

/// The stub.
pub struct Stub {
    /// Whether the toolstack has made a device for us.
    device: bool,
    ours: Cell<XenbusState>,
    /// The token of a watch that is to fire.
    fires: Cell<Option<u32>>,
    watched: Cell<Option<u32>>,
    now: Cell<u64>,
    next_ref: Cell<u32>,
}

impl Stub {
    /// A stub whose store has a device, or has none.
    pub fn new(device: bool) -> Stub {
        Stub {
            device,
            ours: Cell::new(XenbusState::Initialising),
            fires: Cell::new(None),
            watched: Cell::new(None),
            now: Cell::new(0),
            next_ref: Cell::new(Gref::FIRST_FREE),
        }
    }

    fn gref(&self) -> Gref {
        Gref(self.next_ref.replace(self.next_ref.get() + 1))
    }
}

impl Host for Stub {
    fn domid(&self) -> DomId {
        DomId(1)
    }
    fn epoch(&self) -> u64 {
        1
    }
    fn now(&self) -> Instant {
        // Time passes whenever somebody looks.
        Instant(self.now.replace(self.now.get() + 50_000_000))
    }
    fn random(&self) -> u64 {
        4
    }
}

/// Memory that nobody else has.
pub struct StubBuffer(Box<[u8]>);

impl Buffer for StubBuffer {
    fn capacity(&self) -> usize {
        self.0.len()
    }
    fn is_private(&self) -> bool {
        true
    }
    fn stack_bytes(&self) -> &[u8] {
        &self.0
    }
    fn stack_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn get(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.0[at..at + out.len()]);
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A buffer that was granted.
pub struct StubGrant(StubBuffer, Vec<Segment>);

/// Receive pages that stay empty.
pub struct StubArea(Box<[u8]>);

impl ReceiveArea for StubArea {
    fn pages(&self) -> usize {
        self.0.len() / PAGE_SIZE
    }
    fn open(&mut self, page: usize) -> Result<Gref, GrantError> {
        Ok(Gref(page as u32))
    }
    fn close(&mut self, _: usize) -> Result<(), Pinned<()>> {
        Ok(())
    }
    fn stack_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.0.get(range)
    }
    fn shift(&mut self, _: usize, _: usize, _: usize) -> bool {
        false
    }
    fn get(&self, at: usize, out: &mut [u8]) -> bool {
        self.0.get(at..at + out.len()).map(|bytes| out.copy_from_slice(bytes)).is_some()
    }
}

impl Granter for Stub {
    type Buf = StubBuffer;
    type Out = StubGrant;
    type Area = StubArea;

    fn take(&self, _: Option<Peer>, len: usize) -> Result<StubBuffer, NoBuffer> {
        Ok(StubBuffer(zeroed(len.div_ceil(PAGE_SIZE))))
    }
    fn grant(
        &self,
        buffer: StubBuffer,
        _: Peer,
        used: Range<usize>,
        _: Access,
    ) -> Result<StubGrant, Refused<StubBuffer>> {
        let pages = used.start / PAGE_SIZE..used.end.div_ceil(PAGE_SIZE);
        let segments = pages
            .filter_map(|page| piece_in_page(&used, page))
            .map(|(offset, len)| Segment { gref: self.gref(), offset, len })
            .collect();
        Ok(StubGrant(buffer, segments))
    }
    fn segments<'a>(&self, out: &'a StubGrant) -> &'a [Segment] {
        &out.1
    }
    fn recycle(&self, out: StubGrant) -> Result<StubBuffer, Pinned<StubGrant>> {
        Ok(out.0)
    }
    fn revoke(&self, _: StubGrant) -> Result<(), Pinned<StubGrant>> {
        Ok(())
    }
    fn forget(&self, _: Peer) {}
    fn receive_area(&self, _: DomId, pages: usize) -> Result<StubArea, NoBuffer> {
        Ok(StubArea(zeroed(pages)))
    }
}

fn zeroed(pages: usize) -> Box<[u8]> {
    alloc::vec![0; pages * PAGE_SIZE].into_boxed_slice()
}

impl Copier for Stub {
    fn copy(&self, _: &mut [CopyOp], _: &mut [StubBuffer]) -> Result<(), CallFailed> {
        Err(CallFailed)
    }
}

/// Pages of words. There is one processor, so parts of a word are changed in two steps.
pub struct StubPages {
    words: Vec<AtomicU64>,
    refs: Vec<Gref>,
}

impl StubPages {
    fn load(&self, at: usize, len: usize, order: Ordering) -> u64 {
        assert_eq!(at % len, 0, "misaligned");
        self.words[at / 8].load(order) >> (at % 8 * 8)
    }
    fn store(&self, at: usize, len: usize, value: u64, order: Ordering) {
        assert_eq!(at % len, 0, "misaligned");
        let (shift, mask) = (at % 8 * 8, u64::MAX >> (64 - 8 * len));
        let word = &self.words[at / 8];
        let others = word.load(Ordering::Relaxed) & !(mask << shift);
        word.store(others | (value & mask) << shift, order);
    }
}

impl Words for StubPages {
    fn size(&self) -> usize {
        self.words.len() * 8
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.load(at, 2, order) as u16
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.store(at, 2, u64::from(value), order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        let found = self.load_u16(at, Ordering::SeqCst);
        if found != current {
            return Err(found);
        }
        self.store_u16(at, new, Ordering::SeqCst);
        Ok(())
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.load(at, 4, order) as u32
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.store(at, 4, u64::from(value), order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.load(at, 8, order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.store(at, 8, value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        for (at, bytes) in (at..).step_by(4).zip(out.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&self.load_u32(at, Ordering::Relaxed).to_le_bytes());
        }
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        for (at, bytes) in (at..).step_by(4).zip(bytes.as_chunks().0) {
            self.store_u32(at, u32::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
    fn read_barrier(&self) {
        fence(Ordering::Acquire);
    }
}

impl Shared for StubPages {
    fn refs(&self) -> &[Gref] {
        &self.refs
    }
}

impl Share for Stub {
    type Pages = StubPages;

    fn export(&self, _: DomId, pages: usize, _: Access) -> Result<StubPages, GrantError> {
        let words = (0..pages * PAGE_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        Ok(StubPages { words, refs: (0..pages).map(|_| self.gref()).collect() })
    }
    fn import(&self, _: DomId, _: &[Gref], _: Access) -> Result<StubPages, GrantError> {
        Err(GrantError::BadDomain)
    }
    fn unexport(&self, _: StubPages) -> Result<(), Pinned<StubPages>> {
        Ok(())
    }
}

impl Events for Stub {
    type Port = PortId;

    fn listen(&self, _: DomId) -> Result<PortId, EventError> {
        Ok(PortId(1))
    }
    fn connect(&self, _: DomId, _: u32) -> Result<PortId, EventError> {
        Err(EventError::NotOpen)
    }
    fn id(&self, port: &PortId) -> PortId {
        *port
    }
    fn notify(&self, _: &PortId) {}
    fn wait(&self, _: &mut [PortId], _: Instant) -> usize {
        0
    }
    fn unmask(&self, _: &PortId) {}
}

impl Store for Stub {
    fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
        if !self.device {
            return Err(StoreError::NoEntry);
        }
        let theirs = path.strip_prefix(BACKEND);
        let value = match theirs.or(path.strip_prefix("device/vif/0")) {
            Some("/backend") => BACKEND,
            Some("/backend-id") => "0",
            Some("/mac") => "00:16:3e:00:00:01",
            Some("/feature-envelope") => "1",
            Some("/state") if theirs.is_none() => self.ours.get().as_str(),
            // The driver domain follows us.
            Some("/state") if self.ours.get() == XenbusState::Connected => {
                XenbusState::Connected.as_str()
            }
            Some("/state") => XenbusState::InitWait.as_str(),
            _ => return Err(StoreError::NoEntry),
        };
        let out = out.get_mut(..value.len()).ok_or(StoreError::TooLong)?;
        out.copy_from_slice(value.as_bytes());
        core::str::from_utf8(out).map_err(|_| StoreError::Malformed)
    }
    fn list<'o>(&self, _: &str, _: &'o mut [u8]) -> Result<&'o str, StoreError> {
        Ok("")
    }
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        for change in changes {
            if let Change::Write { path: "device/vif/0/state", value, .. } = change {
                self.ours.set(XenbusState::parse(value));
                self.fires.set(self.watched.get());
            }
        }
        Ok(())
    }
    fn watch(&self, _: &str, token: u32) -> Result<(), StoreError> {
        self.watched.set(Some(token));
        self.fires.set(Some(token));
        Ok(())
    }
    fn unwatch(&self, _: u32) {}
    fn next<'o>(&self, out: &'o mut [u8]) -> Option<WatchEvent<'o>> {
        let token = self.fires.take()?;
        let out = out.get_mut(..BACKEND.len())?;
        out.copy_from_slice(BACKEND.as_bytes());
        Some(WatchEvent { token, path: core::str::from_utf8(out).ok()? })
    }
}

/// A card's port without a link.
pub struct StubNic;

impl NicPort for StubNic {
    type Buf = StubBuffer;

    fn capabilities(&self) -> NicCapabilities {
        NicCapabilities { mac: [0, 0x16, 0x3e, 0, 0, 1], max_frame: 1514, checksum: false }
    }
    fn link(&self) -> bool {
        false
    }
    fn interrupt(&self) -> PortId {
        PortId(2)
    }
    fn unmask(&self) {}
    fn send(
        &self,
        buffer: StubBuffer,
        _: Range<usize>,
        _: Offload,
    ) -> Result<(), Unsent<StubBuffer>> {
        Err(Unsent { cause: NicError::NoLink, buffer })
    }
    fn kick(&self) {}
    fn completed(&self) -> Option<StubBuffer> {
        None
    }
    fn in_flight(&self) -> usize {
        0
    }
    fn wanted(&self) -> (usize, usize) {
        (0, 0)
    }
    fn post(&self, buffer: StubBuffer, _: usize) -> Result<(), StubBuffer> {
        Err(buffer)
    }
    fn receive(&self) -> Option<Arrival<StubBuffer>> {
        None
    }
}
