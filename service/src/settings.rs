//! The configuration file: TOML, and an error names file, line and what is wrong there.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file says something that makes no sense.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, on one line.
        message: String,
    },
}

/// A configuration and where it is from.
#[derive(Debug)]
pub struct Settings<T> {
    /// What it says.
    pub value: T,
    /// Where it says so.
    pub source: Source,
}

/// The text of a configuration.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    there: bool,
}

impl Source {
    /// That nothing is wrong with it, in words.
    pub fn verdict(&self) -> String {
        let path = self.path.display();
        if self.there {
            format!("{path} is right.")
        } else {
            format!("There is no {path}: everything has its default.")
        }
    }

    /// An error about a place in the text, for what only shows when all of it is read.
    pub fn wrong(&self, place: Range<usize>, message: impl Display) -> SettingsError {
        let before = self.text.as_bytes().iter().take(place.start);
        SettingsError::Wrong {
            path: self.path.clone(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            message: message.to_string().trim_end().replace('\n', ": "),
        }
    }
}

/// Reads the file that was named, which must be there, or else `default`, which need not.
pub fn load<T: DeserializeOwned>(
    named: Option<&Path>,
    default: &Path,
) -> Result<Settings<T>, SettingsError> {
    let path = named.unwrap_or(default).to_path_buf();
    let (text, there) = match std::fs::read_to_string(&path) {
        Ok(text) => (text, true),
        Err(cause) if named.is_none() && cause.kind() == std::io::ErrorKind::NotFound => {
            (String::new(), false)
        }
        Err(cause) => return Err(SettingsError::Unreadable { path, cause }),
    };
    parse(Source { path, text, there })
}

/// What `text` says, which need not be in a file: errors name it `path`.
pub fn from_text<T: DeserializeOwned>(
    path: &Path,
    text: &str,
) -> Result<Settings<T>, SettingsError> {
    parse(Source { path: path.to_path_buf(), text: text.to_owned(), there: true })
}

fn parse<T: DeserializeOwned>(source: Source) -> Result<Settings<T>, SettingsError> {
    match toml::from_str(&source.text) {
        Ok(value) => Ok(Settings { value, source }),
        Err(error) => Err(source.wrong(error.span().unwrap_or(0..0), error.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Debug, PartialEq, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        queues: u8,
    }

    fn read(text: &str) -> Result<Example, String> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("xenvelope-settings-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("the directory for temporary files can be written");
        let result = load::<Example>(Some(&path), Path::new("/nonexistent"));
        std::fs::remove_file(&path).expect("the file was just written");
        result.map(|settings| settings.value).map_err(|error| error.to_string())
    }

    #[test]
    fn an_error_names_the_line() {
        assert_eq!(read("# one\nqueues = 3\n"), Ok(Example { queues: 3 }));
        let error = read("# one\n\nquues = 3\n").expect_err("no such key");
        assert!(error.contains(":3: ") && error.contains("quues"), "{error}");
        assert!(error.contains("queues") && !error.contains('\n'), "{error}");
        let error = read("queues = 300\n").expect_err("too large");
        assert!(error.contains(":1: "), "{error}");
        let error = read("queues = \n").expect_err("not TOML");
        assert!(error.contains(":1: ") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let gone = Path::new("/nonexistent/xenvelope.toml");
        let settings = load::<Example>(None, gone).expect("the defaults");
        assert_eq!(settings.value, Example::default());
        assert!(settings.source.verdict().starts_with("There is no /nonexistent"));
        let error = load::<Example>(Some(gone), gone).expect_err("it was named");
        assert!(error.to_string().contains("/nonexistent/xenvelope.toml"));
    }
}
