//! `xenvelope-sim tap`: a host whose guests are Linux itself, each a network namespace with a TAP
//! behind which the simulated host is, so that any program uses it.
//!
//! Nothing of it stays: the TAPs are gone with the threads that have them open, and the namespaces
//! are deleted when the program ends for whatever reason but SIGKILL. What that leaves has a
//! record, by which the next run, or `--clean`, removes it.

mod ip;
mod namespace;
mod plan;
mod record;
mod status;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;
use xenvelope_service::signals::Signals;

use crate::capture::{Capture, CaptureError};
use crate::cli::TapArguments;
use crate::host::{Host, HostError, StackError, StackSpec};
use crate::store_server::{StartError, StoreServer};
use namespace::Namespace;
use plan::{Interface, Plan};
use status::Status;

/// The interface's name in every namespace.
const INTERFACE: &str = "eth0";
/// How long guests may take for their direct channels, and a millisecond more for each.
const CHANNELS: Duration = Duration::from_secs(20);

/// Why it does not run, or did not run to its end.
#[derive(Debug, Error)]
pub enum TapError {
    /// Only root may.
    #[error("tap makes network namespaces and TAPs, which only root may: run it with sudo")]
    NotRoot,
    /// No TAPs.
    #[error(
        "there is no /dev/net/tun, without which there are no TAPs: load its module (modprobe \
         tun), or give it to this container (--device /dev/net/tun)"
    )]
    NoTun,
    /// No `ip`.
    #[error(
        "the program ip, which makes namespaces and sets addresses, cannot be run ({0}): install iproute2"
    )]
    NoIp(std::io::Error),
    /// A namespace of that name is not ours.
    #[error(
        "there is a network namespace {0} already; remove it (ip netns del {0}), or choose other \
         names (--prefix)"
    )]
    NameTaken(String),
    /// Another run has it.
    #[error(
        "the network namespace {0} belongs to a run of this program that is going on; end that, or \
         choose other names (--prefix)"
    )]
    InUse(String),
    /// What was asked for lacks something.
    #[error("{0}")]
    Lacks(String),
    /// The program `ip` refused.
    #[error("`{command}` failed: {message}")]
    Ip {
        /// The command.
        command: String,
        /// What it said.
        message: String,
    },
    /// A file or the like.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// A guest got no stack.
    #[error("{name}: {cause}")]
    Stack {
        /// Whose.
        name: String,
        /// Why.
        cause: StackError,
    },
    /// The capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The store's socket.
    #[error(transparent)]
    Store(#[from] StartError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl TapError {
    /// Whether it is about what was asked for and where, and nothing was started.
    pub fn is_input(&self) -> bool {
        use TapError::*;
        matches!(
            self,
            NotRoot
                | NoTun
                | NoIp(_)
                | NameTaken(_)
                | InUse(_)
                | Lacks(_)
                | Capture(CaptureError::Create { .. })
                | Store(_)
                | Host(HostError::Refused(_) | HostError::Config(_))
        )
    }

    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> TapError {
        |cause| TapError::System { what: what.into(), cause }
    }
}

/// Runs until SIGINT, SIGTERM or SIGHUP. Lines for the user go to `say`.
pub fn run(
    arguments: &TapArguments,
    say: &mut dyn FnMut(&str) -> std::io::Result<()>,
) -> Result<(), TapError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(TapError::NotRoot);
    }
    ip::check()?;
    let mut say = |line: &str| say(line).map_err(TapError::system("standard output"));
    if arguments.clean {
        return clean(&mut say);
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err(TapError::NoTun);
    }
    let plan = Plan::new(arguments)?;
    // From here on a signal ends nothing but the loop below, so all is removed that was made.
    let signals = Signals::listen().map_err(TapError::system("signals"))?;
    let stopped = || signals.stop() || signals.take_reload();
    let mut namespaces = Vec::new();
    for interface in plan.interfaces() {
        if stopped() {
            return Ok(());
        }
        namespaces.push(Namespace::make(&interface.namespace)?);
    }
    let capture = arguments.host.capture.begin()?;
    let host = Host::start_recorded(&plan.host, capture.as_ref().map(Capture::recorder))?;
    let socket = arguments.host.store.socket.as_deref();
    let _store = socket.map(|path| StoreServer::start(&host.machine, path)).transpose()?;
    plan.tell_manager(&host)?;
    attach(&host, &plan, &namespaces)?;
    host.wait_connected()?;
    plan.wait_for_channels(&host, CHANNELS, &stopped)?;
    let mut status = Status::begin(&host)?;
    say(&plan.text())?;
    let _ready = arguments.ready_file.as_deref().map(|file| Ready::say(file, &plan)).transpose()?;
    while !stopped() {
        let left = arguments
            .status
            .0
            .map(|interval| (status.last() + interval).saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            say(&status.line(&host)?)?;
            continue;
        }
        // Rounded up, or it would come back before it is time.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // That a signal has interrupted it is what it waits for.
        let _ = poll(&mut fds, timeout);
        signals.drain();
    }
    say(&status.last_line(&host)?)?;
    drop(host);
    if let Some(capture) = capture {
        say(&capture.finish()?.to_string())?;
    }
    namespaces.into_iter().try_for_each(Namespace::remove)
}

/// Puts a TAP into each namespace, with its addresses.
fn attach(host: &Host, plan: &Plan, namespaces: &[Namespace]) -> Result<(), TapError> {
    for (index, (interface, namespace)) in plan.interfaces().zip(namespaces).enumerate() {
        let spec = StackSpec {
            namespace: namespace.open()?,
            interface: INTERFACE.to_owned(),
            mtu: plan.mtu,
        };
        let attached = match host.guests.get(index) {
            Some(guest) => guest.attach(spec)?,
            None => host.external.attach(spec)?,
        };
        let name = &interface.namespace;
        attached.map_err(|cause| TapError::Stack { name: name.clone(), cause })?;
        set_addresses(interface)?;
    }
    Ok(())
}

fn set_addresses(interface: &Interface) -> Result<(), TapError> {
    let mut commands = format!("link set lo up\naddr add {}/16 dev {INTERFACE}\n", interface.ipv4);
    if Path::new("/proc/net/if_inet6").exists() {
        // It is ours alone, and is to be there at once: no duplicate is looked for.
        commands += &format!("addr add {}/64 dev {INTERFACE} nodad\n", interface.ipv6);
    }
    ip::batch(&interface.namespace, &commands)
}

/// Removes what runs that were killed have left behind.
fn clean(say: &mut dyn FnMut(&str) -> Result<(), TapError>) -> Result<(), TapError> {
    let mut removed = 0;
    for name in record::names()? {
        match Namespace::reclaim(&name) {
            Ok(true) => {
                removed += 1;
                say(&format!("removed the network namespace {name}"))?;
            }
            Ok(false) => {}
            Err(TapError::InUse(name)) => {
                say(&format!("left {name}: it belongs to a run that is going on"))?;
            }
            Err(other) => return Err(other),
        }
    }
    if removed == 0 {
        say("nothing was left behind")?;
    }
    Ok(())
}

/// The file that says that all is ready, as long as it is.
struct Ready<'f>(&'f Path);

impl<'f> Ready<'f> {
    fn say(file: &'f Path, plan: &Plan) -> Result<Ready<'f>, TapError> {
        let names: String =
            plan.interfaces().map(|interface| format!("{}\n", interface.namespace)).collect();
        let failed = TapError::system(file.display().to_string());
        std::fs::write(file, names).map_err(failed)?;
        Ok(Ready(file))
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        // Whoever has removed it before us wanted it so.
        let _ = std::fs::remove_file(self.0);
    }
}
