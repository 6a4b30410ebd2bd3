//! tshark, with our dissector.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

/// What tshark says on stderr to root, whatever it reads.
const ROOT: &str = "Running as user \"root\" and group \"root\". This could be dangerous.";

/// A file that is gone when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A name that nobody else has.
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xenvelope-wireshark-{}-{count}.pcapng", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    /// A capture of these frames.
    pub fn of(frames: &[Vec<u8>]) -> Scratch {
        let scratch = Scratch::new();
        let mut writer = PcapNgWriter::new(File::create(&scratch.0).unwrap()).unwrap();
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
        interface.options.push(InterfaceDescriptionOption::IfFcsLen(0));
        writer.write_pcapng_block(interface).unwrap();
        for frame in frames {
            writer
                .write_pcapng_block(EnhancedPacketBlock {
                    interface_id: 0,
                    timestamp: Duration::ZERO,
                    original_len: frame.len() as u32,
                    data: Cow::Borrowed(frame),
                    options: Vec::new(),
                })
                .unwrap();
        }
        scratch
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What tshark prints about a capture, run with our dissector and these arguments. It must not
/// complain.
pub fn tshark(capture: &Path, arguments: &[&str]) -> String {
    let lua = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wireshark/xenvelope.lua");
    let output = Command::new("tshark")
        .arg("-X")
        .arg(format!("lua_script:{}", lua.display()))
        .arg("-n")
        .arg("-r")
        .arg(capture)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("tshark cannot be run, see .ci/wireshark: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> =
        stderr.lines().filter(|line| *line != ROOT && !line.is_empty()).collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "tshark {arguments:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).expect("tshark prints UTF-8")
}

/// For each frame that `filter` leaves, its values of these fields, those of one field separated
/// by commas.
pub fn fields(capture: &Path, filter: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut arguments = vec!["-Y", filter, "-T", "fields", "-E", "separator=|"];
    for name in names {
        arguments.extend(["-e", name]);
    }
    let rows = tshark(capture, &arguments);
    rows.lines().map(|row| row.split('|').map(str::to_owned).collect()).collect()
}

/// The numbers, from 1, of the frames that `filter` leaves.
pub fn numbers(capture: &Path, filter: &str) -> Vec<usize> {
    let rows = fields(capture, filter, &["frame.number"]);
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}
