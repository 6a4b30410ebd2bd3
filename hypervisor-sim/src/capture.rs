//! Captures of a run, for Wireshark: what stacks, channels, the card's ports and the wire carried,
//! as one pcapng file.
//!
//! | interface | what is on it |
//! |---|---|
//! | `NAME` | frames as guest NAME's stack sends and gets them, with their way as a comment |
//! | `NAME/channel` | envelopes on NAME's channels: to the driver domain, and to other guests |
//! | `pf`, `vf0` ... | what the card carries at that port, frames and envelopes alike |
//! | `wire` | what leaves the host and what comes to it |
//!
//! Inbound and outbound are as the interface's owner sees them; on the wire, as the host does.
//! Frames are as they are at that point: between guests of a host a transport checksum is blank,
//! and a frame may be a TCP segment of 64 KiB.
//!
//! Nobody waits for the file. A [`Tap`] puts a copy into a bounded queue, or counts a drop if the
//! queue is full; a thread of the [`Capture`] writes what is in the queue. What was dropped stands
//! in the file (`isb_ifdrop`) and in the [`Summary`].
//!
//! Timestamps are the simulator's clock, in nanoseconds, moved by a constant so that they are
//! also dates.

mod blocks;
mod card;
mod file;
mod guest;
mod recorder;
#[cfg(test)]
mod tests;

pub use card::CardTaps;
pub use file::{Capture, CaptureError, Summary};
pub use guest::GuestTap;
pub use recorder::{Recorder, Tap};
