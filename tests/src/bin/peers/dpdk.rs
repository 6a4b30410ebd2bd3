//! The peers of DPDK: two processes, each with one port.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::contender::{Contender, Load};
use super::programs::Program;
use super::side::{Side, run as run_sides};
use super::two::CORES;
use super::window::Part;

/// Memory of each process, in MiB: for 2999 buffers of 64 KiB and more.
const MEMORY: usize = 384;
/// Huge pages of 2 MiB that both take.
pub const HUGE_PAGES: u64 = 448;

/// One sample. Sockets are made in `directory`.
pub fn run(
    contender: Contender,
    load: Load,
    length: Duration,
    directory: &Path,
) -> Result<[Part; 2]> {
    let socket = directory.join(format!("dpdk-{}.sock", std::process::id()));
    let socket = socket.to_str().context("a path that is not text")?;
    let frame = if load.length <= 2048 {
        2048
    } else if load.length <= 9216 {
        9216
    } else {
        65407
    };
    let memif = format!("id=0,socket={socket},socket-abstract=no,bsize={frame},rsize=10");
    let server = format!("net_memif0,role=server,{memif}");
    let client = format!("net_memif0,role=client,zero-copy=yes,{memif}");
    let vhost = format!("net_vhost0,iface={socket},queues=1");
    let virtio = format!("net_virtio_user0,path={socket},queues=1,queue_size=1024");
    // Who listens, who connects, and whether the first of them sends.
    let (listens, connects, listener_sends) = match contender {
        Contender::VhostPacked => (vhost, format!("{virtio},packed_vq=1"), false),
        Contender::MemifToServer => (server, client, false),
        Contender::MemifToClient => (server, client, true),
        _ => (vhost, virtio, false),
    };
    let first = start(&listens, load, listener_sends, directory)?;
    let second = start(&connects, load, !listener_sends, directory)?;
    let (sender, receiver) = if listener_sends { (first, second) } else { (second, first) };
    let parts = run_sides(sender, receiver, length);
    let _ = std::fs::remove_file(socket);
    parts
}

fn start(device: &str, load: Load, sends: bool, directory: &Path) -> Result<Side> {
    let (role, core) = if sends { ("tx", CORES[0]) } else { ("rx", CORES[1]) };
    let mut command = Command::new(Program::Dpdk.path()?);
    // Where DPDK leaves a directory of its own.
    command.env("RUNTIME_DIRECTORY", directory);
    command
        .args([&format!("--lcores=0@{core}"), "--no-pci", "--in-memory", "--single-file-segments"])
        .args(["--log-level=4", "--no-telemetry", "-m", &MEMORY.to_string()])
        .args([&format!("--vdev={device}"), "--", role])
        .args([load.length.to_string(), load.burst.to_string(), u8::from(load.full).to_string()]);
    let mut side = Side::start(if sends { "sender" } else { "receiver" }, &mut command)?;
    side.wait_for("READY")?;
    Ok(side)
}
