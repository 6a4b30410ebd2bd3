//! A host of vectors: memory, buffers, interrupts, and a card whose clock the test turns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use xenvelope_grant::seam::{Buffer, Instant, NicPort, Offload, PortId};
use xenvelope_grant::{DomId, Words};

use crate::nic::{
    CardError, Dma, DmaBuffer, DmaFault, DmaWords, Interrupt, Mac, Nic, NicConfig, QueuePort, Seat,
    VfPort,
};

pub(super) type Port = VfPort<Buf, Rings>;

/// Bytes that each domain has.
const MEMORY: usize = 8 << 20;

/// The memory of every domain, by id.
#[derive(Default)]
pub(super) struct Memory {
    domains: Mutex<HashMap<DomId, Vec<u8>>>,
    next: AtomicU64,
    /// How many accesses the card has made.
    pub(super) accesses: AtomicUsize,
}

impl Memory {
    fn with<T>(&self, of: DomId, look: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        self.domains.lock().unwrap().get_mut(&of).map(look)
    }

    fn allocate(&self, bytes: usize) -> u64 {
        self.next.fetch_add(bytes.next_multiple_of(4096) as u64, Ordering::Relaxed)
    }

    /// Takes the domain's memory away.
    pub(super) fn end(&self, of: DomId) {
        self.domains.lock().unwrap().remove(&of);
    }
}

impl Dma for Memory {
    fn read(&self, of: DomId, address: u64, out: &mut [u8]) -> Result<(), DmaFault> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let at = address as usize;
        self.with(of, |memory| {
            memory.get(at..at.checked_add(out.len())?).map(|bytes| out.copy_from_slice(bytes))
        })
        .flatten()
        .ok_or(DmaFault { of, address })
    }
    fn write(&self, of: DomId, address: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let at = address as usize;
        self.with(of, |memory| {
            memory
                .get_mut(at..at.checked_add(bytes.len())?)
                .map(|there| there.copy_from_slice(bytes))
        })
        .flatten()
        .ok_or(DmaFault { of, address })
    }
}

/// Part of a domain's memory.
pub(super) struct Buf {
    memory: Arc<Memory>,
    of: DomId,
    pub(super) address: u64,
    size: usize,
}

impl Buffer for Buf {
    fn capacity(&self) -> usize {
        self.size
    }
    fn is_private(&self) -> bool {
        true
    }
    fn stack_bytes(&self) -> &[u8] {
        panic!("the card's driver does not look into frames")
    }
    fn stack_bytes_mut(&mut self) -> &mut [u8] {
        panic!("the card's driver does not look into frames")
    }
    fn get(&self, at: usize, out: &mut [u8]) {
        let from = self.address as usize + at;
        self.memory.with(self.of, |memory| out.copy_from_slice(&memory[from..from + out.len()]));
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let from = self.address as usize + at;
        self.memory.with(self.of, |m| m[from..from + bytes.len()].copy_from_slice(bytes));
    }
}

impl DmaBuffer for Buf {
    fn dma_address(&self) -> u64 {
        self.address
    }
}

/// Rings need copies only.
pub(super) struct Rings(Buf);

impl Words for Rings {
    fn size(&self) -> usize {
        self.0.size
    }
    fn load_u16(&self, _: usize, _: Ordering) -> u16 {
        panic!("not used")
    }
    fn store_u16(&self, _: usize, _: u16, _: Ordering) {
        panic!("not used")
    }
    fn compare_exchange_u16(&self, _: usize, _: u16, _: u16) -> Result<(), u16> {
        panic!("not used")
    }
    fn load_u32(&self, _: usize, _: Ordering) -> u32 {
        panic!("not used")
    }
    fn store_u32(&self, _: usize, _: u32, _: Ordering) {
        panic!("not used")
    }
    fn load_u64(&self, _: usize, _: Ordering) -> u64 {
        panic!("not used")
    }
    fn store_u64(&self, _: usize, _: u64, _: Ordering) {
        panic!("not used")
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.0.get(at, out);
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        let from = self.0.address as usize + at;
        self.0.memory.with(self.0.of, |m| m[from..from + bytes.len()].copy_from_slice(bytes));
    }
    fn full_barrier(&self) {}
    fn read_barrier(&self) {}
}

impl DmaWords for Rings {
    fn dma_address(&self) -> u64 {
        self.0.address
    }
}

/// Counts.
#[derive(Default)]
pub(super) struct Line(pub(super) AtomicUsize);

impl Interrupt for Line {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn id(&self) -> PortId {
        PortId(7)
    }
    fn unmask(&self) {}
}

/// Memory and a card.
pub(super) struct Host {
    pub(super) memory: Arc<Memory>,
    pub(super) nic: Arc<Nic>,
}

impl Host {
    pub(super) fn new(config: NicConfig) -> Host {
        let memory = Arc::new(Memory::default());
        let nic = Nic::new(config).unwrap();
        Host { memory, nic }
    }

