//! The file, and the thread that writes it.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use pcap_file::PcapError;
use thiserror::Error;

use super::blocks::Blocks;
use super::recorder::{Packet, QUEUE_PACKETS, Recorder, Shared};

/// How long the writer sleeps when the queue is empty. It is never woken: that would cost who
/// puts a packet into the queue a call into the system.
const NAP: Duration = Duration::from_millis(1);
/// Packets that are put into the order of their times before they are written.
const SORTED: usize = 4096;

/// Why there is no capture.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be made.
    #[error("cannot create the capture {}: {cause}", file.display())]
    Create {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file cannot be written, or no longer: what is in it up to there can be read.
    #[error("cannot write the capture {}: {cause}", file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: PcapError,
    },
    /// No thread to write it.
    #[error("no thread for the capture: {0}")]
    Thread(std::io::Error),
    /// The thread that wrote it has ended early.
    #[error("the capture's thread has ended; its message is above")]
    Ended,
}

/// What is in a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Interfaces.
    pub interfaces: usize,
    /// Frames in the file.
    pub captured: u64,
    /// Frames that are not, since the file could not be written as fast as they came.
    pub dropped: u64,
    /// Size of the file, in bytes.
    pub bytes: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { interfaces, captured, dropped, bytes } = self;
        write!(f, "captured {captured} frames at {interfaces} interfaces, {bytes} bytes")?;
        match dropped {
            0 => Ok(()),
            _ => write!(f, "; {dropped} frames left out: the file could not keep up"),
        }
    }
}

/// A capture that is being written. If it is dropped, what came so far is written.
#[derive(Debug)]
pub struct Capture {
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Summary, CaptureError>>>,
}

impl Capture {
    /// Begins a capture. A file of that name is overwritten. At most `snaplen` bytes of each
    /// frame are kept; `command` is the command line, and stands in the file.
    ///
    /// # Errors
    /// If the file cannot be made, or there is no thread for it.
    pub fn create(file: &Path, snaplen: u32, command: &str) -> Result<Capture, CaptureError> {
        let path = file.to_owned();
        let opened = File::create(file)
            .map_err(|cause| CaptureError::Create { file: path.clone(), cause })?;
        let (recorder, packets) = Recorder::new(snaplen as usize);
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&recorder.shared), Arc::clone(&stop));
        let command = command.to_owned();
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                record(opened, &shared, &packets, &stopped, snaplen, &command)
                    .map_err(|cause| CaptureError::Write { file: path, cause })
            })
            .map_err(CaptureError::Thread)?;
        Ok(Capture { recorder, stop, thread: Some(thread) })
    }

    /// What makes the capture's taps.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Writes what is in the queue and ends. What taps see from now on is lost.
    ///
    /// # Errors
    /// If the file could not be written.
    pub fn finish(mut self) -> Result<Summary, CaptureError> {
        self.end().unwrap_or(Err(CaptureError::Ended))
    }

    fn end(&mut self) -> Option<Result<Summary, CaptureError>> {
        self.stop.store(true, Ordering::Release);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Whoever wants to know whether it went well calls `finish`.
        let _ = self.end();
    }
}

/// The thread: writes until it is told to stop.
fn record(
    out: impl Write,
    shared: &Shared,
    packets: &Receiver<Packet>,
    stop: &AtomicBool,
    snaplen: u32,
    command: &str,
) -> Result<Summary, PcapError> {
    let mut blocks = Blocks::new(out, snaplen, command);
    let mut batch = Vec::with_capacity(SORTED);
    // A host that still runs must not keep the capture from ending.
    let mut rest = QUEUE_PACKETS;
    loop {
        // Before the queue is looked at: what was put in before the order to stop is written.
        let stopped = stop.load(Ordering::Acquire);
        batch.extend(packets.try_iter().take(SORTED));
        batch.sort_by_key(|packet: &Packet| packet.at);
        let count = batch.len();
        for packet in batch.drain(..) {
            shared.taken(&packet);
            if let Ok(writing) = &mut blocks
                && let Err(cause) = writing.packet(&packet, shared)
            {
                // The queue is emptied nevertheless.
                blocks = Err(cause);
            }
        }
        rest = if stopped { rest.saturating_sub(count) } else { rest };
        if stopped && (count == 0 || rest == 0) {
            return blocks?.finish(shared);
        }
        if count == 0 {
            if let Ok(writing) = &mut blocks
                && let Err(cause) = writing.flush()
            {
                blocks = Err(cause);
            }
            std::thread::sleep(NAP);
        }
    }
}
