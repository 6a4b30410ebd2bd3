//! The card's own memory, in which every frame lies while it is switched.

use xenvelope_grant::seam::Offload;

use super::config::MAX_WHOLE;
use super::load::Load;

/// Bytes of a VLAN tag.
pub(super) const TAG_BYTES: usize = 4;
/// The EtherType of a VLAN tag (802.1Q).
pub(super) const TAG_TYPE: [u8; 2] = [0x81, 0x00];
/// Bytes of an Ethernet header without a tag.
pub(super) const HEADER_BYTES: usize = 14;
/// Bytes of both addresses.
const ADDRESSES: usize = 12;
/// Frames up to this many bytes lie in small packets.
const SMALL_BYTES: usize = 2048 - TAG_BYTES;
/// How many small packets there are.
const SMALL_COUNT: usize = 2048;
/// Least number of packets for longer frames.
const LARGE_COUNT: usize = 48;
/// Bytes of all packets for longer frames, if that is more than [`LARGE_COUNT`] of them.
const LARGE_BYTES: usize = 3 << 20;
/// How many packets there are for frames that are cut. They are apart: a frame in the cutter
/// holds one of these and waits for one of the others.
const WHOLE_COUNT: usize = 48;

/// Which port's transmit ring a frame came from, and as which frame of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) port: usize,
    pub(super) epoch: u32,
    pub(super) frame: u64,
}

/// A frame in the card.
///
/// It starts `TAG_BYTES` into its memory, so that a tag can be put in and taken out by moving the
/// two addresses and nothing else.
#[derive(Debug)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    /// Where the frame without tag starts.
    start: usize,
    /// Its length without tag.
    length: usize,
    /// Whether the addresses are where they are with the tag in.
    tagged: bool,
    /// The tag's control information: priority and VLAN.
    control: u16,
    /// How many places it still has to go to.
    pub(super) pending: u32,
    /// Who waits to hear that it has gone.
    pub(super) sender: Option<Sender>,
    /// The frame that this is a piece of.
    pub(super) parent: Option<PacketId>,
    /// What is lost if it is.
    pub(super) load: Load,
    /// Offsets count from the start of the frame without tag.
    pub(super) offload: Offload,
    pool: usize,
}

impl Packet {
    fn new(capacity: usize, pool: usize) -> Packet {
        Packet {
            bytes: vec![0; TAG_BYTES + capacity],
            start: TAG_BYTES,
            length: 0,
            tagged: false,
            control: 0,
            pending: 0,
            sender: None,
            parent: None,
            load: Load::Frame,
            offload: Offload::default(),
            pool,
        }
    }

    /// Makes room for a frame of `length` bytes as it came, tagged or not.
    pub(super) fn reset(&mut self, length: usize) -> &mut [u8] {
        self.start = TAG_BYTES;
        self.length = length;
        self.tagged = false;
        self.control = 0;
        self.pending = 0;
        self.sender = None;
        self.parent = None;
        self.load = Load::Frame;
        self.offload = Offload::default();
        &mut self.bytes[TAG_BYTES..TAG_BYTES + length]
    }

    /// The VLAN, 0 if none.
    pub(super) fn vid(&self) -> u16 {
        self.control & 0xFFF
    }

    /// The tag's control information, 0 if it has none.
    pub(super) fn control(&self) -> u16 {
        self.control
    }

    /// Puts the frame into a VLAN.
    pub(super) fn set_control(&mut self, control: u16) {
        self.control = control;
    }

    /// The frame without tag.
    pub(super) fn plain(&mut self) -> &mut [u8] {
        if self.tagged {
            let from = self.start - TAG_BYTES;
            self.bytes.copy_within(from..from + ADDRESSES, self.start);
            self.tagged = false;
        }
        &mut self.bytes[self.start..self.start + self.length]
    }

    /// The frame as a trunk carries it: with its tag, if it is in a VLAN.
    pub(super) fn trunk(&mut self) -> &[u8] {
        if self.vid() == 0 {
            return self.plain();
        }
        let from = self.start - TAG_BYTES;
        if !self.tagged {
            self.bytes.copy_within(self.start..self.start + ADDRESSES, from);
            let tag = from + ADDRESSES;
            self.bytes[tag..tag + 2].copy_from_slice(&TAG_TYPE);
            self.bytes[tag + 2..tag + 4].copy_from_slice(&self.control.to_be_bytes());
            self.tagged = true;
        }
        &self.bytes[from..self.start + self.length]
    }

    /// How long it is as a trunk carries it.
    pub(super) fn trunk_length(&self) -> usize {
        self.length + if self.vid() == 0 { 0 } else { TAG_BYTES }
    }

    /// How long it is without tag.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether the frame as it came has a tag. Only right before [`Packet::strip`].
    pub(super) fn has_tag(&self) -> bool {
        let at = self.start + ADDRESSES;
        self.bytes[at..at + 2] == TAG_TYPE && self.length >= ADDRESSES + 2
    }