    /// A card on which nothing takes any time.
    pub(super) fn ideal() -> Host {
        Host::new(NicConfig { latency_ns: 0, iommu_miss_ns: 0, ..NicConfig::default() })
    }

    fn seat(&self, domain: u16) -> (Seat<Rings>, Arc<Line>) {
        let of = DomId(domain);
        self.memory.domains.lock().unwrap().entry(of).or_insert_with(|| vec![0; MEMORY]);
        let line = Arc::new(Line::default());
        let rings = Rings(self.buffer(domain, self.nic.config().ring_bytes()));
        let dma = Arc::clone(&self.memory) as Arc<dyn Dma>;
        let interrupt = Arc::clone(&line) as Arc<dyn Interrupt>;
        (Seat { domain: of, dma, rings, interrupt, base: 0 }, line)
    }

    /// VF `vf`, in the hands of domain `vf + 1`.
    pub(super) fn vf(&self, vf: usize) -> Port {
        self.vf_and_line(vf).0
    }

    pub(super) fn vf_and_line(&self, vf: usize) -> (Port, Arc<Line>) {
        let (seat, line) = self.seat(vf as u16 + 1);
        (self.nic.attach_vf(vf, seat).unwrap(), line)
    }

    pub(super) fn pf(&self) -> Port {
        self.nic.attach_pf(self.seat(0).0).unwrap()
    }

    /// Queue `queue`, in the hands of the driver domain.
    pub(super) fn queue(&self, queue: usize) -> QueuePort<Rings> {
        self.nic.attach_queue(queue, self.seat(0).0).unwrap()
    }

    /// Why domain `domain` does not get VF `vf`.
    pub(super) fn refused(&self, vf: usize, domain: u16) -> Option<CardError> {
        self.nic.attach_vf::<Buf, _>(vf, self.seat(domain).0).err()
    }

    pub(super) fn buffer(&self, domain: u16, size: usize) -> Buf {
        let address = self.memory.allocate(size);
        assert!(address as usize + size <= MEMORY, "the test needs more memory");
        Buf { memory: Arc::clone(&self.memory), of: DomId(domain), address, size }
    }

    /// A buffer at a given address, which may be another's too.
    pub(super) fn at(&self, domain: u16, address: u64, size: usize) -> Buf {
        Buf { memory: Arc::clone(&self.memory), of: DomId(domain), address, size }
    }

    /// The same, with a frame in it.
    pub(super) fn holding(&self, domain: u16, address: u64, frame: &[u8]) -> Buf {
        let mut buffer = self.at(domain, address, 4096);
        buffer.put(0, frame);
        buffer
    }

    /// A card like it, for frames of 64 KiB.
    pub(super) fn jumbo() -> Host {
        let config = NicConfig { latency_ns: 0, iommu_miss_ns: 0, ..NicConfig::default() };
        Host::new(NicConfig { max_frame: 65553, ..config })
    }

    /// Posts that many buffers of 4 KiB, with 64 bytes of headroom.
    pub(super) fn post(&self, port: &Port, domain: u16, count: usize) {
        for _ in 0..count {
            assert!(port.post(self.buffer(domain, 4096), 64).is_ok());
        }
    }

    /// Sends a frame, with doorbell.
    pub(super) fn send(&self, port: &Port, domain: u16, frame: &[u8]) {
        self.send_with(port, domain, frame, Offload::default());
    }

    pub(super) fn send_with(&self, port: &Port, domain: u16, frame: &[u8], offload: Offload) {
        let mut buffer = self.buffer(domain, frame.len() + 2);
        buffer.put(2, frame);
        port.send(buffer, 2..2 + frame.len(), offload).unwrap();
        port.kick();
    }

    /// Runs the card until it has nothing to do, whenever that is. Returns that time.
    pub(super) fn settle(&self, mut now: Instant) -> Instant {
        while let Some(next) = self.nic.run(now) {
            now = next;
        }
        now
    }
}

/// All frames that have come in.
pub(super) fn received(port: &Port) -> Vec<(Vec<u8>, Offload)> {
    std::iter::from_fn(|| port.receive())
        .map(|arrival| {
            let mut bytes = vec![0; arrival.frame.len()];
            arrival.buffer.get(arrival.frame.start, &mut bytes);
            (bytes, arrival.offload)
        })
        .collect()
}

/// The buffers that have come back.
pub(super) fn completed(port: &Port) -> usize {
    std::iter::from_fn(|| port.completed()).count()
}

/// An envelope of that kind with that many frames in it.
pub(super) fn envelope(to: Mac, from: Mac, kind: u8, frames: u8) -> Vec<u8> {
    let mut envelope = frame(to, from, 100, 0);
    envelope[12..19].copy_from_slice(&[0x88, 0xB5, 1, kind, 86, 0, frames]);
    envelope
}

/// A frame whose payload is `mark` and on.
pub(super) fn frame(to: Mac, from: Mac, length: usize, mark: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&[0x88, 0xB6]);
    frame.extend((0..length - 14).map(|i| mark.wrapping_add(i as u8)));
    frame
}
