//! The log: one line an event, on standard error.

use std::str::FromStr;

use thiserror::Error;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that says what is logged when the command line does not.
pub const VARIABLE: &str = "XENVELOPE_LOG";
/// What is logged when nobody says.
const DEFAULT: &str = "info";

/// What was asked for is no level and no list of levels.
#[derive(Debug, Error)]
#[error(
    "{from} says {text:?}: give error, warn, info, debug or trace, or a list such as \
     info,xenvelope_backend=debug"
)]
pub struct LogError {
    from: &'static str,
    text: String,
}

/// Begins to log. `asked` is what the command line says.
pub fn init(asked: Option<&str>) -> Result<(), LogError> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (from, text) = match (asked, &variable) {
        (Some(text), _) => ("--log", text),
        (None, Some(text)) => (VARIABLE, text.as_str()),
        (None, None) => ("", DEFAULT),
    };
    let targets = parse(from, text)?;
    // The journal has the time already.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let registry = tracing_subscriber::registry().with(targets);
    // A second call in one process changes nothing.
    let _ = if journal {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines).try_init()
    };
    Ok(())
}

fn parse(from: &'static str, text: &str) -> Result<Targets, LogError> {
    let wrong = || LogError { from, text: text.to_owned() };
    // Alone, a word that is no level would be taken for the name of a target.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let sensible = |part: &str| part.contains('=') || levels.contains(&part);
    if text.is_empty() || !text.split(',').all(|part| sensible(part.trim())) {
        return Err(wrong());
    }
    Targets::from_str(text).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["error", "debug", "info,xenvelope_backend=trace", "off"] {
            assert!(parse("--log", text).is_ok(), "{text}");
        }
        for text in ["", "loud", "info,", "info,loud", "x=loud"] {
            assert!(parse("--log", text).is_err(), "{text}");
        }
    }
}
