//! `xenvelope-sim plot`, `sweep` and `mixed`, as a researcher runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// A host has as many threads as it has guests: the runs wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

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

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

fn object(arguments: &[&str]) -> Value {
    serde_json::from_slice(&run(arguments).stdout).expect("--json prints one JSON object")
}

/// The headings of each table that a text has.
fn headings(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with('┌'))
        .map(|pair| {
            pair[1].trim_matches('│').split('┆').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn number(object: &Value, name: &str) -> f64 {
    object[name].as_f64().unwrap_or_else(|| panic!("no {name} in {object:#}"))
}

fn list<'v>(object: &'v Value, name: &str) -> &'v [Value] {
    object[name].as_array().unwrap_or_else(|| panic!("no {name} in {object:#}"))
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// A small file: the program itself is large where it was built with all symbols.
fn payload() -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("payload");
    let bytes: Vec<u8> =
        (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&path, bytes).expect("cargo's directory for tests can be written");
    path.to_str().expect("cargo's directory is UTF-8").to_owned()
}

const FIGURES: [&str; 7] = [
    "goodput-frame-size",
    "bus-frame-size",
    "goodput-bus",
    "guests-cost",
    "route-change",
    "cpu-by-domain",
    "mechanisms",
];

#[test]
fn plot_draws_every_figure_with_all_its_points_and_nothing_from_elsewhere() {
    let out = folder("plot");
    run(&["plot", "--quick", "--out", out.to_str().expect("UTF-8")]);
    let read = |name: &str| {
        std::fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let data: Value = serde_json::from_str(&read("data.json")).expect("data.json is JSON");
    let figures = list(&data, "figures");
    let ids: Vec<&str> = figures.iter().map(|figure| figure["id"].as_str().unwrap()).collect();
    assert_eq!(ids, FIGURES);
    let page = read("index.html");
    for figure in figures {
        let id = figure["id"].as_str().unwrap();
        let mut points = 0;
        for panel in list(figure, "panels") {
            assert!(!list(panel, "series").is_empty(), "{id}: {panel:#}");
            for series in list(panel, "series") {
                let of = list(series, "points");
                assert!(!of.is_empty(), "{id}: {series:#}");
                points += of.len();
                for point in of {
                    let [least, median, most] =
                        ["least", "median", "most"].map(|name| number(point, name));
                    assert!(least <= median && median <= most && least >= 0.0, "{id}: {point:#}");
                }
            }
        }
        let csv = read(&format!("{id}.csv"));
        assert_eq!(csv.lines().next(), Some("quantity,series,x,median,least,most,rounds"), "{id}");
        assert_eq!(csv.lines().count(), points + 1, "{id}");
        let svg = read(&format!("{id}.svg"));
        well_formed(id, &svg, figure);
        assert!(page.contains(&svg), "{id} is not in the page");
        assert!(page.contains(&format!("id=\"{id}\"")), "{id} has no section in the page");
    }
    for foreign in ["<script", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
    for wanted in ["prefers-color-scheme:dark", "xenvelope-sim plot --out", "<table>", "--quick"] {
        assert!(page.contains(wanted), "the page has no {wanted}");
    }
    timings_are_of_three_rounds(&figures[0]);
    the_counts_are_what_the_paper_says(figures);
}

/// The document is XML, its words lie on it, and every series of lines has a marker for each of its
/// points.
fn well_formed(id: &str, svg: &str, figure: &Value) {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{id}: {error}"));
    let root = document.root_element();
    assert_eq!(root.tag_name().namespace(), Some("http://www.w3.org/2000/svg"), "{id}");
    let size = |name: &str| root.attribute(name).unwrap().parse::<f64>().unwrap();
    let (width, height) = (size("width"), size("height"));
    let of = |name: &'static str| root.descendants().filter(move |node| node.has_tag_name(name));
    for text in of("text") {
        let at = |name: &str| text.attribute(name).and_then(|at| at.parse::<f64>().ok());
        if let (Some(x), Some(y)) = (at("x"), at("y")) {
            assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "{id}: {text:?}");
        }
        assert!(!text.text().unwrap_or_default().contains("NaN"), "{id}: {text:?}");
    }
    for node in root.descendants() {
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!value.contains("NaN") && !value.contains("inf"), "{id}: {attribute:?}");
        }
    }
    let words: Vec<&str> = of("text").filter_map(|text| text.text()).map(str::trim).collect();
    for panel in list(figure, "panels") {
        assert!(words.contains(&panel["x"]["label"].as_str().unwrap()), "{id}: {words:?}");
        for series in list(panel, "series") {
            assert!(words.contains(&series["name"].as_str().unwrap()), "{id}: {words:?}");
        }
    }
    let paths = of("path").count();
    let points: usize = list(figure, "panels")
        .iter()
        .filter(|panel| panel["kind"] == "lines")
        .flat_map(|panel| list(panel, "series"))
        .map(|series| list(series, "points").len())
        .sum();
    assert!(paths >= points, "{id}: {paths} paths for {points} points");
}

