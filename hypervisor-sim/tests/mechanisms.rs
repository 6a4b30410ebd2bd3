//! What the program says of grant mechanisms, as a user asks for it.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// A host has as many threads as guests: the runs wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(arguments: &[&str]) -> Output {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(env!("CARGO_BIN_EXE_xenvelope-sim")).args(arguments).output().expect("it runs")
}

fn object(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Every pair of mechanism and route that does not exist, and a word of the reason.
const REFUSED: [(&str, &str, &str); 14] = [
    ("destination", "bridge-receiver-copy", "needs --mechanism transitive"),
    ("keyed", "bridge-receiver-copy", "needs --mechanism transitive"),
    ("transitive", "nic-envelope", "card's switch cannot make a transitive grant"),
    ("transitive", "nic-frame", "the same under every mechanism"),
    ("transitive", "direct-envelope", "no driver domain is on the way"),
    ("transitive", "switch-envelope", "ask for route bridge-receiver-copy"),
    ("transitive", "bridge-copy", "the same under every mechanism"),
    ("transitive", "stock", "the same under every mechanism"),
    ("transitive", "external", "the same under every mechanism"),
    ("keyed", "bridge-copy", "the same under every mechanism"),
    ("keyed", "nic-frame", "the same under every mechanism"),
    ("keyed", "stock", "the same under every mechanism"),
    ("keyed", "external", "the same under every mechanism"),
    ("rot13", "bridge-copy", "destination, transitive, keyed"),
];

#[test]
fn what_does_not_exist_is_refused_with_the_reason() {
    for (mechanism, route, reason) in REFUSED {
        let output = run(&["--mechanism", mechanism, "--route", route]);
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{mechanism} {route}: {says}");
        assert!(says.contains(reason), "{mechanism} {route}: {says}");
        assert!(output.stdout.is_empty(), "{mechanism} {route}");
        let sentences = says.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(sentences, 1, "{says}");
    }
}

/// A transfer over each route of each mechanism, with its SHA-256 and a copy by the receiver.
#[test]
fn a_file_arrives_by_every_route_of_every_mechanism() {
    let routes = [
        ("transitive", vec!["bridge-receiver-copy"]),
        ("keyed", vec!["switch-envelope", "direct-envelope", "nic-envelope"]),
    ];
    for (mechanism, expected) in routes {
        let report = object(&["--mechanism", mechanism, "--json", "--seconds", "0.2"]);
        assert_eq!(report["mechanism"], mechanism);
        let cells = report["routes"].as_array().expect("routes");
        for frame in [1500, 65536] {
            let names: Vec<&str> = cells
                .iter()
                .filter(|cell| cell["frame_bytes"] == frame)
                .filter_map(|cell| cell["route"].as_str())
                .collect();
            assert_eq!(names, expected, "{mechanism}");
        }
        for cell in cells {
            assert_eq!(cell["sha256_ok"], true, "{cell:#}");
            let to = cell["to"].as_str().expect("a receiver");
            let share = cell["copied_by"][to].as_f64().unwrap_or(0.0);
            // The driver domain looks at 128 bytes of what it passes on.
            assert!(share > 0.9, "the receiver copies: {cell:#}");
            let copies = cell["payload_copies_per_packet"].as_f64().expect("copies");
            assert!((0.99..1.12).contains(&copies), "{cell:#}");
            assert!(cell["grants_per_packet"].as_f64().expect("grants") > 0.0, "{cell:#}");
        }
    }
}

/// What must come of each attack: destination, transitive, keyed.
const ATTACKS: [(&str, [bool; 3]); 7] = [
    ("overheard", [false, false, true]),
    ("guessed", [false, false, false]),
    ("starved", [false, false, true]),
    ("used_twice", [true, true, false]),
    ("others_grant", [false, false, false]),
    ("driver_domain_reads", [false, true, true]),
    ("passed_to_wrong_guest", [false, true, true]),
];

#[test]
fn the_comparison_has_costs_attacks_the_card_and_changes_of_all_mechanisms() {
    let report = object(&["mechanisms", "--json", "--seconds", "0.1", "--frame", "1500"]);
    let mechanisms = report["mechanisms"].as_array().expect("mechanisms");
    let names: Vec<_> = mechanisms.iter().map(|of| of["mechanism"].as_str().unwrap()).collect();
    assert_eq!(names, ["destination", "transitive", "keyed"]);
    for (index, of) in mechanisms.iter().enumerate() {
        for (attack, succeeds) in ATTACKS {
            let outcome = &of["attacks"][attack]["succeeded"];
            assert_eq!(*outcome, succeeds[index], "{attack} under {}", names[index]);
        }
        assert_eq!(of["hardware_switch"]["envelope_arrived"], true);
        assert_eq!(of["hardware_switch"]["works"], names[index] != "transitive");
        let transfers = of["transfers"].as_array().expect("transfers");
        assert_eq!(transfers.len(), [3, 1, 3][index]);
        for transfer in transfers {
            assert_eq!(transfer["sha256_ok"], true, "{transfer:#}");
            for number in ["gbit_per_s", "ns_per_packet", "grants_per_packet", "revokes_per_packet"]
            {
                assert!(transfer[number].as_f64().is_some_and(|number| number > 0.0), "{number}");
            }
        }
        assert!(of["changes"]["receiver"].as_str().is_some_and(|text| !text.is_empty()));
    }
    // A packet that is passed on takes a grant of the sender's and one of the driver domain's.
    let grants = |index: usize| mechanisms[index]["transfers"][0]["grants_per_packet"].as_f64();
    assert!(grants(1) > grants(0).map(|grants| 1.5 * grants), "{report:#}");
}

#[test]
fn people_get_tables() {
    let output = run(&["mechanisms", "--seconds", "0.05", "--frame", "1500"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in ["destination", "transitive", "keyed", "bridge-receiver-copy", "SUCCEEDS", "fails"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    for part in ["hardware switch", "must be trusted", "changes: hypervisor", "SHA-256", "right"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("WRONG"), "{text}");
}
