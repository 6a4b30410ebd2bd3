//! Reading an envelope: everything is validated before anything is given out.

use thiserror::Error;
use xenvelope_grant::seam::Mechanism;
use zerocopy::FromBytes;

use super::layout::{
    EnvelopeFlags, HEAD_LEN, KIND_DELIVER, KIND_DONE, KIND_RESET, RawDone, RawHead, VERSION,
};
use super::record::{Context, Frames};
use super::{DeliverHead, Done, ETHER_TYPE, MAX_ENVELOPE, MIN_FRAME};
use crate::ethernet::{EthernetHeader, FrameError, TAGGED_LEN, TPID_CUSTOMER, UNTAGGED_LEN};

/// Why a frame is not an envelope that can be used. Each is the sender's fault, or somebody's on
/// the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EnvelopeError {
    /// It is not even a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its EtherType is another one.
    #[error("EtherType {0:#06x} is not an envelope's")]
    NotAnEnvelope(u16),
    /// It ends inside its head, its done block or a record.
    #[error("the envelope ends too early")]
    Truncated,
    /// A version that is not known here.
    #[error("envelope version {0} is not known")]
    Version(u8),
    /// A kind that is not known here.
    #[error("envelope kind {0} is not known")]
    Kind(u8),
    /// It claims more bytes than there are, or than [`MAX_ENVELOPE`].
    #[error("the envelope claims {0} bytes")]
    Length(u16),
    /// Flags that are not known, or that an envelope of its kind cannot have, or a done without
    /// a done block.
    #[error("envelope flags {0:#04x} do not fit its kind")]
    Flags(u8),
    /// A field that must be zero is not.
    #[error("a reserved field is not zero")]
    Reserved,
    /// A deliver without frames, or another kind with some.
    #[error("an envelope of its kind cannot have {0} frames")]
    FrameCount(u8),
    /// There are bytes left behind the last record.
    #[error("{0} bytes are left behind the last record")]
    Trailing(usize),
    /// A frame that is itself an envelope, or begins with another VLAN tag.
    #[error("a frame of EtherType {0:#06x} cannot travel in an envelope")]
    InnerType(u16),
    /// Flags of a record that are not known.
    #[error("record flags {0:#04x} are not known")]
    RecordFlags(u8),
    /// A frame in more pieces than any frame needs.
    #[error("a frame in {0} segments")]
    TooManySegments(u8),
    /// A segment that is empty or leaves its page.
    #[error("a segment of {len} bytes at offset {offset}")]
    Segment {
        /// Where in the page it starts.
        offset: u16,
        /// How long it is.
        len: u16,
    },
    /// The bytes that a frame has are not those that are inline and granted.
    #[error("a frame of {total} bytes with {inline} inline and {granted} granted")]
    Sizes {
        /// Bytes of the frame after its Ethernet header.
        total: u32,
        /// Bytes in the record.
        inline: u32,
        /// Bytes in all segments, with the tag.
        granted: u32,
    },
    /// An offload block without a checksum to fill in, or a checksum without a block.
    #[error("the offload flags contradict each other")]
    OffloadFlags,
    /// A segmentation type that is not known, or a size that does not fit the type.
    #[error("segmentation type {kind} with size {size}")]
    Segmentation {
        /// The type.
        kind: u8,
        /// The size.
        size: u16,
    },
    /// A checksum that is not inside the frame.
    #[error("checksum at {start} + {offset} is not inside the frame")]
    Checksum {
        /// Where summing starts, counted from the end of the Ethernet header.
        start: u16,
        /// Where the sum goes, counted from there.
        offset: u16,
    },
}

/// An envelope that was received. Its bytes are not shared with anybody: a copy in a channel's
/// slot or page is taken first.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The Ethernet header, which is also that of the frames inside, but for the EtherType.
    pub header: EthernetHeader,
    /// By which mechanism the right to read what it grants has reached us: its sender's word.
    pub mechanism: Mechanism,
    /// What it is about.
    pub body: Body<'a>,
}

/// What an envelope is about.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// It carries frames.
    Deliver(Deliver<'a>),
    /// It says what is done.
    Done {
        /// The sender's epoch.
        epoch: u32,
        /// What is done.
        done: Done,
    },
    /// Its sender knows nothing of what went before.
    Reset {
        /// The sender's epoch, which is new.
        epoch: u32,
    },
}

/// An envelope that carries frames.
#[derive(Clone, Debug)]
pub struct Deliver<'a> {
    /// What it says of itself.
    pub head: DeliverHead,
    /// What its sender is finished with.
    pub done: Option<Done>,
    /// The frames, at least one.
    pub frames: Frames<'a>,
}

impl<'a> Envelope<'a> {
    /// How many frames of guests it carries: what is lost if it is.
    pub fn carried(&self) -> u64 {
        match &self.body {
            Body::Deliver(deliver) => deliver.frames.len() as u64,
            Body::Done { .. } | Body::Reset { .. } => 0,
        }
    }

