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
use xenvelope_service::{BAD_INPUT, log, settings};

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
    if let Err(error) = log::init(arguments.log.as_deref()) {
        return bad_input(&error);
    }
    let settings = match read_config(arguments.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => return bad_input(&error),
    };
    if arguments.check {
        // Who reads it may have had enough: that is no failure.
        let _ = explain::print(&settings, &mut std::io::stdout().lock());
        return ExitCode::SUCCESS;
    }
    match run::run(&arguments, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, with everything checked that can be checked without a host.
fn read_config(
    named: Option<&Path>,
) -> Result<settings::Settings<Config>, settings::SettingsError> {
    let settings: settings::Settings<Config> = settings::load(named, Path::new(DEFAULT_CONFIG))?;
    settings.value.check(&settings.source)?;
    Ok(settings)
}

fn bad_input(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(BAD_INPUT)
}
