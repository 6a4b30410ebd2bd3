//! One side of a peer: a C program that says when it is ready, is told the window, and tells what
//! it did.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::window::{Part, Window};

/// A running side. It is killed when this is dropped.
pub struct Side {
    name: &'static str,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Side {
    /// Starts it.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Side> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let output = child.stdout.take().context("no output")?;
        Ok(Side { name, child, output: BufReader::new(output) })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says `word`. What libraries print before is passed over.
    pub fn wait_for(&mut self, word: &str) -> Result<()> {
        while self.line()? != word {}
        Ok(())
    }

    /// Tells it when frames count.
    pub fn go(&mut self, window: Window) -> Result<()> {
        let input = self.child.stdin.as_mut().context("no input")?;
        Ok(writeln!(input, "{} {}", window.begin, window.end)?)
    }

    /// What it did.
    pub fn part(&mut self) -> Result<Part> {
        loop {
            let line = self.line()?;
            if line.starts_with('{') {
                return Ok(serde_json::from_str(&line)?);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let mut said = String::new();
            if let Some(mut error) = self.child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut error, &mut said);
            }
            let last = said.lines().last().unwrap_or("it said nothing").to_owned();
            bail!("the {} has ended: {last}", self.name);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets two sides that are ready run, and gives what the sender and the receiver did.
pub fn run(mut sender: Side, mut receiver: Side, length: Duration) -> Result<[Part; 2]> {
    let window = Window::soon(length);
    receiver.go(window)?;
    sender.go(window.for_sender())?;
    let received = receiver.part()?;
    Ok([sender.part()?, received])
}
