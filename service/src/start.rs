//! How a program starts, and what its exit status says about how it went.

use std::fmt::Display;
use std::io::{StdoutLock, stdout};
use std::process::ExitCode;

use crate::log;
use crate::settings::{Settings, SettingsError};

/// Exit status of a program whose command line or configuration makes no sense.
const BAD_INPUT: u8 = 2;

/// Says what a configuration means.
pub type Explain<C> = fn(&Settings<C>, &mut StdoutLock<'static>) -> std::io::Result<()>;

/// Begins to log what `log` asks for, reads the configuration by `load`, and runs; or, with
/// `explain`, says what the configuration means instead. Whatever goes wrong is one sentence on
/// standard error.
pub fn start<C, E: Display>(
    log: Option<&str>,
    load: impl FnOnce() -> Result<Settings<C>, SettingsError>,
    explain: Option<Explain<C>>,
    run: impl FnOnce(Settings<C>) -> Result<(), E>,
) -> ExitCode {
    if let Err(error) = log::init(log) {
        return failed(&error, ExitCode::from(BAD_INPUT));
    }
    let settings = match load() {
        Ok(settings) => settings,
        Err(error) => return failed(&error, ExitCode::from(BAD_INPUT)),
    };
    if let Some(explain) = explain {
        // Who reads it may have had enough: that is no failure.
        let _ = explain(&settings, &mut stdout().lock());
        return ExitCode::SUCCESS;
    }
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, ExitCode::FAILURE),
    }
}

/// In the alternate form, in which `anyhow` says what an error came of.
fn failed(error: &dyn Display, code: ExitCode) -> ExitCode {
    eprintln!("error: {error:#}");
    code
}
