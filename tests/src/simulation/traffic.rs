//! Frames in numbered flows. Who gets one can tell alone, from the addresses and the number in it,
//! what every byte of it must be.

use crate::lab::mac;
use xenvelope_switch::MacAddress;

/// The guest of that number in a flow means all.
pub const ALL: u8 = 255;
/// Frames of one flow in a run: what fits the EtherType that bears their number.
pub const MOST: u32 = 1 << 13;
/// Their EtherTypes begin here; none of them is known to anybody.
const FIRST_TYPE: u16 = 0xA000;
/// The Ethernet header.
const HEADER: usize = 14;
/// What marks, every 64 bytes, for whom bytes are: looked for in pages that others can read.
pub const MARK: [u8; 6] = [0x5E, 0xED, 0xC0, 0xDE, 0x1B, 0xAD];

/// How long frames of a run are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lengths {
    /// What travels inside envelopes.
    Short,
    /// What an Ethernet of 1500 carries.
    Ordinary,
    /// Up to 65,000 bytes.
    Long,
    /// All of that.
    Mixed,
}

/// The frames of a run.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The run.
    pub seed: u64,
    /// How long they are.
    pub lengths: Lengths,
}

/// A frame that came, as far as it can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Came {
    /// Who sent it.
    pub from: u8,
    /// To whom; [`ALL`] for all.
    pub to: u8,
    /// Its number in the flow.
    pub number: u32,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Which frame it says that it is, if that is one of ours.
pub fn named(bytes: &[u8]) -> Option<Came> {
    let (to, from) = (guest(bytes.get(..6)?)?, guest(bytes.get(6..12)?)?);
    let kind = bytes.get(12..HEADER)?;
    let number = u32::from(u16::from_be_bytes([kind[0], kind[1]]).wrapping_sub(FIRST_TYPE));
    (number < MOST).then_some(Came { from, to, number })
}

fn address(guest: u8) -> MacAddress {
    if guest == ALL { MacAddress::BROADCAST } else { mac(usize::from(guest)) }
}

fn guest(bytes: &[u8]) -> Option<u8> {
    if bytes == MacAddress::BROADCAST.0 {
        return Some(ALL);
    }
    let number = bytes.last()?.wrapping_sub(mac(0).0[5]);
    (mac(usize::from(number)).0 == bytes).then_some(number)
}

impl Frames {
    fn key(&self, from: u8, to: u8, number: u32) -> u64 {
        let flow = u64::from(from) << 48 | u64::from(to) << 40 | u64::from(number);
        mix(self.seed ^ mix(flow.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// How long a frame is, header included. 15 at least, but for one in 512 that ends after its
    /// header, which nobody may send.
    pub fn length(&self, from: u8, to: u8, number: u32) -> usize {
        let dice = mix(self.key(from, to, number) ^ 1);
        if dice.is_multiple_of(512) {
            return HEADER;
        }
        let within = |low: u64, high: u64| (low + (dice >> 16) % (high - low + 1)) as usize;
        let kind = (dice >> 9) % 16;
        match self.lengths {
            Lengths::Short => within(15, 220),
            Lengths::Ordinary if kind < 6 => within(15, 220),
            Lengths::Ordinary => within(15, 1514),
            Lengths::Long if kind < 2 => within(40_000, 65_000),
            Lengths::Long if kind < 5 => within(1515, 9000),
            Lengths::Mixed if kind == 0 && dice & 0x100 == 0 => within(9000, 65_000),
            Lengths::Mixed if kind < 3 => within(1515, 9000),
            Lengths::Long | Lengths::Mixed if kind < 9 => within(15, 220),
            Lengths::Long | Lengths::Mixed => within(15, 1514),
        }
    }

    /// Writes a frame; `out` is as long as it is.
    pub fn write(&self, from: u8, to: u8, number: u32, out: &mut [u8]) {
        out[..6].copy_from_slice(&address(to).0);
        out[6..12].copy_from_slice(&address(from).0);
        let kind = FIRST_TYPE + (number % MOST) as u16;
        out[12..HEADER].copy_from_slice(&kind.to_be_bytes());
        self.each(from, to, number, out.len(), |at, word| {
            let end = (at + 8).min(out.len());
            out[at..end].copy_from_slice(&word[..end - at]);
        });
    }

    fn each(
        &self,
        from: u8,
        to: u8,
        number: u32,
        length: usize,
        mut word: impl FnMut(usize, [u8; 8]),
    ) {
        let [a, b, c, d, e, f] = MARK;
        let mut state = self.key(from, to, number);
        for (index, at) in (HEADER..length).step_by(8).enumerate() {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            // A whole one or none: what follows a half would be taken for its end.
            let marks = index % 8 == 1 && at + 8 <= length;
            word(at, if marks { [a, b, c, d, e, f, from, to] } else { mix(state).to_le_bytes() });
        }
    }

    /// Which frame it is, if it is one of ours and every byte of it is right.
    pub fn read(&self, bytes: &[u8]) -> Result<Came, String> {
        let Some(Came { from, to, number }) = named(bytes) else {
            return Err(format!("not of ours: {:02x?}", bytes.get(..HEADER)));
        };
        let length = self.length(from, to, number);
        // A card fills a frame up to 60 bytes.
        let padded =
            bytes.len() > length && bytes.len() <= 60 && bytes[length..].iter().all(|b| *b == 0);
        if bytes.len() != length && !padded {
            return Err(format!(
                "{from} to {to} number {number}: {} bytes of {length}",
                bytes.len()
            ));
        }
        let mut wrong = None;
        self.each(from, to, number, length, |at, word| {
            let end = (at + 8).min(length);
            if bytes[at..end] != word[..end - at] && wrong.is_none() {
                wrong = Some(at);
            }
        });
        match wrong {
            Some(at) => {
                Err(format!("{from} to {to} number {number}: wrong at byte {at} of {length}"))
            }
            None => Ok(Came { from, to, number }),
        }
    }
}

/// Whether a page holds a mark of bytes that are for somebody else than `reader`.
pub fn foreign_mark(page: &[u8], reader: u8) -> Option<(u8, u8)> {
    page.windows(8).find_map(|window| {
        (window[0] == MARK[0] && window[..6] == MARK && ![reader, ALL].contains(&window[7]))
            .then_some((window[6], window[7]))
    })
}
