//! iperf3 between two guests that are Linux itself, by envelopes, against the same from TAP over a
//! bridge to TAP: between two guests whose programs pass packets from a TAP of their own to one of
//! the host's, which are on a bridge.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xenvelope_hypervisor_sim::cli;
use xenvelope_hypervisor_sim::tap;

use super::{Line, Measured};
use crate::available;
use crate::bars::Asks;
use crate::kernel::{bridge, command, own_namespace};
use crate::programs::{Program, is_installed};
use crate::side::Side;

/// The line.
pub const LINE: Line = Line {
    name: "tap-iperf",
    describes: "iperf3, one TCP stream between two TAP guests, against TAP - bridge - TAP",
    asks: &[("TCP, calls at their stated cost", Asks::AtLeast(0.7))],
    needs,
    run,
};

/// How long a host may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// iperf3 measures whole seconds.
const LEAST: Duration = Duration::from_secs(1);

fn needs() -> Result<()> {
    available::kernel()?;
    ensure!(is_installed("iperf3"), "install iperf3");
    ensure!(is_installed("nsenter"), "install util-linux");
    Program::Relay.build()
}

fn run(length: Duration, directory: &Path) -> Result<Vec<Measured>> {
    let length = length.max(LEAST);
    let stated = by_envelope(length, directory, false)?;
    let ideal = by_envelope(length, directory, true)?;
    // Last: the process is in another namespace from here on.
    let other = by_bridge(length)?;
    let figure = |what: &str, ours: f64| Measured {
        what: format!("TCP, calls {what}"),
        against: "TAP - bridge - TAP".to_owned(),
        unit: "Gbit/s".to_owned(),
        ours,
        other,
    };
    Ok(vec![figure("at their stated cost", stated), figure("for free", ideal)])
}

/// What a host's process does: `xenvelope-sim tap` with those arguments. It ends, and takes its
/// namespaces with it, when whoever started it ends.
pub fn serve(arguments: &[String]) -> Result<()> {
    set_pdeathsig(Signal::SIGTERM)?;
    let all = ["xenvelope-sim", "tap"].into_iter().chain(arguments.iter().map(String::as_str));
    let Some(cli::Command::Tap(asked)) = cli::Arguments::try_parse_from(all)?.command else {
        bail!("not what a host with TAPs takes");
    };
    Ok(tap::run(&asked, &mut |_| Ok(()))?)
}

/// A process that is told to end when this is dropped, and waited for.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let process = Pid::from_raw(self.0.id() as i32);
        let _ = kill(process, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn by_envelope(length: Duration, directory: &Path, ideal: bool) -> Result<f64> {
    let ready = directory.join("tap-ready");
    let prefix = format!("peers{}", std::process::id());
    let mut host = Command::new(std::env::current_exe()?);
    // Two guests and nobody's card between them.
    host.args(["--tap", "--route", "direct-envelope", "--status", "0", "--prefix", &prefix]);
    host.arg("--ready-file").arg(&ready);
    if ideal {
        host.arg("--ideal");
    }
    let host = host.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut host = Ended(host);
    let end = Instant::now() + PATIENCE;
    while !ready.exists() {
        ensure!(host.0.try_wait()?.is_none(), "the host with TAPs has ended");
        ensure!(Instant::now() < end, "the host with TAPs did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let inside = |guest: &str| {
        let name = format!("{prefix}-{guest}");
        ["ip", "netns", "exec", &name].map(str::to_owned).to_vec()
    };
    iperf(&inside("a"), &inside("b"), "10.0.0.2", length)
}

fn by_bridge(length: Duration) -> Result<f64> {
    own_namespace()?;
    bridge("br0", &["tap0", "tap1"], 1500)?;
    let relay = |number: usize| -> Result<Side> {
        let mut command = Command::new(Program::Relay.path()?);
        command.args([format!("tap{number}"), format!("guest{number}")]);
        let mut side = Side::start("relay", &mut command)?;
        side.wait_for("READY")?;
        Ok(side)
    };
    let relays = [relay(0)?, relay(1)?];
    let inside = |relay: &Side| {
        let pid = relay.pid().to_string();
        ["nsenter", "-t", &pid, "-n"].map(str::to_owned).to_vec()
    };
    for (number, relay) in relays.iter().enumerate() {
        let pid = relay.pid();
        let ip = |what: String| command("nsenter", &format!("-t {pid} -n ip {what}"));
        ip(format!("addr add 10.0.0.{}/24 dev guest{number}", number + 1))?;
        ip(format!("link set guest{number} up"))?;
    }
    iperf(&inside(&relays[0]), &inside(&relays[1]), "10.0.0.2", length)
}

/// Gbit/s from one namespace to the other. `client` and `server` are what comes before a command
/// so that it runs there.
fn iperf(client: &[String], server: &[String], address: &str, length: Duration) -> Result<f64> {
    let run = |inside: &[String], arguments: &[&str]| {
        let mut command = Command::new(&inside[0]);
        command.args(&inside[1..]).arg("iperf3").args(arguments).stdin(Stdio::null());
        command
    };
    let server = run(server, &["-s", "-1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let _server = Ended(server);
    let seconds = length.as_secs().max(1).to_string();
    let mut last = String::new();
    // The server takes a moment until it listens.
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        let output = run(client, &["-c", address, "-t", &seconds, "-J"]).output()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .context("iperf3 said nothing that makes sense")?;
        if let Some(rate) = said["end"]["sum_received"]["bits_per_second"].as_f64() {
            return Ok(rate / 1e9);
        }
        last = said["error"].as_str().unwrap_or("iperf3 gave no rate").to_owned();
    }
    bail!("iperf3: {last}")
}
