//! What the program's figures promise. Each is counted, none depends on how fast this machine
//! is. The runs wait for each other: a host has as many threads as it has guests.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Every route, and how many transfers it takes to measure it.
const ROUTES: [(&str, usize); 7] = [
    ("bridge-copy", 1),
    ("switch-envelope", 1),
    ("direct-envelope", 1),
    ("nic-frame", 1),
    ("nic-envelope", 1),
    ("stock", 2),
    ("external", 1),
];
const NUMBERS: [&str; 8] = [
    "gbit_per_s",
    "packets_per_s",
    "payload_copies_per_packet",
    "hypercalls_per_packet",
    "events_per_packet",
    "bus_bytes_per_payload_byte",
    "rtt_p50_us",
    "rtt_p99_us",
];

/// Runs the program; what it measures must have arrived as it was sent.
fn run(arguments: &[&str]) -> Output {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"))
        .args(arguments)
        .output()
        .expect("cargo built the program");
    assert!(
        output.status.success(),
        "xenvelope-sim {}: {}\n{}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A run's object, with what holds for every run checked.
fn measure(arguments: &[&str]) -> Value {
    let output = run(&[&["--json"], arguments].concat());
    let report: Value =
        serde_json::from_slice(&output.stdout).expect("--json prints one JSON object");
    for route in routes(&report) {
        check_fields(route);
        assert_eq!(route["sha256_ok"], true, "{route:#}");
    }
    assert!(!routes(&report).is_empty(), "{report:#}");
    let ledger = &report["ledger"];
    let drops = ledger["drops"].as_object().expect("the ledger has its drops");
    let dropped: u64 = drops.values().map(|count| count.as_u64().unwrap()).sum();
    let count = |name: &str| ledger[name].as_u64().unwrap_or_else(|| panic!("{name}: {ledger:#}"));
    assert!(count("sent") > 0, "{ledger:#}");
    assert_eq!(count("sent") + count("made"), count("delivered") + dropped, "{ledger:#}");
    report
}

fn routes(report: &Value) -> &[Value] {
    report["routes"].as_array().expect("there are routes")
}

fn number(object: &Value, name: &str) -> f64 {
    object[name].as_f64().unwrap_or_else(|| panic!("no {name} in {object:#}"))
}

fn check_fields(route: &Value) {
    for name in ["route", "from", "to"] {
        assert!(route[name].is_string(), "{name}: {route:#}");
    }
    for name in NUMBERS {
        let number = number(route, name);
        assert!(number.is_finite() && number >= 0.0, "{name}: {route:#}");
    }
    assert!(route["frame_bytes"].is_u64(), "{route:#}");
    assert!(route["sha256_ok"].is_boolean(), "{route:#}");
    assert!(number(route, "gbit_per_s") > 0.0 && number(route, "packets_per_s") > 0.0, "{route:#}");
    assert!(number(route, "rtt_p50_us") <= number(route, "rtt_p99_us"), "{route:#}");
    for (name, share) in route["copied_by"].as_object().expect("copied_by is an object") {
        assert!((0.0..=1.0).contains(&share.as_f64().unwrap()), "{name}: {route:#}");
    }
    for (name, count) in route["drops"].as_object().expect("drops is an object") {
        assert!(count.is_u64(), "{name}: {route:#}");
    }
    // Only where there are envelopes; the field is there always.
    let frames = route.get("frames_per_envelope").expect("frames_per_envelope is there");
    let through_envelopes = route["route"].as_str().unwrap().ends_with("-envelope");
    match frames.as_f64() {
        Some(frames) => assert!(frames >= 1.0, "{route:#}"),
        None => assert!(frames.is_null() && !through_envelopes, "{route:#}"),
    }
}

/// The transfers of a route at a frame size.
fn find<'r>(report: &'r Value, name: &str, frame: u64) -> Vec<&'r Value> {
    let fits = |route: &&Value| route["route"] == name && route["frame_bytes"] == frame;
    routes(report).iter().filter(fits).collect()
}

fn the<'r>(report: &'r Value, name: &str, frame: u64) -> &'r Value {
    match find(report, name, frame)[..] {
        [route] => route,
        _ => panic!("not one {name} at {frame} in {report:#}"),
    }
}

/// What envelopes through the card may put on the bus, at 1500 and 65536 bytes.
fn envelopes_spare_the_bus(report: &Value, short: f64, long: f64) {
    for (frame, limit) in [(1500, short), (65536, long)] {
        let route = the(report, "nic-envelope", frame);
        let bus = number(route, "bus_bytes_per_payload_byte");
        assert!(bus > 0.0 && bus <= limit, "not within {limit}: {route:#}");
    }
}

fn keeps_every_promise(report: &Value) {
    envelopes_spare_the_bus(report, 0.12, 0.02);
    for frame in [1500, 65536] {
        for (name, transfers) in ROUTES {
            let found = find(report, name, frame);
            assert_eq!(found.len(), transfers, "{name} at {frame}: {found:#?}");
        }
        for name in ["switch-envelope", "direct-envelope", "nic-envelope"] {
            let route = the(report, name, frame);
            let copies = number(route, "payload_copies_per_packet");
            assert!((copies - 1.0).abs() <= 0.005, "{route:#}");
            // The receiver copies, nobody else.
            let by = number(&route["copied_by"], route["to"].as_str().unwrap());
            assert!(by > 0.99, "{route:#}");
        }
        for name in ["nic-frame", "external"] {
            let route = the(report, name, frame);
            assert!(number(route, "payload_copies_per_packet") < 0.01, "{route:#}");
        }
        let bridge = the(report, "bridge-copy", frame);
        assert!(number(bridge, "payload_copies_per_packet") >= 1.0, "{bridge:#}");
        let frames = the(report, "nic-frame", frame);
        assert!(number(frames, "bus_bytes_per_payload_byte") >= 2.0, "{frames:#}");
    }
    let flip = &report["flip"];
    assert_eq!(flip["sha256_ok"], true, "{flip:#}");
    let phases = flip["phases"].as_array().expect("the flip has phases");
    let [frames, envelopes, channel] = &phases[..] else { panic!("not three phases: {flip:#}") };
    let bus = |phase: &Value| number(phase, "bus_bytes_per_payload_byte");
    assert!(bus(frames) >= 2.0, "{flip:#}");
    assert!(bus(envelopes) <= 0.05, "{flip:#}");
    assert!(bus(channel) <= 0.05, "{flip:#}");
    assert!(phases.iter().all(|phase| number(phase, "gbit_per_s") > 0.0), "{flip:#}");
}