fn timings_are_of_three_rounds(goodput: &Value) {
    let series = list(&goodput["panels"][0], "series");
    assert_eq!(series.len(), 7, "{goodput:#}");
    for point in series.iter().flat_map(|series| list(series, "points")) {
        assert_eq!(point["rounds"], 3, "{point:#}");
        assert!(number(point, "least") > 0.0, "{point:#}");
    }
}

/// What is counted, and so is the same on every machine.
fn the_counts_are_what_the_paper_says(figures: &[Value]) {
    let panel = |id: &str, panel: usize| {
        let figure = figures.iter().find(|figure| figure["id"] == id).unwrap();
        &figure["panels"][panel]
    };
    let points = |panel: &Value, name: &str| -> BTreeMap<u64, f64> {
        let series = list(panel, "series").iter().find(|series| series["name"] == name);
        let series = series.unwrap_or_else(|| panic!("no {name} in {panel:#}"));
        let of = list(series, "points").iter();
        of.map(|point| (number(point, "x") as u64, number(point, "median"))).collect()
    };
    let bus = panel("bus-frame-size", 0);
    let (frames, envelopes) = (points(bus, "nic-frame"), points(bus, "nic-envelope"));
    assert!(frames.values().all(|bytes| *bytes >= 2.0), "{frames:?}");
    assert!(envelopes[&65536] <= 0.02 && envelopes[&1500] <= 0.12, "{envelopes:?}");
    let channels = panel("guests-cost", 4);
    let [mesh, hybrid, switch] =
        ["mesh", "hybrid", "switch"].map(|topology| points(channels, topology));
    for guests in [2, 4, 8] {
        let n = guests as f64;
        assert_eq!(mesh[&guests], n + n * (n - 1.0) / 2.0);
        assert_eq!(hybrid[&guests], n + n / 2.0);
        assert_eq!(switch[&guests], n);
    }
    let pages = panel("guests-cost", 5);
    assert!(points(pages, "mesh")[&8] > points(pages, "switch")[&8]);
}

#[test]
fn a_sweep_uses_the_channels_that_its_topology_has_and_loses_nothing() {
    let common = ["sweep", "--guests", "2,6", "--seconds", "0.1", "--rounds", "2"];
    let report = object(&[&common[..], &["--json"]].concat());
    let rows = list(&report, "rows");
    assert_eq!(rows.len(), 6);
    for row in rows {
        let guests = number(row, "guests");
        let share = number(row, "direct_share");
        assert_eq!(number(row, "wrong"), 0.0, "{row:#}");
        assert_eq!(number(row, "drops"), 0.0, "{row:#}");
        assert_eq!(list(row, "rounds").len(), 2, "{row:#}");
        for round in list(row, "rounds") {
            assert!(number(round, "packets") > 0.0, "{row:#}");
            assert!(number(round, "guests_ns_per_packet") > 0.0, "{row:#}");
        }
        let (channels, direct) = match row["topology"].as_str() {
            Some("mesh") => (guests + guests * (guests - 1.0) / 2.0, 1.0),
            // Of six guests each sends 32 frames to its partner, and one to each of four others.
            Some("hybrid") => (guests * 1.5, if guests == 2.0 { 1.0 } else { 32.0 / 36.0 }),
            _ => (guests, 0.0),
        };
        assert_eq!(number(row, "channels"), channels, "{row:#}");
        // Turns are cut where a round ends.
        assert!((share - direct).abs() < 0.03, "{share} for {direct}: {row:#}");
    }
    let printed = text(&run(&common));
    let expected = [
        "guests",
        "topology",
        "channels",
        "pages",
        "kpkt/s",
        "CPU ns",
        "(least-most)",
        "of it dd",
        "events",
        "calls",
        "polled",
        "drops",
    ];
    assert_eq!(headings(&printed), [expected.map(str::to_owned).to_vec()]);
    for cost in ["processor time", "events/packet", "hypercalls", "ports polled", "shared pages"] {
        assert_eq!(printed.lines().filter(|line| line.starts_with(cost)).count(), 2, "{printed}");
    }
}

