//! Commands in a guest, by its console.
//!
//! A guest's init reads lines `ID LIMIT COMMAND` and prints what the command prints between two
//! marks with the ID. xenconsoled writes all that the guest prints into a log, which is read here;
//! the terminal is only written to. Kernel messages may stand anywhere between.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::Verdict;
use crate::waiting::Pause;

/// A line that came while the guest's shell was not there yet is lost.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Options {
    /// The guest's console terminal (`console/tty` in the store).
    #[arg(long)]
    tty: PathBuf,
    /// xenconsoled's log of it.
    #[arg(long)]
    log: PathBuf,
    /// Seconds.
    #[arg(long, default_value_t = 30)]
    limit: u64,
    /// What to run there.
    command: String,
}

/// Reads what is appended to a file that may not exist yet.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    seen: Vec<u8>,
}

impl Tail {
    /// From where the file ends now, or from its beginning.
    fn new(path: &Path, from_end: bool) -> Result<Self> {
        let mut file = File::open(path).ok();
        if let Some(file) = &mut file
            && from_end
        {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { path: path.into(), file, seen: Vec::new() })
    }

    /// What has come since the last call.
    fn more(&mut self) -> Result<usize> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        match &mut self.file {
            Some(file) => Ok(file.read_to_end(&mut self.seen)?),
            None => Ok(0),
        }
    }

    fn find(&self, from: usize, text: &[u8]) -> Option<usize> {
        self.seen
            .get(from..)?
            .windows(text.len())
            .position(|window| window == text)
            .map(|at| from + at)
    }
}

/// Waits for `text`, printing what the file holds.
pub fn await_text(path: &Path, text: &str, limit: Duration) -> Result<Verdict> {
    let end = Instant::now() + limit;
    let mut tail = Tail::new(path, false)?;
    let mut pause = Pause::new();
    while Instant::now() < end {
        tail.more()?;
        if tail.find(0, text.as_bytes()).is_some() {
            return Ok(Verdict::Good);
        }
        pause.rest();
    }
    Ok(Verdict::Bad)
}

/// The guest's `printf %b` makes `command` of it again.
fn escape(command: &str) -> String {
    command.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
}

/// Runs it there; the exit status is the command's, 125 if the guest gave no answer.
pub fn run(options: &Options) -> Result<Verdict> {
    let limit = Duration::from_secs(options.limit);
    let id = format!(
        "@run-{:x}-{:x}",
        std::process::id(),
        SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()
    );
    let line = format!("{id} {} {}\n", options.limit, escape(&options.command));
    let begin = format!("{id} begin@");
    let end_mark = format!("{id} end ");
    let mut tail = Tail::new(&options.log, true)?;
    let mut tty = OpenOptions::new()
        .write(true)
        .open(&options.tty)
        .with_context(|| format!("no console {}", options.tty.display()))?;
    let deadline = Instant::now() + limit + Duration::from_secs(5);
    let mut sent: Option<Instant> = None;
    let (mut started, mut printed) = (None, 0);
    let mut pause = Pause::new();
    while Instant::now() < deadline {
        // Before it has begun: say it again, since a guest that boots throws it away. The shell
        // takes one line at a time, so an ID that was already run cannot come between.
        if started.is_none() && sent.is_none_or(|at| at.elapsed() > AGAIN) && is_up(&options.log) {
            tty.write_all(line.as_bytes())?;
            sent = Some(Instant::now());
        }
        let more = tail.more()?;
        if started.is_none() {
            started = tail.find(0, begin.as_bytes()).and_then(|at| {
                // Behind the end of the mark's own line.
                tail.find(at, b"\n").map(|end| end + 1)
            });
            printed = started.unwrap_or(0);
        }
        if started.is_some() {
            if let Some(at) = tail.find(printed, end_mark.as_bytes())
                && let Some(close) =
                    tail.find(at, b"@\r").or_else(|| tail.find(at + end_mark.len(), b"@"))
            {
                // Without the line end that comes before the mark.
                let last =
                    tail.seen[printed..at].strip_suffix(b"\n").unwrap_or(&tail.seen[printed..at]);
                show(last)?;
                let status = String::from_utf8_lossy(&tail.seen[at + end_mark.len()..close])
                    .trim()
                    .parse::<u8>();
                return Ok(Verdict::Status(status.context("garbage in place of a status")?));
            }
            // The last bytes may be the beginning of the mark, and the line end before it.
            let safe = tail.seen.len().saturating_sub(end_mark.len() + 2).max(printed);
            show(&tail.seen[printed..safe])?;
            printed = safe;
        }
        if more == 0 {
            pause.rest();
        } else {
            pause = Pause::new();
        }
    }
    bail!("the guest gave no answer within {} s to: {}", options.limit, options.command)
}

/// Whether the guest's init has come to its loop.
fn is_up(log: &Path) -> bool {
    std::fs::read(log).is_ok_and(|bytes| bytes.windows(8).any(|window| window == b"@lab up@"))
}

fn show(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    // The terminal's line ends.
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
    out.write_all(&text)?;
    out.flush()?;
    Ok(())
}
