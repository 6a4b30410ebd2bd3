//! What the program says to input that makes no sense: one sentence on stderr, exit status 2,
//! nothing on stdout, and never a panic.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing was started yet when the input is refused: much longer than that takes.
const PATIENCE: Duration = Duration::from_secs(15);

const ONE: &str = "mac=02:00:00:00:00:01";
const TWO: &str = "mac=02:00:00:00:00:02";

/// A short run, should the program take what it is given.
fn run(arguments: &[&str]) -> Result<Output, String> {
    let short = ["--json", "--route", "switch-envelope", "--frame", "1500"];
    let asks_route = arguments.contains(&"--route") || arguments.contains(&"--frame");
    let mut child = Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"))
        .args(arguments)
        .args(if asks_route { &short[..1] } else { &short[..] })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if Instant::now() > end {
            child.kill().map_err(|error| error.to_string())?;
            child.wait().map_err(|error| error.to_string())?;
            return Err(format!("still runs after {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // Both fit a pipe: a refusal is short, and a run prints one object.
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout).map_err(|error| error.to_string())?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut stderr).map_err(|error| error.to_string())?;
    }
    Ok(Output { status, stdout, stderr })
}

/// What is wrong with the answer; it must contain every one of `says`.
fn complaint(output: &Output, says: &[&str]) -> Option<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut lines = stderr.lines();
    let first = lines.next().unwrap_or_default();
    // What clap adds is no second complaint.
    let hint = |line: &str| {
        line.is_empty()
            || line.starts_with("Usage: ")
            // The second way to use it.
            || line.starts_with("       xenvelope-sim ")
            || line.starts_with("For more information, try ")
            || line.starts_with("  tip: ")
    };
    if output.status.code() != Some(2) {
        return Some(format!("ended with {}", output.status));
    }
    if !output.stdout.is_empty() {
        return Some(format!("printed {} bytes on stdout", output.stdout.len()));
    }
    if !first.starts_with("error: ") || first.len() < "error: ".len() + 10 {
        return Some("does not start with `error: ` and a sentence".to_owned());
    }
    if let Some(line) = lines.find(|line| !hint(line)) {
        return Some(format!("says more than one thing: {line:?}"));
    }
    if stderr.contains("panicked") {
        return Some("panicked".to_owned());
    }
    let missing = says.iter().find(|word| !first.contains(**word))?;
    Some(format!("does not say {missing:?}"))
}

