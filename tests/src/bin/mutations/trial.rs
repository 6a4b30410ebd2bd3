//! Building and running tests in the copy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A test that takes longer hangs.
const HANGS: Duration = Duration::from_secs(60);
/// Address space of a test, in KiB: a mutation may make something grow without a bound.
const MEMORY_KIB: &str = "12582912";
/// The packages that mutations are in, and those that are built of them.
const OURS: [&str; 8] = [
    "xenvelope-backend",
    "xenvelope-frontend",
    "xenvelope-grant",
    "xenvelope-hypervisor-sim",
    "xenvelope-service",
    "xenvelope-switch",
    "xenvelope-tests",
    "xenvelope-xen",
];
/// How often a test is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A build of one integration test binary, or why there is none.
pub enum Build {
    /// The program.
    Done(PathBuf),
    /// What the compiler said first.
    Failed(String),
}

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was killed, or killed itself.
    Crashed,
    /// It was not done in time.
    Hung,
}

/// Where tests are built and run.
pub struct Trials {
    root: PathBuf,
    target: PathBuf,
}

impl Trials {
    /// In the workspace `root`. What it depends on is perhaps in the target directory already.
    pub fn new(root: &Path, target: &Path) -> Trials {
        Trials { root: root.to_owned(), target: target.to_owned() }
    }

    /// Builds an integration test binary of `xenvelope-tests`.
    ///
    /// # Errors
    /// Cargo cannot be run.
    pub fn build(&self, test: &str) -> Result<Build> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["test", "--package", "xenvelope-tests", "--no-run", "--test", test])
            .args(["--message-format", "json-render-diagnostics", "--color", "never"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            // Our own crates are built anew for each mutation, what they depend on once.
            .args(OURS.iter().flat_map(|name| {
                ["--config".to_owned(), format!("profile.dev.package.{name}.opt-level=0")]
            }))
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "1")
            // What a mutation leaves unused is no error.
            .env("RUSTFLAGS", "--cap-lints=warn")
            .stdin(Stdio::null())
            .output()
            .context("cargo cannot be run")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Ok(Build::Failed(first_error(&said)));
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let message: serde_json::Value = serde_json::from_str(line)?;
            if message["target"]["name"] == test
                && let Some(program) = message["executable"].as_str()
            {
                return Ok(Build::Done(program.into()));
            }
        }
        bail!("cargo has built no test binary named {test}");
    }

    /// The tests in a binary.
    ///
    /// # Errors
    /// It does not say.
    pub fn tests_in(&self, program: &Path) -> Result<BTreeSet<String>> {
        let output = Command::new(program).args(["--list", "--format", "terse"]).output()?;
        ensure!(output.status.success(), "{} does not list its tests", program.display());
        let listed = String::from_utf8_lossy(&output.stdout);
        Ok(listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }

    /// Runs one test.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn run(&self, program: &Path, test: &str) -> Result<Outcome> {
        let package = self.root.join("tests");
        let child = Command::new("sh")
            .args(["-c", "ulimit -v \"$0\" && exec \"$@\"", MEMORY_KIB])
            .arg(program)
            .args(["--exact", test])
            .current_dir(&package)
            .env("CARGO_MANIFEST_DIR", &package)
            // A case that a mutation made fail is no case to keep.
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        Ok(match wait(child)? {
            None => Outcome::Hung,
            Some(status) if status.success() => Outcome::Passed,
            // libtest's code for a test that failed.
            Some(status) if status.code() == Some(101) => Outcome::Failed,
            Some(_) => Outcome::Crashed,
        })
    }
}

/// How it ended, or nothing if it had to be ended.
fn wait(mut child: Child) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < HANGS {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The first error that the compiler told, with its place.
fn first_error(said: &str) -> String {
    let from = said.lines().skip_while(|line| !line.starts_with("error"));
    from.take(6).map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
