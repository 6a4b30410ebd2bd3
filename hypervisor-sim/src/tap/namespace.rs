//! A network namespace that this run has made, and removes.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::record::{Record, namespace_path};
use super::{TapError, ip};

/// It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    /// Gone only when the namespace is.
    record: Option<Record>,
}

impl Namespace {
    /// Makes one. One of that name that a killed run has left behind goes first; any other is
    /// somebody else's.
    pub(super) fn make(name: &str) -> Result<Namespace, TapError> {
        let mut record = Record::take(name)?;
        if namespace_path(name).exists() {
            if !record.is_of(name) {
                record.remove();
                return Err(TapError::NameTaken(name.to_owned()));
            }
            ip::run(&["netns", "del", name])?;
        }
        if let Err(error) = ip::run(&["netns", "add", name]) {
            record.remove();
            return Err(error);
        }
        let written = record.write(name);
        let namespace = Namespace { name: name.to_owned(), record: Some(record) };
        // On an error it is removed as it is dropped.
        written.map_err(TapError::system(format!("the record of {name}")))?;
        Ok(namespace)
    }

    /// Removes one of that name if a killed run has left it behind. Whether there was one.
    pub(super) fn reclaim(name: &str) -> Result<bool, TapError> {
        let mut record = Record::take(name)?;
        let ours = record.is_of(name);
        if ours {
            ip::run(&["netns", "del", name])?;
        }
        record.remove();
        Ok(ours)
    }

    /// A handle by which a thread can enter it.
    pub(super) fn open(&self) -> Result<OwnedFd, TapError> {
        let path = namespace_path(&self.name);
        let failed = TapError::system(path.display().to_string());
        File::open(&path).map(OwnedFd::from).map_err(failed)
    }

    /// Removes it. A process that somebody has started in it keeps it, without a name and without
    /// its interface, until it ends.
    pub(super) fn remove(mut self) -> Result<(), TapError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), TapError> {
        let Some(mut record) = self.record.take() else { return Ok(()) };
        // Somebody may have removed it, and even have made another.
        if record.is_of(&self.name) {
            ip::run(&["netns", "del", &self.name])?;
        }
        record.remove();
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the network namespace {} stays", self.name);
        }
    }
}