    /// Takes the tag that came with the frame out of it, and keeps what it said. `false` if the
    /// frame is too short for what it claims.
    pub(super) fn strip(&mut self) -> bool {
        if self.length < HEADER_BYTES + TAG_BYTES {
            return false;
        }
        let at = self.start + ADDRESSES;
        self.control = u16::from_be_bytes([self.bytes[at + 2], self.bytes[at + 3]]);
        self.start += TAG_BYTES;
        self.length -= TAG_BYTES;
        self.tagged = true;
        let start = &mut self.offload.checksum_start;
        *start = start.saturating_sub(TAG_BYTES as u16);
        true
    }
}

/// A packet's place in the card's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PacketId(u32);

/// Packets of one size. They are made when they are first needed.
#[derive(Debug)]
struct Pool {
    free: Vec<PacketId>,
    made: usize,
    most: usize,
    size: usize,
}

/// The pools, as indices.
const SMALL: usize = 0;
const LARGE: usize = 1;
const WHOLE: usize = 2;

/// All of the card's packet memory. It is bounded: while it is full, ports wait with their
/// transmit rings and the wire with its queue, until frames that are under way have arrived.
#[derive(Debug)]
pub(super) struct PacketMemory {
    packets: Vec<Packet>,
    pools: [Pool; 3],
}

impl PacketMemory {
    /// Memory for frames of up to `largest` bytes, tag included, and for longer ones to be cut.
    pub(super) fn new(largest: usize) -> PacketMemory {
        let pool = |size, most| Pool { free: Vec::new(), made: 0, most, size };
        let large = pool(largest, (LARGE_BYTES / largest).clamp(LARGE_COUNT, SMALL_COUNT));
        let whole = pool(MAX_WHOLE, WHOLE_COUNT);
        PacketMemory { packets: Vec::new(), pools: [pool(SMALL_BYTES, SMALL_COUNT), large, whole] }
    }

    /// A packet for a frame of `length` bytes, at most `largest`; `None` while there is none.
    pub(super) fn take(&mut self, length: usize) -> Option<PacketId> {
        self.take_from(if length <= SMALL_BYTES { SMALL } else { LARGE })
    }

    /// A packet for a frame that will be cut; `None` while there is none.
    pub(super) fn take_whole(&mut self) -> Option<PacketId> {
        self.take_from(WHOLE)
    }

    fn take_from(&mut self, number: usize) -> Option<PacketId> {
        let pool = &mut self.pools[number];
        if let Some(id) = pool.free.pop() {
            return Some(id);
        }
        if pool.made == pool.most {
            return None;
        }
        pool.made += 1;
        self.packets.push(Packet::new(pool.size, number));
        Some(PacketId(self.packets.len() as u32 - 1))
    }

    /// Gives a packet back.
    pub(super) fn give_back(&mut self, id: PacketId) {
        let pool = self.get(id).pool;
        self.pools[pool].free.push(id);
    }

    /// The packet.
    pub(super) fn get(&mut self, id: PacketId) -> &mut Packet {
        &mut self.packets[id.0 as usize]
    }

    /// Two packets at once, if they are two.
    pub(super) fn both(&mut self, a: PacketId, b: PacketId) -> Option<(&mut Packet, &mut Packet)> {
        let [a, b] = self.packets.get_disjoint_mut([a.0 as usize, b.0 as usize]).ok()?;
        Some((a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_in_and_out() {
        let mut memory = PacketMemory::new(9000);
        let id = memory.take(60).unwrap();
        let packet = memory.get(id);
        let frame: Vec<u8> = (0..60).collect();
        packet.reset(60).copy_from_slice(&frame);
        assert!(!packet.has_tag());
        packet.set_control(7);
        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        for _ in 0..2 {
            assert_eq!(packet.trunk(), tagged);
            assert_eq!(packet.plain(), frame);
        }
        packet.reset(64).copy_from_slice(&tagged);
        assert!(packet.has_tag() && packet.strip());
        assert_eq!((packet.vid(), packet.length(), packet.trunk_length()), (7, 60, 64));
        assert_eq!(packet.plain(), frame);
        assert_eq!(packet.trunk(), tagged);
    }

    #[test]
    fn memory_ends() {
        let mut memory = PacketMemory::new(65557);
        let taken: Vec<PacketId> = std::iter::from_fn(|| memory.take(60000)).collect();
        assert_eq!(taken.len(), LARGE_COUNT);
        assert!(memory.take(1).is_some(), "small ones are apart");
        assert!(memory.take_whole().is_some(), "and those that are cut");
        memory.give_back(taken[0]);
        assert_eq!(memory.take(60000), Some(taken[0]));
    }
}
