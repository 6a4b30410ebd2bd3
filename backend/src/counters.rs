//! What the driver domain has done, and why it dropped what it dropped.

use xenvelope_switch::Discard;

/// Why a frame was dropped. Every frame that is taken from a guest or from the uplink is passed
/// on, refused (then the frontend counts it), or counted under one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum DropReason {
    /// The source address is not the guest's.
    SourceMac,
    /// The VLAN is not the guest's.
    Vlan,
    /// Nobody has that destination.
    NoDestination,
    /// Policy does not let the two reach each other.
    Policy,
    /// An address that switches keep for themselves.
    Reserved,
    /// The frame would go back where it came from.
    Looped,
    /// The destination has posted no receive buffers, and has not done so in time.
    NoReceiveBuffer,
    /// The destination takes no frames that long, or with that offload. Also: it takes no blank
    /// checksums, and the frame is too long to be all in our memory to have its own filled in.
    CannotTake,
    /// The destination's envelope channel is full.
    ChannelFull,
    /// The grant copy failed.
    CopyFailed,
    /// No buffer of our own.
    NoBuffer,
    /// The uplink would not take it.
    Uplink,
    /// Not a frame, or not an envelope that makes sense.
    Malformed,
    /// An envelope that came before.
    Replayed,
}

impl DropReason {
    /// All of them, in order.
    pub const ALL: [DropReason; 14] = [
        DropReason::SourceMac,
        DropReason::Vlan,
        DropReason::NoDestination,
        DropReason::Policy,
        DropReason::Reserved,
        DropReason::Looped,
        DropReason::NoReceiveBuffer,
        DropReason::CannotTake,
        DropReason::ChannelFull,
        DropReason::CopyFailed,
        DropReason::NoBuffer,
        DropReason::Uplink,
        DropReason::Malformed,
        DropReason::Replayed,
    ];

    /// A short name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::SourceMac => "source-mac",
            DropReason::Vlan => "vlan",
            DropReason::NoDestination => "no-destination",
            DropReason::Policy => "policy",
            DropReason::Reserved => "reserved-address",
            DropReason::Looped => "looped",
            DropReason::NoReceiveBuffer => "no-receive-buffer",
            DropReason::CannotTake => "cannot-take",
            DropReason::ChannelFull => "channel-full",
            DropReason::CopyFailed => "copy-failed",
            DropReason::NoBuffer => "no-buffer",
            DropReason::Uplink => "uplink",
            DropReason::Malformed => "malformed",
            DropReason::Replayed => "replayed",
        }
    }
}

impl From<Discard> for DropReason {
    fn from(discard: Discard) -> DropReason {
        match discard {
            Discard::SourceMac => DropReason::SourceMac,
            Discard::Vlan => DropReason::Vlan,
            Discard::ReservedAddress => DropReason::Reserved,
            Discard::Looped => DropReason::Looped,
            Discard::UnknownPort | Discard::NoDestination => DropReason::NoDestination,
        }
    }
}

/// Counts since the backend was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames taken from guests by netif.
    pub netif_in: u64,
    /// Frames put into guests' receive buffers.
    pub netif_out: u64,
    /// Envelopes passed on to guests.
    pub envelopes_forwarded: u64,
    /// Envelopes whose frames went to a guest without envelopes.
    pub envelopes_taken: u64,
    /// Frames that were passed on for the receiver to copy.
    pub passed_on: u64,
    /// Frames taken from the uplink.
    pub uplink_in: u64,
    /// Frames sent to the uplink.
    pub uplink_out: u64,
    /// Frames that the card put straight into guests' buffers, by their queues.
    pub queue_in: u64,
    /// Copies that flooding made: frames delivered beyond the one that came.
    pub flood_extra: u64,
    /// Interfaces that were closed since their guest broke the protocol.
    pub closed_hostile: u64,
    /// Interfaces that were taken over from a process before us.
    pub adopted: u64,
    /// Frames that had to wait until their guest posted receive buffers.
    pub waited: u64,
    /// Drops by [`DropReason`].
    pub drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Counts dropped frames.
    pub fn drop_frames(&mut self, reason: DropReason, frames: u64) {
        self.drops[reason as usize] += frames;
    }

    /// All drops.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.drops).filter(|(_, count)| *count > 0)
    }
}
