//! What the driver domain's process says to input that makes no sense, and without Xen: one
//! sentence on stderr, the right exit status, nothing on stdout, and never a panic.

use std::path::Path;

use xenvelope_service::black_box::{Program, complaint};

const PROGRAM: Program = Program {
    path: env!("CARGO_BIN_EXE_xenvelope-backend"),
    directory: env!("CARGO_TARGET_TMPDIR"),
};

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let guest = "[[guest]]\nmac = \"00:16:3e:00:00:01\"\n";
    let twice = format!("{guest}{guest}");
    PROGRAM.refuses(&[
        (&["--check"], Some("quues = 4"), &[".toml:1: ", "quues", "queues"]),
        (&["--check"], Some("\n\nqueues = 99"), &[".toml:3: ", "1 to 8"]),
        (&["--check"], Some("queues = "), &[".toml:1: "]),
        (&["--check"], Some("[[guest]]\nmac = \"nope\""), &[".toml:2: ", "MAC address"]),
        (&["--check"], Some(&twice), &[".toml:4: ", "already"]),
        (&["--check"], Some("[uplink]\ntap = \"x\"\ninterface = \"y\""), &[".toml:3: "]),
        // Without --check too, before anything is touched.
        (&[], Some("quues = 4"), &[".toml:1: ", "quues"]),
    ]);
}

#[test]
fn check_says_what_the_configuration_means() {
    let example = include_str!("../etc/backend.toml");
    let output = PROGRAM.run(&["--check"], Some(example));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("is right") && text.contains("Uplink: none"), "{text}");
    let output = PROGRAM.run(
        &["--check"],
        Some("[uplink]\ntap = \"up\"\n[[guest]]\nmac = \"00:16:3e:00:00:01\"\nvlan = 7"),
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("TAP up") && text.contains("00:16:3e:00:00:01"), "{text}");
    assert!(text.contains("VLAN 7"), "{text}");
}

#[test]
fn help_names_the_signals() {
    PROGRAM.help_names(&["--config", "--check", "--log", "--status", "SIGHUP", "SIGUSR1"]);
}

#[test]
fn without_xen_it_says_which_module_is_missing() {
    if ["evtchn", "gntdev", "gntalloc"].iter().all(|name| Path::new("/dev/xen").join(name).exists())
    {
        return;
    }
    let output = PROGRAM.run(&[], Some(""));
    assert_eq!(complaint(&output, 1, &["/dev/xen/", "load the module xen-"]), None);
}