    /// Reads and validates the whole envelope.
    ///
    /// # Errors
    /// [`EnvelopeError`] for all that the [module](super) says is refused.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Envelope<'a>, EnvelopeError> {
        let header = EthernetHeader::parse(frame)?;
        if header.ether_type != ETHER_TYPE {
            return Err(EnvelopeError::NotAnEnvelope(header.ether_type));
        }
        // The header was parsed, so the frame is at least that long.
        let bytes = frame.get(header.len()..).ok_or(EnvelopeError::Truncated)?;
        let (raw, _) = RawHead::read_from_prefix(bytes).map_err(|_| EnvelopeError::Truncated)?;
        if raw.version != VERSION {
            return Err(EnvelopeError::Version(raw.version));
        }
        let length = raw.length.get();
        if header.len() + usize::from(length) > MAX_ENVELOPE {
            return Err(EnvelopeError::Length(length));
        }
        // From here on padding is out of sight.
        let bytes = bytes.get(..usize::from(length)).ok_or(EnvelopeError::Length(length))?;
        let rest = bytes.get(HEAD_LEN..).ok_or(EnvelopeError::Truncated)?;
        if raw.reserved.get() != 0 {
            return Err(EnvelopeError::Reserved);
        }
        let body = Body::parse(&raw, rest, &header)?;
        // The flags fit the kind.
        let flags = EnvelopeFlags::from_bits_truncate(raw.flags);
        let mechanism = if flags.contains(EnvelopeFlags::PASSED_ON) {
            Mechanism::Transitive
        } else if flags.contains(EnvelopeFlags::KEYED) {
            Mechanism::Keyed
        } else {
            Mechanism::Destination
        };
        Ok(Envelope { header, mechanism, body })
    }
}

impl<'a> Body<'a> {
    #[inline]
    fn parse(
        raw: &RawHead,
        rest: &'a [u8],
        header: &EthernetHeader,
    ) -> Result<Body<'a>, EnvelopeError> {
        let wrong_flags = EnvelopeError::Flags(raw.flags);
        let flags = EnvelopeFlags::from_bits(raw.flags).ok_or(wrong_flags)?;
        let fits = match raw.kind {
            KIND_DELIVER => !flags.contains(EnvelopeFlags::KEYED | EnvelopeFlags::PASSED_ON),
            KIND_DONE => flags - EnvelopeFlags::PASSED_ON == EnvelopeFlags::HAS_DONE,
            KIND_RESET => flags.is_empty(),
            kind => return Err(EnvelopeError::Kind(kind)),
        };
        if !fits {
            return Err(wrong_flags);
        }
        if (raw.kind == KIND_DELIVER) != (raw.frames > 0) {
            return Err(EnvelopeError::FrameCount(raw.frames));
        }
        let epoch = raw.epoch.get();
        let (done, rest) = if flags.contains(EnvelopeFlags::HAS_DONE) {
            let (done, rest) =
                RawDone::read_from_prefix(rest).map_err(|_| EnvelopeError::Truncated)?;
            (Some(Done::from(done)), rest)
        } else {
            (None, rest)
        };
        if raw.kind == KIND_DELIVER {
            let tagged = flags.contains(EnvelopeFlags::TAGGED);
            // 14 or 18.
            let context = Context { header: header.len() as u16, tagged };
            let frames = Frames::validated(rest, raw.frames, context)?;
            let head = DeliverHead {
                epoch,
                sequence: raw.sequence.get(),
                nonce: raw.nonce.get(),
                tagged,
                want_done: flags.contains(EnvelopeFlags::WANT_DONE),
            };
            return Ok(Body::Deliver(Deliver { head, done, frames }));
        }
        if raw.sequence.get() != 0 || raw.nonce.get() != 0 {
            return Err(EnvelopeError::Reserved);
        }
        if !rest.is_empty() {
            return Err(EnvelopeError::Trailing(rest.len()));
        }
        Ok(match done {
            Some(done) => Body::Done { epoch, done },
            None => Body::Reset { epoch },
        })
    }
}

impl From<RawDone> for Done {
    fn from(raw: RawDone) -> Done {
        Done {
            epoch: raw.epoch.get(),
            cumulative: raw.cumulative.get(),
            selective: raw.selective.get(),
            nonce: raw.nonce.get(),
        }
    }
}

/// How many bytes a frame says that its envelope has, Ethernet header and padding to a whole frame
/// included: at most [`MAX_ENVELOPE`], and that if it is no envelope. No promise that
/// [`Envelope::parse`] agrees.
pub fn claimed_length(frame: &[u8]) -> usize {
    let tagged = frame.get(12..14) == Some(&TPID_CUSTOMER.to_be_bytes()[..]);
    let header = if tagged { TAGGED_LEN } else { UNTAGGED_LEN };
    let length = frame.get(header..).and_then(|rest| RawHead::read_from_prefix(rest).ok());
    match length {
        Some((raw, _)) if is_envelope(frame) => {
            (header + usize::from(raw.length.get())).clamp(MIN_FRAME, MAX_ENVELOPE)
        }
        _ => MAX_ENVELOPE,
    }
}

/// Whether a frame's EtherType says that it is an envelope, tagged or not. Cheap, and no promise
/// that [`Envelope::parse`] agrees.
pub fn is_envelope(frame: &[u8]) -> bool {
    let type_at = |at: usize| {
        let bytes = frame.get(at..).and_then(|rest| rest.first_chunk::<2>());
        bytes.map(|bytes| u16::from_be_bytes(*bytes))
    };
    match type_at(12) {
        Some(TPID_CUSTOMER) => type_at(16) == Some(ETHER_TYPE),
        outer => outer == Some(ETHER_TYPE),
    }
}
