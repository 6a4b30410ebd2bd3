//! The program `ip` of iproute2: namespaces are made and named as it does, since it is what their
//! users enter them with.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use super::TapError;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    // A process group of its own: Ctrl-C is for us, and what we then run must not die of another.
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    command
}

fn check_output(what: &[&str], output: &Output) -> Result<(), TapError> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = said.trim().replace('\n', "; ");
    Err(TapError::Ip { command: format!("ip {}", what.join(" ")), message })
}

/// Whether the program is there.
pub(super) fn check() -> Result<(), TapError> {
    let there = command(&["-V"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    there.map(drop).map_err(TapError::NoIp)
}

/// Runs it.
pub(super) fn run(arguments: &[&str]) -> Result<(), TapError> {
    let output = command(arguments).output().map_err(TapError::NoIp)?;
    check_output(arguments, &output)
}

/// Runs commands, one a line, in a namespace.
pub(super) fn batch(namespace: &str, commands: &str) -> Result<(), TapError> {
    let arguments = ["-n", namespace, "-batch", "-"];
    let mut child = command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(TapError::NoIp)?;
    if let Some(mut input) = child.stdin.take() {
        // If it has ended already, its exit status says why.
        let _ = input.write_all(commands.as_bytes());
    }
    let output = child.wait_with_output().map_err(TapError::NoIp)?;
    check_output(&arguments, &output)
}
