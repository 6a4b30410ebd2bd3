//! What a frame means to the ledger: itself, or the frames that an envelope stands for.

/// The EtherType of an envelope.
const ENVELOPE_TYPE: [u8; 2] = [0x88, 0xB5];
/// The kind of envelope that carries frames.
const DELIVER: u8 = 1;
/// Bytes of both addresses.
const ADDRESSES: usize = 12;

/// How many bytes of a frame tell its load: an Ethernet header with a tag, and what an envelope
/// says first.
pub(super) const HEAD_BYTES: usize = 14 + super::packet::TAG_BYTES + 5;

/// A frame of a guest's, or an envelope with that many of them in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Load {
    /// An ordinary frame, or one that the card could not read.
    #[default]
    Frame,
    /// An envelope, and how many frames are lost with it.
    Envelope(u8),
}

impl Load {
    /// What a frame's first bytes say, with a tag or without. The card believes it: what it says
    /// is only counted.
    pub(super) fn of(frame: &[u8]) -> Load {
        let kind = |at: usize| frame.get(at..at + 2);
        let mut at = ADDRESSES;
        if kind(at) == Some(&super::packet::TAG_TYPE) {
            at += super::packet::TAG_BYTES;
        }
        if kind(at) != Some(&ENVELOPE_TYPE) {
            return Load::Frame;
        }
        match frame.get(at + 2..at + 7) {
            Some(&[_, DELIVER, _, _, frames]) => Load::Envelope(frames),
            _ => Load::Envelope(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_worth_what_it_carries() {
        let mut frame = [0u8; 60];
        assert_eq!(Load::of(&frame), Load::Frame);
        frame[12..19].copy_from_slice(&[0x88, 0xB5, 1, 1, 0, 0, 9]);
        assert_eq!(Load::of(&frame), Load::Envelope(9));
        assert_eq!(Load::of(&frame[..18]), Load::Envelope(0), "cut short");
        frame[15] = 2;
        assert_eq!(Load::of(&frame), Load::Envelope(0), "a done");
        frame[12..23].copy_from_slice(&[0x81, 0, 0, 5, 0x88, 0xB5, 1, 1, 0, 0, 3]);
        assert_eq!(Load::of(&frame), Load::Envelope(3));
        assert_eq!(Load::of(&frame[..HEAD_BYTES]), Load::Envelope(3));
        assert_eq!(Load::of(&frame[..13]), Load::Frame);
    }
}
