//! What is written of each namespace that a run makes: enough to know it again after the run was
//! killed, and never to take another's for it.
//!
//! A record is a file, locked as long as its run lives, that holds the namespace's inode number.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::TapError;

const DIRECTORY: &str = "/run/xenvelope-sim";

/// The record of one namespace, in our hands.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    file: File,
}

/// Where `ip` keeps a namespace.
pub(super) fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// The names of which there are records.
pub(super) fn names() -> Result<Vec<String>, TapError> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TapError::system(DIRECTORY)(error)),
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

impl Record {
    /// The record of that name, made if there is none. Nobody else has it then.
    pub(super) fn take(name: &str) -> Result<Record, TapError> {
        let path = Path::new(DIRECTORY).join(name);
        let failed = || TapError::system(path.display().to_string());
        std::fs::create_dir_all(DIRECTORY).map_err(failed())?;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed())?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(TapError::InUse(name.to_owned())),
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
            }
            // Who had it may have removed it before we had the lock.
            let inode =
                |metadata: std::io::Result<std::fs::Metadata>| metadata.map(|of| of.ino()).ok();
            if inode(file.metadata()) == inode(std::fs::metadata(&path)) {
                return Ok(Record { path, file });
            }
        }
    }

    /// Whether the namespace that has the name now is that of which this is the record.
    pub(super) fn is_of(&mut self, name: &str) -> bool {
        let mut text = String::new();
        let written = self.file.rewind().and_then(|()| self.file.read_to_string(&mut text));
        let there = std::fs::metadata(namespace_path(name)).map(|metadata| metadata.ino());
        written.is_ok() && there.is_ok_and(|inode| text.trim().parse() == Ok(inode))
    }

    /// Writes down which namespace has the name now.
    pub(super) fn write(&mut self, name: &str) -> std::io::Result<()> {
        let inode = std::fs::metadata(namespace_path(name))?.ino();
        self.file.rewind()?;
        self.file.set_len(0)?;
        writeln!(self.file, "{inode}")
    }

    /// Removes it: there is no such namespace any more.
    pub(super) fn remove(self) {
        // What stays says nothing that is wrong: the inode is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}
