//! The kernel's own paths: packet sockets over veth, and TAP - bridge - TAP.
//!
//! All interfaces are in network namespaces without a name, which end with the processes in them:
//! there is nothing to clean up, however a sample ends.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};

use super::contender::{Contender, Load};
use super::frame::MACS;
use super::programs::Program;
use super::side::{Side, run as run_sides};
use super::two::CORES;
use super::window::Part;

/// Runs `ip` or another of iproute2's programs.
pub fn command(program: &str, arguments: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("{program} does not run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {arguments}: {}", said.lines().next().unwrap_or("failed"));
    }
    Ok(())
}

/// Puts the calling process into a network namespace of its own, without IPv6's chatter.
pub fn own_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("no network namespace of its own; run it as root")?;
    // A kernel without IPv6 has no such file.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    Ok(())
}

fn start(kind: &str, interface: &str, load: Load, sends: bool, own: bool) -> Result<Side> {
    let (role, core) = if sends { ("tx", CORES[0]) } else { ("rx", CORES[1]) };
    let mut command = Command::new(Program::Kernel.path()?);
    command.args([kind, role, interface, &load.length.to_string(), &load.burst.to_string()]);
    command.args([if load.full { "1" } else { "0" }, &core.to_string()]);
    command.arg(if own { "own" } else { "here" });
    Side::start(if sends { "sender" } else { "receiver" }, &mut command)
}

/// One sample. The calling process stays in a namespace of its own.
pub fn run(contender: Contender, load: Load, length: Duration) -> Result<[Part; 2]> {
    own_namespace()?;
    if contender == Contender::AfPacket { over_veth(load, length) } else { by_tap(load, length) }
}

fn over_veth(load: Load, length: Duration) -> Result<[Part; 2]> {
    let mut receiver = start("packet", "there", load, false, true)?;
    receiver.wait_for("UNSHARED")?;
    command(
        "ip",
        &format!("link add here address {} type veth peer name there address {}", MACS[0], MACS[1]),
    )?;
    command("ip", &format!("link set there netns {}", receiver.pid()))?;
    receiver.wait_for("READY")?;
    let mut sender = start("packet", "here", load, true, false)?;
    sender.wait_for("READY")?;
    run_sides(sender, receiver, length)
}

fn by_tap(load: Load, length: Duration) -> Result<[Part; 2]> {
    let mtu = (load.length - 14).max(1500);
    bridge("br0", &["tap0", "tap1"], mtu)?;
    command("bridge", &format!("fdb add {} dev tap1 master static", MACS[1]))?;
    let mut receiver = start("tap", "tap1", load, false, false)?;
    receiver.wait_for("READY")?;
    let mut sender = start("tap", "tap0", load, true, false)?;
    sender.wait_for("READY")?;
    run_sides(sender, receiver, length)
}

/// A bridge of TAPs, all up.
pub fn bridge(name: &str, taps: &[&str], mtu: usize) -> Result<()> {
    command("ip", &format!("link add {name} type bridge"))?;
    for tap in taps {
        command("ip", &format!("tuntap add {tap} mode tap vnet_hdr"))?;
        command("ip", &format!("link set {tap} mtu {mtu} master {name} up"))?;
    }
    command("ip", &format!("link set {name} mtu {mtu} up"))
}
