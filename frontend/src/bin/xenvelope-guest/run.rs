//! The program's life: it waits for the vif, makes the interface, carries frames until it is told
//! to stop, and leaves the interface for the next one.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use xenvelope_frontend::Frontend;
use xenvelope_grant::seam::{Events, Host, Instant, PortId, StoreError};
use xenvelope_service::devices::{self, Needed};
use xenvelope_service::instance::Instance;
use xenvelope_service::manager::tell;
use xenvelope_service::signals::Signals;
use xenvelope_service::status::{LOG_EVERY, STATUS_EVERY, StatusFile};
use xenvelope_switch::MacAddress;
use xenvelope_xen::linux::{Descriptors as _, Limits, Tap, TapConfig, TapOffloads, Xen};

use crate::agent::Agent;
use crate::config::Config;
use crate::{Arguments, device};

/// How often the store is looked at for a vif that is not there.
const LOOK_FOR_VIF: Duration = Duration::from_millis(500);
/// After how long without a done a grant to another guest is taken back: a guest that is alive may
/// well not run for a second where many share few processors.
const DONE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the driver domain may take to close.
const GOODBYE: Duration = Duration::from_secs(2);

const DEVICES: [Needed; 4] = [
    Needed { path: "/dev/xen/gntalloc", module: "xen-gntalloc" },
    Needed { path: "/dev/xen/gntdev", module: "xen-gntdev" },
    Needed { path: "/dev/xen/evtchn", module: "xen-evtchn" },
    Needed { path: "/dev/net/tun", module: "tun" },
];

/// Runs until it is told to stop.
pub fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    devices::require(Path::new("/"), &DEVICES)?;
    let lock = PathBuf::from(format!("/run/xenvelope-guest-{}.lock", config.vif));
    let _instance = Instance::lock(&lock)?;
    let signals = Signals::listen().context("cannot listen to signals")?;
    let host = Xen::open(Limits::default())?;
    let wake = host.watch_fd(signals.as_fd()).context("cannot wait for signals")?;
    let program = Program { arguments, config, host, signals, wake };
    // The machine may start without a vif: one can be plugged in later.
    tell("READY=1");
    if program.wait_for_vif() {
        program.free_vif()?;
        program.serve()?;
    }
    tracing::info!("stopped");
    Ok(())
}

struct Program<'a> {
    arguments: &'a Arguments,
    config: &'a Config,
    host: Xen,
    signals: Signals,
    /// The signals' number in a wait.
    wake: PortId,
}

impl Program<'_> {
    /// Waits until the toolstack has made the vif. `false`: we are to stop.
    fn wait_for_vif(&self) -> bool {
        let vif = self.config.vif;
        let mut said: Option<Option<StoreError>> = None;
        while !self.signals.stop() {
            let problem = match device::is_there(&self.host, vif) {
                Ok(true) => return true,
                Ok(false) => None,
                Err(error) => Some(error),
            };
            if said != Some(problem) {
                match problem {
                    None => tracing::info!(
                        "waiting for device/vif/{vif}: the toolstack has not made it (a `vif` in \
                         the guest's configuration, or xl network-attach)"
                    ),
                    Some(error) => tracing::warn!(%error, "waiting for device/vif/{vif}"),
                }
                said = Some(problem);
            }
            self.host.wait(&mut [PortId(0); 8], self.host.now() + LOOK_FOR_VIF);
            self.heard_signals();
        }
        false
    }

    /// After each wait: the signals' watcher is armed again if it has fired.
    fn heard_signals(&self) {
        if self.host.has_fired(self.wake) && self.signals.drain() {
            self.host.unmask_device(self.wake);
        }
        if self.signals.take_reload() {
            tracing::warn!("the configuration is read at the start only: start the program again");
        }
    }

    /// Sees that netfront does not have the vif. Its module may be loaded at any time.
    fn free_vif(&self) -> anyhow::Result<()> {
        device::free(Path::new("/"), self.config.vif, self.config.take_over)
    }

    fn serve(&self) -> anyhow::Result<()> {
        let config = xenvelope_frontend::Config {
            handle: self.config.vif,
            envelopes: self.config.envelopes,
            done_timeout: DONE_TIMEOUT,
            ..xenvelope_frontend::Config::default()
        };
        let frontend = Frontend::new(self.host.clone(), config, None).context("vif")?;
        let mut mac = frontend.mac();
        let tap = self.tap(mac)?;
        tracing::info!(interface = tap.name(), %mac, "carrying frames");
        let mut agent = Agent::new(self.host.clone(), tap, frontend, self.config.vf.clone());
        let mut status = StatusFile::new(self.arguments.status.clone());
        let mut report_at = self.host.now();
        let mut log_at = report_at + LOG_EVERY;
        while !self.signals.stop() {
            let now = self.host.now();
            let busy = agent.turn(now);
            if mac != agent.mac() {
                mac = agent.mac();
                tracing::info!(%mac, "the toolstack has made the vif again, with another address");
                agent.replace_tap(|| self.tap(mac))?;
            }
            let asked = self.signals.take_report();
            if asked || now >= report_at {
                report_at = now + STATUS_EVERY;
                self.free_vif()?;
                let report = agent.report().json();
                status.write(&report);
                log(asked, &report, now, &mut log_at);
            }
            if !busy {
                agent.wait(report_at);
                self.heard_signals();
            }
        }
        tell("STOPPING=1");
        agent.close(self.host.now() + GOODBYE, self.config.vif);
        status.write(&agent.report().json());
        Ok(())
    }

    fn tap(&self, mac: MacAddress) -> anyhow::Result<Tap> {
        let mtu = self.config.mtu.unwrap_or_else(|| device::mtu(&self.host, self.config.vif));
        let config = TapConfig {
            name: self.config.interface.as_str().to_owned(),
            mac: Some(mac.0),
            mtu: mtu.get(),
            persistent: self.config.persistent,
            offloads: if self.config.tso { TapOffloads::Segments } else { TapOffloads::Checksum },
            up: true,
        };
        Ok(Tap::open(&self.host, &config)?)
    }
}

/// Logs a report: whole when somebody asked, else now and then.
fn log(asked: bool, report: &serde_json::Value, now: Instant, log_at: &mut Instant) {
    if asked {
        tracing::info!("{report}");
    }
    if now >= *log_at {
        *log_at = now + LOG_EVERY;
        tracing::debug!("{report}");
    }
}
