//! What is sent: a file, and its SHA-256.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why a file cannot be sent.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// It cannot be read.
    #[error("cannot read the payload file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// There is nothing in it.
    #[error("the payload file {0} is empty, there is nothing to send")]
    Empty(PathBuf),
}

/// A file in memory, with its hash.
#[derive(Clone)]
pub struct Payload {
    bytes: Arc<Vec<u8>>,
    sha256: [u8; 32],
}

impl Payload {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Payload, PayloadError> {
        let bytes = std::fs::read(path)
            .map_err(|cause| PayloadError::Unreadable { path: path.to_owned(), cause })?;
        if bytes.is_empty() {
            return Err(PayloadError::Empty(path.to_owned()));
        }
        Ok(Payload::new(bytes))
    }

    /// Bytes to send: at least one.
    pub fn new(bytes: Vec<u8>) -> Payload {
        let sha256 = Sha256::digest(&bytes).into();
        Payload { bytes: Arc::new(bytes), sha256 }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their SHA-256.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}
