//! What a frontend has done, and why it dropped what it dropped.

/// Why a frame was dropped. Every frame that is sent is delivered or counted under one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(usize)]
pub enum DropReason {
    /// Sent: there was no free buffer.
    NoBuffer,
    /// Sent: shorter than an Ethernet header or longer than 64 KiB.
    Malformed,
    /// Sent: no path is up that could carry it.
    NoPath,
    /// Sent: the peer has as much outstanding as its quota allows.
    PeerFull,
    /// Sent: the path's ring or queue is full.
    PathFull,
    /// Sent: granting failed.
    GrantFailed,
    /// Sent: the peer broke the protocol, its path is closed.
    PeerClosed,
    /// Sent: waited for an older route of the same flow to drain for too long.
    HeldTooLong,
    /// Received: not an envelope that makes sense.
    BadEnvelope,
    /// Received: the source is not who the path belongs to, or not in our table.
    UnknownSource,
    /// Received: not addressed to us.
    NotOurs,
    /// Received: an envelope that came before, or is too old to tell.
    Replayed,
    /// Received: the grant copy failed.
    CopyFailed,
    /// Received: the granted data does not begin with the envelope's tag.
    WrongTag,
    /// Received: our own frame came back.
    Looped,
    /// Received: a broadcast on a path that is not our default route.
    OtherPath,
    /// Received: the driver domain said so little or so much of it that it is no frame.
    BadResponse,
    /// Received: the transport checksum is wrong.
    BadChecksum,
    /// Received: the stack has not taken what came before.
    InboxFull,
    /// Sent by netif: the driver domain answered that it dropped or refused it.
    Refused,
}

impl DropReason {
    /// All of them, in order.
    pub const ALL: [DropReason; 20] = [
        DropReason::NoBuffer,
        DropReason::Malformed,
        DropReason::NoPath,
        DropReason::PeerFull,
        DropReason::PathFull,
        DropReason::GrantFailed,
        DropReason::PeerClosed,
        DropReason::HeldTooLong,
        DropReason::BadEnvelope,
        DropReason::UnknownSource,
        DropReason::NotOurs,
        DropReason::Replayed,
        DropReason::CopyFailed,
        DropReason::WrongTag,
        DropReason::Looped,
        DropReason::OtherPath,
        DropReason::BadResponse,
        DropReason::BadChecksum,
        DropReason::InboxFull,
        DropReason::Refused,
    ];

    /// A short name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::NoBuffer => "no-buffer",
            DropReason::Malformed => "malformed",
            DropReason::NoPath => "no-path",
            DropReason::PeerFull => "peer-full",
            DropReason::PathFull => "path-full",
            DropReason::GrantFailed => "grant-failed",
            DropReason::PeerClosed => "peer-closed",
            DropReason::HeldTooLong => "held-too-long",
            DropReason::BadEnvelope => "bad-envelope",
            DropReason::UnknownSource => "unknown-source",
            DropReason::NotOurs => "not-ours",
            DropReason::Replayed => "replayed",
            DropReason::CopyFailed => "copy-failed",
            DropReason::WrongTag => "wrong-tag",
            DropReason::Looped => "looped",
            DropReason::OtherPath => "other-path",
            DropReason::BadResponse => "bad-response",
            DropReason::BadChecksum => "bad-checksum",
            DropReason::InboxFull => "inbox-full",
            DropReason::Refused => "refused",
        }
    }
}

/// What the stack sent: counted where it builds frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
    /// Those for which there was no buffer.
    pub no_buffer: u64,
}

/// What the stack got: counted where it reads frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delivered {
    /// Frames.
    pub frames: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
    /// Frames dropped since their transport checksum is wrong.
    pub bad_checksum: u64,
    /// Frames dropped since the driver domain took their pages back.
    pub bad_response: u64,
}

/// Counts since the frontend was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// What the stack sent.
    pub sent: Sent,
    /// What the stack got.
    pub delivered: Delivered,
    /// Frames that went inside an envelope.
    pub inlined_frames: u64,
    /// Their bytes.
    pub inlined_bytes: u64,
    /// Frames that were granted to their destination.
    pub granted_frames: u64,
    /// Frames that went out by the VF as they are.
    pub vf_frames: u64,
    /// Frames that went to the driver domain by netif.
    pub netif_frames: u64,
    /// Envelopes sent that carry frames.
    pub envelopes_sent: u64,
    /// Envelopes sent that carry only a done.
    pub dones_sent: u64,
    /// Envelopes received, of any kind.
    pub envelopes_received: u64,
    /// Grants taken back because no done came in time.
    pub timed_out: u64,
    /// Frames whose table entry changed between the look-up and the grant.
    pub changed_underway: u64,
    /// Grants that could not be taken back yet.
    pub pinned: u64,
    /// Bytes that we moved to put a received frame into one piece.
    pub linearised_bytes: u64,
    /// Dones that were not believed.
    pub bad_dones: u64,
    /// Drops by [`DropReason`].
    pub drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Counts dropped frames.
    pub fn drop_frames(&mut self, reason: DropReason, frames: u64) {
        self.drops[reason as usize] += frames;
    }

    /// Drops for a reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
            + match reason {
                DropReason::NoBuffer => self.sent.no_buffer,
                DropReason::BadChecksum => self.delivered.bad_checksum,
                DropReason::BadResponse => self.delivered.bad_response,
                _ => 0,
            }
    }

    /// All drops.
    pub fn dropped(&self) -> u64 {
        self.reasons().map(|(_, count)| count).sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.dropped_for(reason)))
            .filter(|(_, count)| *count > 0)
    }

    /// The two halves, for a stack that reads a frame and sends one at the same time.
    pub fn split(&mut self) -> (&mut Delivered, &mut Sent) {
        (&mut self.delivered, &mut self.sent)
    }
}
