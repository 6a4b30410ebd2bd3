//! What a frontend has done, and why it dropped what it dropped.

use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, CHANNEL_VF};

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
    /// Received: the driver domain said so little or so much of it that it is no frame. (What it
    /// says itself that it failed to copy is no drop of ours: `Counters::failed_by_backend`.)
    BadResponse,
    /// Received: the transport checksum is wrong.
    BadChecksum,
    /// Received: the stack has not taken what came before.
    InboxFull,
    /// Lay unread in a channel or ring that had to end at once: received, or on the way to the
    /// driver domain.
    ChannelEnded,
    /// Sent by netif: the driver domain answered that it dropped or refused it.
    Refused,
    /// Sent by netif: of a kind or size that the driver domain does not take.
    CannotTake,
}

impl DropReason {
    /// All of them, in order.
    pub const ALL: [DropReason; 22] = [
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
        DropReason::ChannelEnded,
        DropReason::Refused,
        DropReason::CannotTake,
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
            DropReason::ChannelEnded => "channel-ended",
            DropReason::Refused => "refused",
            DropReason::CannotTake => "cannot-take",
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

/// Frames and envelopes by the way that they took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ways {
    /// Frames as they are, by the VF.
    pub vf_frames: u64,
    /// Frames by netif, through the driver domain.
    pub netif_frames: u64,
    /// Frames from outside that the card put into pages of ours, by our queue.
    pub queue_frames: u64,
    /// Envelopes by the VF.
    pub envelopes_vf: u64,
    /// Envelopes by the driver domain's switch.
    pub envelopes_driver_domain: u64,
    /// Envelopes by direct channels.
    pub envelopes_direct: u64,
    /// Frames in envelopes by the VF.
    pub enveloped_vf: u64,
    /// Frames in envelopes by the driver domain's switch.
    pub enveloped_driver_domain: u64,
    /// Frames in envelopes by direct channels.
    pub enveloped_direct: u64,
}

impl Ways {
    /// All frames, whichever way they took.
    pub fn frames(&self) -> u64 {
        let enveloped = self.enveloped_vf + self.enveloped_driver_domain + self.enveloped_direct;
        self.vf_frames + self.netif_frames + self.queue_frames + enveloped
    }

    pub(crate) fn envelope(&mut self, channel: u16, frames: u64) {
        let (envelopes, enveloped) = match channel {
            CHANNEL_VF => (&mut self.envelopes_vf, &mut self.enveloped_vf),
            CHANNEL_DRIVER_DOMAIN => {
                (&mut self.envelopes_driver_domain, &mut self.enveloped_driver_domain)
            }
            _ => (&mut self.envelopes_direct, &mut self.enveloped_direct),
        };
        *envelopes += 1;
        *enveloped += frames;
    }
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
    /// What left, by which way. All that the stack sent has left, is counted under a
    /// [`DropReason`], or waits (`Frontend::queued`); what is lost after it has left is counted
    /// where it is lost, [`DropReason::Refused`] here.
    pub sent_by: Ways,
    /// What came, by which way, before it was looked at.
    pub received_by: Ways,
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
    /// Receive buffers that came back with an error instead of a frame: the driver domain failed to
    /// copy one into them. It has counted that drop, so this is none of the [`DropReason`]s: each
    /// dropped frame is counted once. (Linux' netfront has these among `rx_errors`.)
    pub failed_by_backend: u64,
    /// Bytes that we moved to put a received frame into one piece.
    pub linearised_bytes: u64,
    /// Bytes of tags that were copied with frames.
    pub tag_bytes: u64,
    /// Dones that were not believed.
    pub bad_dones: u64,
    /// Frames that took another way since the VF went away before they had left.
    pub rerouted: u64,
    /// Forwarding tables that were mapped: the first, and others after restarts of the manager.
    pub tables_attached: u64,
    /// Attempts to map one that failed.
    pub tables_refused: u64,
    /// Connections to the driver domain that came about.
    pub connections: u64,
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
