//! What the agent says to input that makes no sense, and without Xen: one sentence on stderr, the
//! right exit status, nothing on stdout, and never a panic.

use std::path::Path;

use xenvelope_service::black_box::{Program, complaint};

const PROGRAM: Program =
    Program { path: env!("CARGO_BIN_EXE_xenvelope-guest"), directory: env!("CARGO_TARGET_TMPDIR") };

#[test]
fn bad_input_is_refused_in_one_sentence() {
    PROGRAM.refuses(&[
        (&["--check"], Some("vff = \"auto\""), &[".toml:1: ", "vff", "interface"]),
        (&["--check"], Some("\n\nmtu = 9"), &[".toml:3: ", "68 to 65521"]),
        (&["--check"], Some("vif = "), &[".toml:1: "]),
        (&["--check"], Some("interface = \"much-too-long-a-name\""), &[".toml:1: ", "1 to 15"]),
        (&["--check"], Some("vf = \"a/b\""), &[".toml:1: ", "none"]),
        // Without --check too, before anything is touched.
        (&[], Some("vff = \"auto\""), &[".toml:1: ", "vff"]),
    ]);
}

#[test]
fn check_says_what_the_configuration_means() {
    let output = PROGRAM.run(&["--check"], Some(include_str!("../etc/guest.toml")));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("is right") && text.contains("xenv0"), "{text}");
    let output = PROGRAM.run(&["--check"], Some("vf = \"eth7\"\nenvelopes = false\nmtu = 9000"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("eth7") && text.contains("9000"), "{text}");
    assert!(text.contains("Envelopes: no"), "{text}");
}

#[test]
fn help_names_the_signals() {
    PROGRAM.help_names(&["--config", "--check", "--log", "--status", "SIGUSR1", "SIGTERM"]);
}

#[test]
fn without_xen_it_says_which_module_is_missing() {
    if Path::new("/dev/xen/gntalloc").exists() {
        return;
    }
    let output = PROGRAM.run(&[], Some(""));
    assert_eq!(complaint(&output, 1, &["gntalloc", "load the module xen-gntalloc"]), None);
}
