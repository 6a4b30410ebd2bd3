//! A file that says how things are, for whoever wants to look: one JSON object, written as a
//! whole, and only when something has changed.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// How often a program writes the file, and how long its loop sleeps at most.
pub const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often it logs the same, at level debug.
pub const LOG_EVERY: Duration = Duration::from_secs(60);

/// The file.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    written: Option<String>,
    /// It could not be written, and that has been said.
    complained: bool,
}

impl StatusFile {
    /// The file at `path`. Its directory is made when it is missing.
    pub fn new(path: PathBuf) -> StatusFile {
        StatusFile { path, written: None, complained: false }
    }

    /// Writes `status`, if it is not what was written last.
    pub fn write(&mut self, status: &impl Serialize) {
        let text = match serde_json::to_string(status) {
            Ok(text) => text,
            Err(error) => return self.complain(&error.to_string()),
        };
        if self.written.as_ref() == Some(&text) {
            return;
        }
        match self.replace(&text) {
            Ok(()) => {
                self.written = Some(text);
                self.complained = false;
            }
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Who reads the file must see the old text or the new one, and nothing in between.
    fn replace(&self, text: &str) -> std::io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        std::fs::write(&beside, format!("{text}\n"))?;
        std::fs::rename(&beside, &self.path)
    }

    fn complain(&mut self, error: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(path = %self.path.display(), error, "cannot write the status file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_when_something_changed() {
        let directory = std::env::temp_dir().join(format!("xenvelope-st-{}", std::process::id()));
        let path = directory.join("below/status.json");
        let mut file = StatusFile::new(path.clone());
        file.write(&1);
        assert_eq!(std::fs::read_to_string(&path).expect("it was written"), "1\n");
        std::fs::remove_file(&path).expect("it was written");
        file.write(&1);
        assert!(!path.exists());
        file.write(&2);
        assert_eq!(std::fs::read_to_string(&path).expect("it was written"), "2\n");
        std::fs::remove_dir_all(&directory).expect("it was made here");
    }
}