const ROUTES: [&str; 7] = [
    "bridge-copy",
    "switch-envelope",
    "direct-envelope",
    "nic-frame",
    "nic-envelope",
    "stock",
    "external",
];

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let empty = Path::new(directory).join("empty");
    std::fs::write(&empty, []).expect("cargo's directory for tests can be written");
    let empty = empty.to_str().expect("cargo's directory is UTF-8");
    let both = |spec: &'static str| format!("{spec},vf");
    let (one_vf, two_vf) = (both(ONE), both(TWO));

    let cases: &[(&[&str], &[&str])] = &[
        // Flags.
        (&["--nope"], &["--nope"]),
        (&["nope"], &["nope"]),
        (&["--route", "nope"], &ROUTES),
        (&["--route", ""], &["--route"]),
        (&["--guests", "3", "--guest", ONE], &["--guests", "--guest <SPEC>"]),
        // The file.
        (&["--file", "/nonexistent"], &["/nonexistent", "No such file"]),
        (&["--file", empty], &[empty, "empty"]),
        (&["--file", directory], &[directory, "directory"]),
        (&["--file"], &["--file"]),
        // How many guests and VFs.
        (&["--guests", "0"], &["--guests", "1 to 200"]),
        (&["--guests", "201"], &["--guests", "1 to 200"]),
        (&["--guests", "70000"], &["--guests", "1 to 200"]),
        (&["--guests", "abc"], &["--guests", "abc", "1 to 200"]),
        (&["--guests", "-1"], &["--guests", "1 to 200"]),
        (&["--vfs", "61"], &["--vfs", "0 to 60"]),
        (&["--vfs", "-1"], &["--vfs", "0 to 60"]),
        (&["--guest", &one_vf, "--guest", &two_vf, "--vfs", "1"], &["guest b", "VF", "1"]),
        (&["--guest", &one_vf, "--vfs", "0"], &["guest a", "VF", "0"]),
        // Guests.
        (&["--guest", ONE, "--guest", ONE], &["02:00:00:00:00:01", "two"]),
        (&["--guest", ONE, "--guest", "mac=02:78:76:73:00:01"], &["02:78:76:73:00:01", "two"]),
        (&["--guest", "mac=01:00:00:00:00:01"], &["01:00:00:00:00:01", "group"]),
        (&["--guest", "mac=ff:ff:ff:ff:ff:ff"], &["ff:ff:ff:ff:ff:ff", "group"]),
        (&["--guest", "mac=00:00:00:00:00:00"], &["00:00:00:00:00:00"]),
        // The card's own.
        (&["--guest", "mac=02:78:76:00:01:00,vf"], &["02:78:76:00:01:00"]),
        (&["--guest", "mac=02:00:00:00:00"], &["--guest", "MAC address"]),
        (&["--guest", "mac=02:00:00:00:00:01:02"], &["--guest", "MAC address"]),
        (&["--guest", "mac=02:00:00:00:00:0g"], &["--guest", "MAC address"]),
        (&["--guest", "mac="], &["--guest", "MAC address"]),
        (&["--guest", "mac=02:00:00:00:00:01,speed=3"], &["speed=3", "mac=", "vf"]),
        (&["--guest", "mac=02:00:00:00:00:01,mac=02:00:00:00:00:02"], &["mac", "twice"]),
        (&["--guest", "mac=02:00:00:00:00:01,vf,vf"], &["vf", "twice"]),
        (&["--guest", "vf"], &["mac="]),
        (&["--guest", ""], &["--guest"]),
        // Numbers.
        (&["--bus-gbit", "0"], &["--bus-gbit", "0.01"]),
        (&["--bus-gbit", "-1"], &["--bus-gbit", "-1", "0.01"]),
        (&["--bus-gbit=-1"], &["--bus-gbit", "-1", "0.01"]),
        (&["--bus-gbit", "nan"], &["--bus-gbit", "0.01"]),
        (&["--bus-gbit", "inf"], &["--bus-gbit", "0.01"]),
        (&["--seconds", "0"], &["--seconds", "0.01"]),
        (&["--seconds", "-1"], &["--seconds", "-1", "0.01"]),
        (&["--seconds=-1"], &["--seconds", "-1", "0.01"]),
        (&["--seconds", "nan"], &["--seconds", "0.01"]),
        (&["--seconds", "inf"], &["--seconds", "0.01"]),
        (&["--seconds", "1e300"], &["--seconds", "0.01"]),
        (&["--seconds", "soon"], &["--seconds", "0.01"]),
        (&["--frame", "10"], &["--frame", "576", "65536"]),
        (&["--frame", "70000"], &["--frame", "576", "65536"]),
        (&["--frame", "-1"], &["--frame", "576", "65536"]),
        (&["--frame", "1500.5"], &["--frame", "576", "65536"]),
        // Routes that the host does not have.
        (&["--route", "nic-frame", "--guest", ONE, "--guest", TWO], &["nic-frame", "VF"]),
        (&["--route", "nic-envelope", "--guests", "4", "--vfs", "1"], &["nic-envelope", "VF"]),
        (&["--route", "switch-envelope", "--guests", "1"], &["switch-envelope", "two"]),
    ];
    let mut failures = Vec::new();
    for (arguments, says) in cases {
        let (problem, stderr) = match run(arguments) {
            Ok(output) => (
                complaint(&output, says),
                String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
            ),
            Err(problem) => (Some(problem), String::new()),
        };
        if let Some(problem) = problem {
            failures
                .push(format!("xenvelope-sim {}\n  {problem}\n  {stderr}", arguments.join(" ")));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} kinds of bad input:\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
}
