//! Cache lines that sender and receiver both touch, by the layouts of what they share.

use xenvelope_grant::seam::pages_touched;
use xenvelope_switch::channel::LAYOUT;
use xenvelope_switch::envelope::{MAX_ENVELOPE, TAG_LEN};

use super::scene::{Done, Load};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Entries of a version 2 grant table in a line, and of its status words.
const ENTRIES: f64 = (LINE / 16) as f64;

/// Bytes of an envelope before its records: the Ethernet header and the head.
const HEADS: f64 = 14.0 + 24.0;
/// Bytes of a frame's record before its segments, or what is inline.
const RECORD: f64 = 8.0;
/// Bytes of a segment.
const SEGMENT: f64 = 8.0;

/// Lines for one frame.
pub struct Lines {
    /// Slots of the envelope rings.
    pub slots: f64,
    /// Indices: one line that the sender writes, one that the receiver writes, each once a batch.
    pub indices: f64,
    /// The frame's bytes in the sender's pages, its tag included.
    pub payload: f64,
    /// Grant entries, which the hypervisor reads on the receiver's processor.
    pub grants: f64,
}

impl Lines {
    /// By what both did.
    pub fn of(load: Load, done: &Done) -> Lines {
        let frames = done.frames as f64;
        let granted = done.grants > 0;
        let each = frames / done.envelopes as f64;
        let record = if granted {
            RECORD + SEGMENT * pages_touched(&(0..load.length)) as f64
        } else {
            RECORD + (load.length - 14) as f64
        };
        // What is left of the slot is not touched.
        let bytes = HEADS + each * record;
        let lines = (bytes.min(MAX_ENVELOPE as f64) / LINE as f64).ceil();
        let slots = (done.envelopes as f64 * lines + done.dones as f64) / frames;
        let indices = if LAYOUT.req_prod / LINE == LAYOUT.rsp_prod / LINE { 1.0 } else { 2.0 };
        let payload =
            if granted { (load.length - 14 + TAG_LEN).div_ceil(LINE) as f64 } else { 0.0 };
        Lines {
            slots,
            indices: indices / load.burst as f64,
            payload,
            grants: done.grants as f64 / frames / ENTRIES,
        }
    }

    /// All of them.
    pub fn all(&self) -> f64 {
        self.slots + self.indices + self.payload + self.grants
    }
}
