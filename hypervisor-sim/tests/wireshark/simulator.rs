//! A capture of a short run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use super::tshark::{Scratch, fields, tshark};

/// Runs the simulator for a moment on these routes, with a capture.
fn capture(arguments: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    let output = Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"))
        .args(["--json", "--seconds", "0.02", "--ideal", "--file"])
        // Small, so that a pass ends soon.
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .arg("--pcap")
        .arg(scratch.path())
        .args(arguments)
        .output()
        .expect("cargo built the program");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert!(stderr.contains("captured "), "{stderr}");
    scratch
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn a_run_is_read_without_a_complaint_and_every_interface_is_there() {
    let scratch = capture(&[
        "--guests",
        "3",
        "--vfs",
        "2",
        "--frame",
        "1500",
        "--route",
        "direct-envelope",
        "--route",
        "nic-envelope",
        "--route",
        "switch-envelope",
        "--route",
        "nic-frame",
        "--route",
        "external",
    ]);
    let names = ["frame.interface_name", "frame.packet_flags_direction", "xenvelope.kind"];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut envelopes: BTreeSet<String> = BTreeSet::new();
    for row in fields(scratch.path(), "frame", &names) {
        let inwards = row[1] == "1" || row[1] == "0x00000001";
        assert!(inwards || row[1] == "2" || row[1] == "0x00000002", "{row:?}");
        if !row[2].is_empty() {
            envelopes.insert(row[0].clone());
        }
        *seen.entry(row[0].clone()).or_default() += 1;
    }
    for name in ["a", "a/channel", "b", "b/channel", "c", "stock", "pf", "vf0", "vf1", "wire"] {
        assert!(seen.contains_key(name), "nothing at {name}: {seen:?}");
    }
    for name in ["a/channel", "b/channel", "vf0", "vf1"] {
        assert!(envelopes.contains(name), "no envelope at {name}: {envelopes:?}");
    }
    assert!(!envelopes.contains("a"), "a stack sees frames, not envelopes");

    // Not one of the simulator's envelopes is marked.
    assert!(fields(scratch.path(), "xenvelope.malformed", &["frame.number"]).is_empty());

    let comments: BTreeSet<String> =
        fields(scratch.path(), "frame.interface_name == \"a\"", &["frame.comment"])
            .into_iter()
            .map(|mut row| row.remove(0))
            .collect();
    for route in ["direct-envelope to b", "nic-envelope to b", "switch-envelope to b", "nic-frame"]
    {
        let found = comments.iter().any(|comment| comment.starts_with(route));
        assert!(found, "no {route}: {comments:?}");
    }
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn frames_of_64_kib_and_a_small_snaplen_are_read_without_a_complaint() {
    for snaplen in ["262144", "96"] {
        let scratch =
            capture(&["--frame", "65536", "--snaplen", snaplen, "--route", "direct-envelope"]);
        let lengths = fields(
            scratch.path(),
            "frame.interface_name == \"a\" && frame.len > 60000",
            &["frame.cap_len", "frame.len"],
        );
        assert!(!lengths.is_empty());
        for row in lengths {
            assert_eq!(row[0], if snaplen == "96" { "96" } else { &row[1] });
        }
    }
}

#[test]
#[ignore = "needs tshark: .ci/wireshark runs it"]
fn two_hundred_guests_are_read_without_a_complaint() {
    let scratch = capture(&["--guests", "200", "--frame", "1500", "--route", "direct-envelope"]);
    tshark(scratch.path(), &["-q", "-z", "io,phs"]);
    let rows = fields(scratch.path(), "arp || xenvelope", &["frame.interface_name"]);
    let names: BTreeSet<&String> = rows.iter().map(|row| &row[0]).collect();
    assert!(names.len() > 2, "{names:?}");
}
