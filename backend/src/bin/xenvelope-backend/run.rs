//! The program's life: it takes the devices, serves until it is told to stop, and leaves
//! everything so that the next one can go on.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use xenvelope_backend::Backend;
use xenvelope_grant::seam::{Host, Instant, PortId};
use xenvelope_service::devices::{self, Needed};
use xenvelope_service::instance::Instance;
use xenvelope_service::manager::tell;
use xenvelope_service::settings::Settings;
use xenvelope_service::signals::Signals;
use xenvelope_service::status::{LOG_EVERY, STATUS_EVERY, StatusFile};
use xenvelope_xen::linux::{
    Descriptors as _, Limits, PacketConfig, PacketPort, Port, Tap, TapConfig, TapOffloads, Xen,
};

use crate::card::CardAgent;
use crate::commands::{Pf, Processes};
use crate::config::Config;
use crate::control::{ControlThread, Order};
use crate::policy::Policy;
use crate::report::Report;
use crate::stock_drivers::{BUS, SCRIPT, StockDrivers};
use crate::{Arguments, epoch, read_config};

/// Of this program one runs at a time.
const LOCK: &str = "/run/xenvelope-backend.lock";

const DEVICES: [Needed; 3] = [
    Needed { path: "/dev/xen/evtchn", module: "xen-evtchn" },
    Needed { path: "/dev/xen/gntdev", module: "xen-gntdev" },
    Needed { path: "/dev/xen/gntalloc", module: "xen-gntalloc" },
];

/// Runs until it is told to stop.
pub fn run(arguments: &Arguments, settings: Settings<Config>) -> anyhow::Result<()> {
    let config = settings.value;
    devices::require(Path::new("/"), &DEVICES)?;
    let _instance = Instance::lock(Path::new(LOCK))?;
    let signals = Signals::listen().context("cannot listen to signals")?;

    // Before any guest starts: netback takes what it sees.
    let drivers = stock_drivers(&config)?;
    let (pf, anti_spoof) = card(&config);
    let control = ControlThread::spawn(pf, drivers).context("cannot start a thread")?;

    let host = Xen::open(Limits::default())?;
    let wake = host.watch_fd(signals.as_fd()).context("cannot wait for signals")?;
    let epoch = epoch::next(&host);
    let uplink = uplink(&host, &config)?;
    let orders = config.card.pf.as_ref().and_then(|_| control.orders());
    let agent = CardAgent::new(orders, anti_spoof);
    let now = host.now();
    let backend = Backend::new(host, served(&config, epoch), uplink, agent)?;
    let mut server = Server {
        policy: Policy::default(),
        status: StatusFile::new(arguments.status.clone()),
        report_at: now,
        log_at: now + LOG_EVERY,
        uplink: config.uplink.name().map(str::to_owned),
        config,
        arguments,
        wake,
        signals,
        epoch,
        backend,
        control,
    };
    server.apply_policy();
    server.serve();
    server.end();
    Ok(())
}

/// The bus of the devices that this domain serves, taken over if it is to be.
fn stock_drivers(config: &Config) -> anyhow::Result<Option<StockDrivers>> {
    let bus = Path::new(BUS);
    if !config.stock_drivers {
        return Ok(None);
    }
    if !bus.exists() {
        tracing::info!("this kernel has no backends of its own: no {BUS}");
        return Ok(None);
    }
    StockDrivers::take_over(bus).map(Some).with_context(|| {
        format!("cannot write {BUS}/drivers_autoprobe (`stock-drivers = false` leaves it alone)")
    })
}

/// What is asked of the library.
fn served(config: &Config, epoch: u64) -> xenvelope_backend::Config {
    xenvelope_backend::Config {
        queues: usize::from(config.queues.get()),
        script: Some(SCRIPT),
        table_pages: usize::from(config.table_pages.get()),
        epoch,
        ..xenvelope_backend::Config::default()
    }
}

/// The card, set up, and whether it can be relied on to check sources.
fn card(config: &Config) -> (Option<Pf<Processes>>, bool) {
    let Some(interface) = &config.card.pf else {
        return (None, false);
    };
    let mut pf = Pf::new(interface.as_str(), config.card.anti_spoof, Processes);
    let done = pf.set_up(&config.vfs());
    if config.card.anti_spoof && !done {
        tracing::error!(
            "the card is not as `anti-spoof = true` says: its sources are not believed"
        );
    }
    (Some(pf), config.card.anti_spoof && done)
}

