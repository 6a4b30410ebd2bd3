//! A program of ours seen from outside, for tests: what it says to what it is given.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Configurations that were given to programs.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The file that is run.
    pub path: &'static str,
    /// A directory that can be written, for configurations.
    pub directory: &'static str,
}

/// What a program is given, and what must be in its refusal: arguments, what the configuration
/// says if there is one, and words.
pub type Refused<'a> = (&'a [&'a str], Option<&'a str>, &'a [&'a str]);

/// What every program of ours refuses.
const BY_EVERY_PROGRAM: [Refused<'static>; 6] = [
    (&["--nope"], None, &["--nope"]),
    (&["nope"], None, &["nope"]),
    (&["--config"], None, &["--config"]),
    (&["--check", "--config", "/nonexistent"], None, &["/nonexistent", "No such file"]),
    (&["--check", "--config", "/"], None, &["/", "directory"]),
    (&["--check", "--log", "loud"], None, &["--log", "loud", "debug"]),
];

impl Program {
    /// Runs it; `config` is what the configuration says.
    pub fn run(&self, arguments: &[&str], config: Option<&str>) -> Output {
        let mut command = Command::new(self.path);
        command.args(arguments).env_remove(crate::log::VARIABLE).env_remove("NOTIFY_SOCKET");
        if let Some(text) = config {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("xenvelope-{}-{number}.toml", std::process::id());
            let path = Path::new(self.directory).join(name);
            std::fs::write(&path, text).expect("the directory for configurations can be written");
            command.arg("--config").arg(path);
        }
        command.stdin(Stdio::null()).output().expect("the program can be started")
    }

    /// Sees that it refuses in one sentence, as bad input, what every program of ours refuses, and
    /// all of `cases`.
    pub fn refuses(&self, cases: &[Refused<'_>]) {
        let mut failures = Vec::new();
        for (arguments, config, says) in BY_EVERY_PROGRAM.iter().chain(cases) {
            let output = self.run(arguments, *config);
            if let Some(problem) = complaint(&output, 2, says) {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                failures.push(format!("{arguments:?} {config:?}\n  {problem}\n  {stderr}"));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    /// Sees that its help has every one of `words`.
    pub fn help_names(&self, words: &[&str]) {
        let output = self.run(&["--help"], None);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success());
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

/// What is wrong with a refusal; it must contain every one of `says`.
pub fn complaint(output: &Output, status: i32, says: &[&str]) -> Option<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().next().unwrap_or_default();
    if output.status.code() != Some(status) {
        return Some(format!("ended with {}", output.status));
    }
    if !output.stdout.is_empty() {
        return Some("printed on stdout".to_owned());
    }
    if !first.starts_with("error: ") || stderr.contains("panicked") {
        return Some("does not start with `error: `".to_owned());
    }
    let missing = says.iter().find(|word| !first.contains(**word))?;
    Some(format!("does not say {missing:?}"))
}
