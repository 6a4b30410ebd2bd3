//! `--pcap`: what is asked for of a capture.

use std::path::PathBuf;

use clap::Args;

use crate::capture::{Capture, CaptureError};

/// A capture of the run.
#[derive(Args, Clone, Debug)]
pub struct CaptureArguments {
    /// Write what guests, channels, the card and the wire carry to this file (pcapng); frames
    /// that cannot be written as fast as they come are left out and counted
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,

    /// Bytes of each frame that are captured, 64 to 262144
    #[arg(long, value_name = "BYTES", default_value = "262144", requires = "pcap", value_parser = snaplen, allow_negative_numbers = true)]
    pub snaplen: u32,
}

fn snaplen(text: &str) -> Result<u32, String> {
    let asked = text.parse().ok().filter(|bytes| (64..=262_144).contains(bytes));
    asked.ok_or_else(|| "give a whole number of bytes from 64 to 262144".to_owned())
}

impl CaptureArguments {
    /// Begins the capture, if one is asked for.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn begin(&self) -> Result<Option<Capture>, CaptureError> {
        let Some(file) = &self.pcap else { return Ok(None) };
        let command: Vec<String> =
            std::env::args_os().map(|part| part.to_string_lossy().into_owned()).collect();
        Capture::create(file, self.snaplen, &command.join(" ")).map(Some)
    }
}
