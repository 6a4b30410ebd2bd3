//! Who moves frames, and which frames.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Somebody who moves frames from one core to the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Ours, in two threads, everything for free that the simulator does not do itself.
    OursThreadsIdeal,
    /// Ours, in two threads, with the stated costs of hypercalls and events.
    OursThreads,
    /// Ours, in two processes, as above for free.
    OursProcessesIdeal,
    /// Ours, in two processes, with the stated costs.
    OursProcesses,
    /// A ring and a copy and no checks, in two threads.
    BareThreads,
    /// The same in two processes.
    BareProcesses,
    /// DPDK virtio-user to vhost, split rings.
    VhostSplit,
    /// The same, packed rings.
    VhostPacked,
    /// DPDK memif, client to server, the client's memory shared.
    MemifToServer,
    /// DPDK memif, server to client, the client's memory shared.
    MemifToClient,
    /// Packet sockets over a veth pair.
    AfPacket,
    /// TAP to TAP over a bridge.
    Tap,
}

use Contender::*;

impl Contender {
    /// All, in the order in which a round runs them.
    pub const ALL: [Contender; 12] = [
        BareProcesses,
        OursProcesses,
        VhostPacked,
        OursProcessesIdeal,
        VhostSplit,
        MemifToServer,
        OursThreads,
        MemifToClient,
        BareThreads,
        OursThreadsIdeal,
        AfPacket,
        Tap,
    ];

    /// The name in tables, and for `--only`.
    pub const fn name(self) -> &'static str {
        match self {
            OursThreadsIdeal => "ours-threads-ideal",
            OursThreads => "ours-threads",
            OursProcessesIdeal => "ours-processes-ideal",
            OursProcesses => "ours-processes",
            BareThreads => "bare-threads",
            BareProcesses => "bare-processes",
            VhostSplit => "vhost-split",
            VhostPacked => "vhost-packed",
            MemifToServer => "memif-to-server",
            MemifToClient => "memif-to-client",
            AfPacket => "af-packet",
            Tap => "tap-bridge-tap",
        }
    }

    /// What it is, in a line.
    pub const fn what(self) -> &'static str {
        match self {
            OursThreadsIdeal => "direct channel, two threads, hypercalls for free",
            OursThreads => "direct channel, two threads, hypercalls at their stated cost",
            OursProcessesIdeal => "direct channel, two processes, hypercalls for free",
            OursProcesses => "direct channel, two processes, hypercalls at their stated cost",
            BareThreads => "ring of 16-byte descriptors and a copy, no checks, two threads",
            BareProcesses => "ring of 16-byte descriptors and a copy, no checks, two processes",
            VhostSplit => "DPDK virtio-user to vhost, split rings; the receiver copies",
            VhostPacked => "DPDK virtio-user to vhost, packed rings; the receiver copies",
            MemifToServer => "DPDK memif, zero-copy client to server; the receiver copies",
            MemifToClient => "DPDK memif, server to zero-copy client; the sender copies",
            AfPacket => "packet sockets over veth between two network namespaces",
            Tap => "TAP to TAP over a bridge, read and write",
        }
    }

    /// Whether it is ours.
    pub const fn is_ours(self) -> bool {
        matches!(self, OursThreadsIdeal | OursThreads | OursProcessesIdeal | OursProcesses)
    }

    /// Whether it is one of the peers: neither ours nor a model.
    pub const fn is_peer(self) -> bool {
        !self.is_ours() && !matches!(self, BareThreads | BareProcesses)
    }

    /// Whether it is a peer of which the receiver does the only copy.
    pub const fn receiver_copies(self) -> bool {
        matches!(self, VhostSplit | VhostPacked | MemifToServer)
    }

    /// The bare model that runs as it does.
    pub const fn model(self) -> Contender {
        match self {
            OursThreadsIdeal | OursThreads => BareThreads,
            _ => BareProcesses,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which frames, and how they are handed over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Bytes of a frame.
    pub length: usize,
    /// Frames that the sender hands over at once.
    pub burst: usize,
    /// Whether the sender writes the whole frame, or its header only.
    pub full: bool,
}

impl Load {
    /// The loads of the table: short frames also one by one, where it is the handing over that
    /// costs.
    pub fn all() -> Vec<Load> {
        let mut loads = Vec::new();
        for full in [true, false] {
            for length in [64, 1500, 9000, 65000] {
                loads.push(Load { length, burst: 32, full });
            }
            for length in [64, 1500] {
                loads.push(Load { length, burst: 1, full });
            }
        }
        loads
    }

    /// Frames a second as Gbit/s.
    pub fn gbit(&self, per_second: f64) -> f64 {
        per_second * self.length as f64 * 8.0 / 1e9
    }

    /// From one buffer to the next where the limits are measured: as DPDK has its buffers.
    pub const fn stride(&self) -> usize {
        match self.length {
            0..=2048 => 2048,
            2049..=16384 => 16384,
            _ => 65536,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = if self.full { "full" } else { "header" };
        write!(f, "{} B, burst {}, {payload}", self.length, self.burst)
    }
}
