//! One process at a time: a lock on a file, which ends with the process however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no lock.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// Another process has it.
    #[error(
        "already running{}: {} is locked; stop that one first",
        pid.map_or(String::new(), |pid| format!(" as process {pid}")),
        path.display()
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// Whose the lock is, if the file says.
        pid: Option<u32>,
    },
    /// The file cannot be written.
    #[error("cannot lock {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// The lock. It ends when this is dropped.
#[derive(Debug)]
pub struct Instance(#[allow(dead_code, reason = "held for its lock")] File);

impl Instance {
    /// Takes the lock, and writes our process id into the file. Its directory is made when it is
    /// missing.
    pub fn lock(path: &Path) -> Result<Instance, InstanceError> {
        let failed = |cause| InstanceError::File { path: path.to_path_buf(), cause };
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text).ok();
                let pid = read.and_then(|_| text.trim().parse().ok());
                return Err(InstanceError::Running { path: path.to_path_buf(), pid });
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Instance(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_runs() {
        let name = format!("xenvelope-lock-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let first = Instance::lock(&path).expect("nobody has the lock");
        let error = Instance::lock(&path).expect_err("the first has it");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        drop(Instance::lock(&path).expect("the first has gone"));
        std::fs::remove_file(&path).expect("the file was just written");
    }
}
