//! The agent in a Linux guest: makes one network interface of a vif that the toolstack gave to
//! the guest, a VF, and channels to other guests.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agent;
mod config;
mod device;
mod explain;
mod report;
mod run;
mod vf;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use xenvelope_service::settings;
use xenvelope_service::start::start;

/// Where the configuration is when nobody says.
const DEFAULT_CONFIG: &str = "/etc/xenvelope/guest.toml";

/// Makes one network interface of a Xen guest's vif, its VF, and channels to other guests.
#[derive(Parser, Debug)]
#[command(
    name = "xenvelope-guest",
    version,
    after_help = "Signals: SIGUSR1 writes the counters to the log and the status file; SIGTERM \
                  stops, and the interface stays for the next start."
)]
pub struct Arguments {
    /// The configuration [default: /etc/xenvelope/guest.toml, which need not be there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Says what the configuration means, and ends
    #[arg(long)]
    check: bool,

    /// What is logged: error, warn, info, debug, trace, or a list as info,xenvelope_guest=debug
    /// [default: the environment's XENVELOPE_LOG, else info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,

    /// Where counters are written once a second, as one JSON object
    #[arg(long, value_name = "FILE", default_value = "/run/xenvelope/guest.json")]
    status: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start(
        arguments.log.as_deref(),
        || settings::load(arguments.config.as_deref(), Path::new(DEFAULT_CONFIG)),
        arguments.check.then_some(explain::print),
        |settings| run::run(&arguments, &settings.value),
    )
}
