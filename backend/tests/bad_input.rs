//! What the driver domain's process says to input that makes no sense, and without Xen: one
//! sentence on stderr, the right exit status, nothing on stdout, and never a panic.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Runs the program; `config` is what the configuration says.
fn run(arguments: &[&str], config: Option<&str>) -> Output {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut command = Command::new(env!("CARGO_BIN_EXE_xenvelope-backend"));
    command.args(arguments).env_remove("XENVELOPE_LOG").env_remove("NOTIFY_SOCKET");
    if let Some(text) = config {
        let name = format!("backend-{}-{number}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).expect("cargo's directory for tests can be written");
        command.arg("--config").arg(path);
    }
    command.stdin(Stdio::null()).output().expect("the program can be started")
}

/// What is wrong with a refusal; it must contain every one of `says`.
fn complaint(output: &Output, status: i32, says: &[&str]) -> Option<String> {
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

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let guest = "[[guest]]\nmac = \"00:16:3e:00:00:01\"\n";
    let twice = format!("{guest}{guest}");
    let cases: &[(&[&str], Option<&str>, &[&str])] = &[
        (&["--nope"], None, &["--nope"]),
        (&["nope"], None, &["nope"]),
        (&["--config"], None, &["--config"]),
        (&["--check", "--config", "/nonexistent"], None, &["/nonexistent", "No such file"]),
        (&["--check", "--config", "/"], None, &["/", "directory"]),
        (&["--check", "--log", "loud"], None, &["--log", "loud", "debug"]),
        (&["--check"], Some("quues = 4"), &[".toml:1: ", "quues", "queues"]),
        (&["--check"], Some("\n\nqueues = 99"), &[".toml:3: ", "1 to 8"]),
        (&["--check"], Some("queues = "), &[".toml:1: "]),
        (&["--check"], Some("[[guest]]\nmac = \"nope\""), &[".toml:2: ", "MAC address"]),
        (&["--check"], Some(&twice), &[".toml:4: ", "already"]),
        (&["--check"], Some("[uplink]\ntap = \"x\"\ninterface = \"y\""), &[".toml:3: "]),
        // Without --check too, before anything is touched.
        (&[], Some("quues = 4"), &[".toml:1: ", "quues"]),
    ];
    let mut failures = Vec::new();
    for (arguments, config, says) in cases {
        let output = run(arguments, *config);
        if let Some(problem) = complaint(&output, 2, says) {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            failures.push(format!("{arguments:?} {config:?}\n  {problem}\n  {stderr}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn check_says_what_the_configuration_means() {
    let example = include_str!("../etc/backend.toml");
    let output = run(&["--check"], Some(example));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("is right") && text.contains("Uplink: none"), "{text}");
    let output = run(
        &["--check"],
        Some("[uplink]\ntap = \"up\"\n[[guest]]\nmac = \"00:16:3e:00:00:01\"\nvlan = 7"),
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("TAP up") && text.contains("00:16:3e:00:00:01"), "{text}");
    assert!(text.contains("VLAN 7"), "{text}");
}

#[test]
fn help_names_the_signals() {
    let output = run(&["--help"], None);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for word in ["--config", "--check", "--log", "--status", "SIGHUP", "SIGUSR1"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn without_xen_it_says_which_module_is_missing() {
    if ["evtchn", "gntdev", "gntalloc"]
        .iter()
        .all(|name| PathBuf::from("/dev/xen").join(name).exists())
    {
        return;
    }
    let output = run(&[], Some(""));
    assert_eq!(complaint(&output, 1, &["/dev/xen/", "load the module xen-"]), None);
}
