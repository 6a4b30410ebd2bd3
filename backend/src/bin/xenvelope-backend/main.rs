//! The driver domain's process: serves the network interfaces of guests that the toolstack gave
//! to it (`script=vif-xenvelope`), and keeps their forwarding tables.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod card;
mod commands;
mod config;
mod control;
mod epoch;
mod explain;
mod policy;
mod report;
mod run;
mod stock_drivers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use xenvelope_service::settings::{self, Settings, SettingsError};
use xenvelope_service::start::start;

use config::Config;

/// Where the configuration is when nobody says.
const DEFAULT_CONFIG: &str = "/etc/xenvelope/backend.toml";

/// Serves the network interfaces of a Xen host's guests: netif for stock guests, envelopes for
/// those that understand them.
#[derive(Parser, Debug)]
#[command(
    name = "xenvelope-backend",
    version,
    after_help = "Signals: SIGHUP reads the configuration again; SIGUSR1 writes the counters to \
                  the log and the status file; SIGTERM stops, and guests go on when it is started \
                  again."
)]
pub struct Arguments {
    /// The configuration [default: /etc/xenvelope/backend.toml, which need not be there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Says what the configuration means, and ends
    #[arg(long)]
    check: bool,

    /// What is logged: error, warn, info, debug, trace, or a list as info,xenvelope_backend=debug
    /// [default: the environment's XENVELOPE_LOG, else info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,

    /// Where counters are written once a second, as one JSON object
    #[arg(long, value_name = "FILE", default_value = "/run/xenvelope/backend.json")]
    status: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start(
        arguments.log.as_deref(),
        || read_config(arguments.config.as_deref()),
        arguments.check.then_some(explain::print),
        |settings| run::run(&arguments, settings),
    )
}

/// The configuration, with everything checked that can be checked without a host.
fn read_config(named: Option<&Path>) -> Result<Settings<Config>, SettingsError> {
    let settings: Settings<Config> = settings::load(named, Path::new(DEFAULT_CONFIG))?;
    settings.value.check(&settings.source)?;
    Ok(settings)
}