#[test]
fn pairs_take_their_own_routes_at_the_same_time() {
    let file = payload();
    let common = ["mixed", "--seconds", "0.3", "--file", &file];
    let report = object(&[&common[..], &["--json"]].concat());
    let pairs = list(&report, "pairs");
    assert_eq!(pairs.len(), 9);
    for pair in pairs {
        assert_eq!(pair["sha256_ok"], true, "{pair:#}");
        assert!(number(pair, "gbit_per_s") > 0.0, "{pair:#}");
    }
    let ledger = &report["ledger"];
    let dropped: f64 =
        ledger["drops"].as_object().unwrap().values().map(|count| count.as_f64().unwrap()).sum();
    assert_eq!(
        number(ledger, "sent") + number(ledger, "made"),
        number(ledger, "delivered") + dropped,
        "{ledger:#}"
    );
    let sent = |name: &str| {
        let domains = list(&report, "domains");
        &domains.iter().find(|domain| domain["domain"] == name).unwrap()["frames_sent"]
    };
    // One guest, three ways at once.
    for way in ["vf_envelopes", "switch_envelopes", "direct_envelopes"] {
        assert!(number(sent("a"), way) > 0.0, "{:#}", sent("a"));
    }
    // And those that have one way use no other. (Address resolution takes the default route.)
    assert!(number(sent("c"), "vf") > 100.0, "{:#}", sent("c"));
    assert_eq!(number(sent("c"), "direct_envelopes"), 0.0, "{:#}", sent("c"));
    assert!(number(sent("e"), "direct_envelopes") > 100.0, "{:#}", sent("e"));
    assert_eq!(number(sent("e"), "switch_envelopes"), 0.0, "{:#}", sent("e"));
    assert!(number(sent("i"), "netif") > 100.0, "{:#}", sent("i"));

    let printed = text(&run(&common));
    let expected: [&[&str]; 2] = [
        &["route", "from → to", "Gbit/s", "MB", "passes", "SHA-256"],
        &[
            "domain",
            "CPU s",
            "copied MB",
            "calls",
            "events",
            "polled",
            "vf",
            "vf env",
            "dd env",
            "direct",
            "netif",
        ],
    ];
    assert_eq!(headings(&printed), expected);
    assert!(printed.contains("│ all "), "{printed}");
}

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["sweep", "--guests", "3"], &["--guests", "pairs"]),
        (&["sweep", "--guests", "0"], &["--guests", "2 to 200"]),
        (&["sweep", "--guests", "2,x"], &["--guests", "x"]),
        (&["sweep", "--guests", "202"], &["2 to 200"]),
        (&["sweep", "--busy", "0"], &["--busy", "1 to 200"]),
        (&["sweep", "--light", "17"], &["--light", "0 to 16"]),
        (&["sweep", "--frame", "1501"], &["--frame", "46 to 1500"]),
        (&["sweep", "--rounds", "0"], &["--rounds", "1 to 100"]),
        (&["mixed", "--pair", "a:b"], &["a:b", "FROM:TO:ROUTE"]),
        (&["mixed", "--pair", "a:b:nope"], &["nope", "nic-envelope"]),
        (&["mixed", "--pair", "a:a:nic-frame"], &["a", "itself"]),
        (&["mixed", "--pair", "A:b:nic-frame"], &["A", "name"]),
        (&["mixed", "--pair", "a:b:stock"], &["stock"]),
        (&["mixed", "--pair", "a:stock:nic-frame"], &["stock"]),
        (&["mixed", "--pair", "a:b:external"], &["external"]),
        (&["mixed", "--pair", "external:b:external"], &["external"]),
        (&["mixed", "--pair", "a:b:nic-frame", "--pair", "b:a:switch-envelope"], &["two routes"]),
        (&["mixed", "--seconds", "0"], &["--seconds"]),
        (&["mixed", "--file", "/nonexistent"], &["/nonexistent"]),
        (&["plot"], &["--out"]),
        (&["plot", "--out", "/proc/nowhere"], &["/proc/nowhere"]),
        (&["plot", "--out", "/dev/null/x"], &["/dev/null/x"]),
        (&["plot", "--out", "x", "--rounds", "0"], &["--rounds", "1 to 100"]),
        (&["--guests", "3", "sweep"], &["sweep"]),
    ];
    for (arguments, says) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"))
            .args(*arguments)
            .output()
            .expect("cargo built the program");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let first: String = stderr.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(first.starts_with("error: "), "{arguments:?}: {stderr}");
        for word in *says {
            assert!(first.contains(word), "{arguments:?} does not say {word:?}: {stderr}");
        }
    }
}