fn uplink(host: &Xen, config: &Config) -> anyhow::Result<Option<Port>> {
    if let Some(name) = &config.uplink.tap {
        let tap = TapConfig {
            name: name.as_str().to_owned(),
            mac: None,
            mtu: config.uplink.mtu.map_or(1500, |mtu| mtu.get()),
            // What the administrator gave it, addresses and a bridge, stays over a restart.
            persistent: true,
            offloads: TapOffloads::Segments,
            up: true,
        };
        return Ok(Some(Port::Tap(Tap::open(host, &tap).context("uplink")?)));
    }
    let Some(name) = &config.uplink.interface else {
        return Ok(None);
    };
    let packet = PacketConfig {
        interface: name.get_ref().as_str().to_owned(),
        promiscuous: config.promiscuous(),
        quiet: config.uplink.quiet,
    };
    Ok(Some(Port::Packet(PacketPort::open(host, &packet).context("uplink")?)))
}

struct Server<'a> {
    arguments: &'a Arguments,
    config: Config,
    policy: Policy,
    /// The signals' number in a wait.
    wake: PortId,
    signals: Signals,
    epoch: u64,
    /// The uplink's interface: it does not change.
    uplink: Option<String>,
    status: StatusFile,
    report_at: Instant,
    log_at: Instant,
    // Dropped in this order: the agent in the backend holds an end of the thread's channel.
    backend: Backend<Xen, Port, CardAgent>,
    control: ControlThread,
}

impl Server<'_> {
    fn serve(&mut self) {
        self.backend.poll(self.backend.host().now());
        tracing::info!(
            epoch = self.epoch,
            connected = self.backend.connected(),
            "serving interfaces whose script is {SCRIPT}"
        );
        tell("READY=1");
        let mut connected = self.backend.connected();
        while !self.signals.stop() {
            if self.signals.take_reload() {
                self.reload();
            }
            let now = self.backend.host().now();
            let busy = self.backend.poll(now);
            self.report(now);
            if connected != self.backend.connected() {
                connected = self.backend.connected();
                tracing::info!(connected, "interfaces that carry frames");
            }
            if !busy {
                self.backend.wait(self.report_at);
            }
            let host = self.backend.host();
            if host.has_fired(self.wake) && self.signals.drain() {
                host.unmask_device(self.wake);
            }
        }
    }

    /// Leaves interfaces Connected: the next one goes on with them.
    fn end(mut self) {
        tell("STOPPING=1");
        let state = self.state();
        self.status.write(&state);
        self.backend.shutdown();
        tracing::info!("stopped; guests go on when it is started again");
    }

    fn report(&mut self, now: Instant) {
        let asked = self.signals.take_report();
        if asked || now >= self.report_at {
            let state = self.state();
            self.status.write(&state);
            self.report_at = now + STATUS_EVERY;
            if asked {
                tracing::info!("{state}");
            } else if now >= self.log_at {
                tracing::debug!("{state}");
            }
            if now >= self.log_at {
                self.log_at = now + LOG_EVERY;
            }
        }
    }

    fn state(&self) -> serde_json::Value {
        Report {
            epoch: self.epoch,
            connected: self.backend.connected(),
            uplink: self.uplink.as_deref(),
            uplink_lost: self.backend.uplink().map_or(0, Port::lost),
            counters: self.backend.counters(),
        }
        .json()
    }

    /// Reads the configuration again. One that is wrong changes nothing.
    fn reload(&mut self) {
        let config = match read_config(self.arguments.config.as_deref()) {
            Ok(settings) => settings.value,
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it was");
                return;
            }
        };
        let fixed = |config: &Config| {
            let Config { queues, table_pages, stock_drivers, uplink, card, .. } = config;
            (queues.get(), table_pages.get(), *stock_drivers, uplink.clone(), card.clone())
        };
        if fixed(&config) != fixed(&self.config) {
            tracing::warn!(
                "queues, table-pages, stock-drivers, [uplink] and [card] change at the next start"
            );
        }
        if config.vfs() != self.config.vfs()
            && let Some(orders) = self.control.orders()
        {
            // If the thread has ended, the program is ending.
            let _ = orders.send(Order::Vfs(config.vfs()));
        }
        self.config = config;
        self.apply_policy();
        tracing::info!("the configuration was read again");
    }

    fn apply_policy(&mut self) {
        let policy = Policy::of(&self.config);
        policy.apply(&self.policy, self.backend.manager());
        self.policy = policy;
    }
}
