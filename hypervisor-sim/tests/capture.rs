//! What is in the file that `--pcap` writes, read back with another reader than the writer's own
//! half: every block, whatever tshark thinks of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::Block;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
use xenvelope_switch::envelope::{Envelope, MAX_ENVELOPE, is_envelope};

/// A file that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("xenvelope-capture-{}-{name}.pcapng", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn simulator(capture: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"))
        .args(["--json", "--seconds", "0.02", "--ideal", "--frame", "1500", "--file"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .arg("--pcap")
        .arg(capture)
        .args(arguments)
        .output()
        .expect("cargo built the program")
}

/// A captured frame.
struct Captured {
    interface: usize,
    at: Duration,
    outwards: bool,
    length: usize,
    data: Vec<u8>,
    comment: Option<String>,
}

/// A file, taken apart.
#[derive(Default)]
struct Contents {
    program: String,
    command: String,
    names: Vec<String>,
    descriptions: Vec<String>,
    frames: Vec<Captured>,
    /// Frames that came by, and those that were dropped, by interface.
    statistics: BTreeMap<usize, (u64, u64)>,
}

fn read(path: &Path) -> Contents {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut contents = Contents::default();
    for option in &reader.section().options {
        match option {
            SectionHeaderOption::UserApplication(text) => contents.program = text.to_string(),
            SectionHeaderOption::Comment(text) => contents.command = text.to_string(),
            _ => {}
        }
    }
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                let resolution = InterfaceDescriptionOption::IfTsResol(9);
                assert!(interface.options.contains(&resolution), "{interface:?}");
                for option in &interface.options {
                    match option {
                        InterfaceDescriptionOption::IfName(name) => {
                            contents.names.push(name.to_string());
                        }
                        InterfaceDescriptionOption::IfDescription(text) => {
                            contents.descriptions.push(text.to_string());
                        }
                        _ => {}
                    }
                }
            }
            Block::EnhancedPacket(packet) => {
                let mut captured = Captured {
                    interface: packet.interface_id as usize,
                    at: packet.timestamp,
                    outwards: false,
                    length: packet.original_len as usize,
                    data: packet.data.to_vec(),
                    comment: None,
                };
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => {
                            assert!(matches!(flags, 1 | 2));
                            captured.outwards = *flags == 2;
                        }
                        EnhancedPacketOption::Comment(text) => {
                            captured.comment = Some(text.to_string());
                        }
                        other => panic!("{other:?}"),
                    }
                }
                contents.frames.push(captured);
            }
            Block::InterfaceStatistics(statistics) => {
                let (mut seen, mut dropped) = (0, 0);
                for option in &statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(count) => seen = *count,
                        InterfaceStatisticsOption::IsbIfDrop(count) => dropped = *count,
                        _ => {}
                    }
                }
                contents.statistics.insert(statistics.interface_id as usize, (seen, dropped));
            }
            other => panic!("{other:?}"),
        }
    }
    contents
}

#[test]
fn a_run_is_in_the_file() {
    let scratch = Scratch::new("run");
    let routes = [
        "--guests",
        "3",
        "--vfs",
        "2",
        "--route",
        "direct-envelope",
        "--route",
        "nic-envelope",
        "--route",
        "nic-frame",
        "--route",
        "switch-envelope",
        "--route",
        "bridge-copy",
        "--route",
        "external",
    ];
    let output = simulator(&scratch.0, &routes);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let contents = read(&scratch.0);
    assert!(contents.program.starts_with("xenvelope-sim "), "{}", contents.program);
    assert!(contents.command.contains("--pcap"), "{}", contents.command);

    let number = |name: &str| {
        let found = contents.names.iter().position(|known| known == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", contents.names))
    };
    for name in ["pf", "vf0", "vf1", "wire", "a", "a/channel", "c", "c/channel", "stock"] {
        number(name);
    }
    let description = &contents.descriptions[number("a")];
    for part in ["domid ", "02:78:76:65:00:00", "10.0.0.1", "vf0"] {
        assert!(description.contains(part), "{description}");
    }

    // What came by is in the file or was counted, and the program says so.
    let captured = contents.frames.len() as u64;
    assert!(stderr.contains(&format!("captured {captured} frames")), "{stderr}");
    let mut by_interface = vec![0; contents.names.len()];
    for frame in &contents.frames {
        by_interface[frame.interface] += 1;
    }
    for (interface, count) in by_interface.iter().enumerate() {
        let (seen, dropped) = contents.statistics[&interface];
        assert_eq!(*count, seen - dropped, "{}", contents.names[interface]);
    }

    // Routes are what was asked for, and both sides tell the same of one.
    let comments = |name: &str, outwards: bool| -> BTreeSet<&str> {
        let interface = number(name);
        let there = contents.frames.iter().filter(|frame| frame.interface == interface);
        there
            .filter(|frame| frame.outwards == outwards)
            .map(|frame| frame.comment.as_deref().expect("a guest's frame has a route"))
            .collect()
    };
    let (sent, got) = (comments("a", true), comments("b", false));
    for route in ["direct-envelope", "nic-envelope", "switch-envelope"] {
        let to_b = format!("{route} to b, granted");
        let from_a = format!("{route} from a, granted");
        assert!(sent.contains(to_b.as_str()), "{to_b}: {sent:?}");
        assert!(got.contains(from_a.as_str()), "{from_a}: {got:?}");
    }
    for route in ["nic-frame", "netif"] {
        assert!(sent.contains(route) && got.contains(route), "{route}: {sent:?} {got:?}");
    }
    assert!(sent.contains("direct-envelope to b, inline"), "{sent:?}");

    for frame in &contents.frames {
        let name = &contents.names[frame.interface];
        assert_eq!(frame.length, frame.data.len(), "{name}");
        assert!(frame.at > Duration::from_secs(1_500_000_000), "{name}: {:?}", frame.at);
        let stack = name.len() == 1;
        assert!(!(stack && is_envelope(&frame.data)), "an envelope at the stack of {name}");
        if name.ends_with("/channel") {
            Envelope::parse(&frame.data).unwrap();
            assert!((60..=MAX_ENVELOPE).contains(&frame.length), "{name}: {}", frame.length);
        }
    }
    for name in ["a/channel", "b/channel", "vf0", "vf1"] {
        for outwards in [true, false] {
            let there = contents.frames.iter().any(|frame| {
                frame.interface == number(name)
                    && frame.outwards == outwards
                    && is_envelope(&frame.data)
            });
            assert!(there, "no envelope at {name}, outwards: {outwards}");
        }
    }
}

#[test]
fn a_snaplen_is_kept() {
    let scratch = Scratch::new("snaplen");
    let output = simulator(&scratch.0, &["--snaplen", "80", "--route", "nic-frame"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let contents = read(&scratch.0);
    for frame in &contents.frames {
        assert_eq!(frame.data.len(), frame.length.min(80));
    }
    assert!(contents.frames.iter().any(|frame| frame.length > 1000));
}

#[test]
fn a_capture_that_cannot_be_made_or_makes_no_sense_is_refused() {
    for (arguments, says) in [
        (&["--pcap", "/nonexistent/file"][..], "cannot create the capture /nonexistent/file"),
        (&["--pcap", "/tmp", "--snaplen", "10"], "64 to 262144"),
        (&["--snaplen", "100"], "--pcap"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"))
            .args(arguments)
            .output()
            .expect("cargo built the program");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}