#[test]
fn with_costs_every_promise_holds() {
    let report = measure(&["--seconds", "0.3"]);
    keeps_every_promise(&report);
    assert_eq!(report["ideal"], false);
    for cost in ["hypercall", "event", "iommu_miss", "nic_latency"] {
        assert!(number(&report["costs_ns"], cost) > 0.0, "{cost}");
    }
}

#[test]
fn without_costs_every_promise_holds() {
    let report = measure(&["--seconds", "0.3", "--ideal"]);
    keeps_every_promise(&report);
    assert_eq!(report["ideal"], true);
    for cost in ["hypercall", "event", "iommu_miss", "nic_latency"] {
        assert_eq!(report["costs_ns"][cost], 0, "{cost}");
    }
}

#[test]
fn tags_cost_little_of_the_bus() {
    let report = measure(&["--no-anti-spoof", "--route", "nic-envelope", "--seconds", "0.3"]);
    envelopes_spare_the_bus(&report, 0.16, 0.02);
}

/// No timed test: the simulated bus is the limit, and a slower machine stays below it too.
#[test]
fn a_slow_bus_holds_up_frames() {
    let frame = ["--bus-gbit", "2", "--frame", "65536", "--seconds", "0.3"];
    let report =
        measure(&[&frame[..], &["--route", "nic-frame", "--route", "nic-envelope"]].concat());
    assert_eq!(report["bus_gbit"], 2.0);
    let frames = the(&report, "nic-frame", 65536);
    assert!(number(frames, "gbit_per_s") <= 2.1, "{frames:#}");
    the(&report, "nic-envelope", 65536);
}

#[test]
fn few_guests_and_many() {
    // Two guests both have a VF, if there are two.
    let two = measure(&["--guests", "2", "--vfs", "2", "--seconds", "0.1"]);
    assert_eq!(two["guests"], 3, "a stock guest comes with them");
    for name in ["bridge-copy", "switch-envelope", "direct-envelope", "nic-frame", "external"] {
        the(&two, name, 1500);
    }
    let one_vf = measure(&["--guests", "2", "--vfs", "1", "--seconds", "0.1"]);
    assert!(find(&one_vf, "nic-frame", 1500).is_empty() && one_vf["flip"].is_null(), "{one_vf:#}");

    let both = ["--guest", "mac=02:00:00:00:00:01,vf", "--guest", "mac=02:00:00:00:00:02,vf"];
    let short = ["--vfs", "2", "--route", "nic-envelope", "--seconds", "0.1"];
    the(&measure(&[&both[..], &short].concat()), "nic-envelope", 65536);

    let many = ["--guests", "200", "--route", "switch-envelope", "--frame", "1500"];
    let many = measure(&[&many[..], &["--seconds", "0.1"]].concat());
    assert_eq!(many["guests"], 201);
    the(&many, "switch-envelope", 1500);
}

/// The only guest has no VF: what it sends outside goes through the driver domain.
#[test]
fn one_guest_without_a_vf_reaches_the_outside() {
    let one = measure(&["--guests", "1", "--vfs", "0", "--seconds", "0.1"]);
    assert_eq!(find(&one, "stock", 1500).len(), 2);
    the(&one, "external", 1500);
    the(&one, "external", 65536);
    assert!(find(&one, "switch-envelope", 1500).is_empty(), "{one:#}");
}

#[test]
fn people_get_a_table_and_its_costs() {
    let short = ["--route", "switch-envelope", "--frame", "1500", "--seconds", "0.1"];
    let print = |more: &[&str]| {
        String::from_utf8(run(&[&short[..], more].concat()).stdout).expect("the table is UTF-8")
    };
    let table = print(&[]);
    let headings = table.lines().find(|line| line.contains("Gbit/s")).expect("there are headings");
    for heading in
        ["route", "from → to", "frame", "kpkt/s", "copies", "by", "calls", "events", "fr/env"]
    {
        assert!(headings.contains(heading), "{heading}:\n{table}");
    }
    for heading in ["bus B/B", "rtt p50/p99 µs", "drops"] {
        assert!(headings.contains(heading), "{heading}:\n{table}");
    }
    let row = table.lines().find(|line| line.contains("switch-envelope")).expect("there is a row");
    assert!(row.contains("a → b") && row.contains("1500"), "{table}");
    let costs = |table: &str| {
        let line = table.lines().find(|line| line.starts_with("costs: "));
        line.unwrap_or_else(|| panic!("no costs:\n{table}")).to_owned()
    };
    let line = costs(&table);
    for part in ["hypercall", "event", "IOMMU miss", "Dall et al., ISCA 2016", "SIGCOMM 2018"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("--ideal"), "{line}");
    assert!(costs(&print(&["--ideal"])).contains("--ideal"));
}
