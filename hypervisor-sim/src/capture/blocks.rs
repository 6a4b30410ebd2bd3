//! The blocks of the file.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};
use xenvelope_grant::seam::Direction;

use super::Summary;
use super::recorder::{Interface, Packet, Shared};

/// `if_tsresol`: times are in units of ten to the power of minus this, in seconds.
const NANOSECONDS: u8 = 9;
/// `if_fcslen`: no check sequence is captured.
const NO_CHECK_SEQUENCE: u8 = 0;
/// The simulated network's mask.
const NETMASK: [u8; 4] = [255, 255, 0, 0];
/// Most bytes of an option: its length has 16 bits.
const MAX_OPTION: usize = u16::MAX as usize;

/// How much is collected before it is written.
const COLLECTED: usize = 1 << 20;

/// Collects what is written, and writes it when it is flushed and not before. If that is between
/// blocks, a program that is killed leaves a file of whole blocks behind.
struct Collector<W> {
    out: W,
    collected: Vec<u8>,
    /// Bytes written so far.
    bytes: u64,
}

impl<W: Write> Write for Collector<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.collected.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.collected)?;
        self.bytes += self.collected.len() as u64;
        self.collected.clear();
        self.out.flush()
    }
}

/// Writes a file block by block.
pub(super) struct Blocks<W: Write> {
    file: PcapNgWriter<Collector<W>>,
    snaplen: u32,
    /// How many interfaces are described in the file.
    described: usize,
    captured: u64,
    began: Option<Duration>,
}

impl<W: Write> Blocks<W> {
    /// A file with a section header: the program, its version and the command line.
    pub(super) fn new(out: W, snaplen: u32, command: &str) -> Result<Blocks<W>, PcapError> {
        let program = concat!("xenvelope-sim ", env!("CARGO_PKG_VERSION"));
        let options = vec![
            SectionHeaderOption::Comment(Cow::Owned(shortened(command).to_owned())),
            SectionHeaderOption::UserApplication(Cow::Borrowed(program)),
        ];
        let section = SectionHeaderBlock {
            // In statistics a time is two words, the high one first; the library writes each as
            // one number of 64 bits, which is the same only so.
            endianness: Endianness::Big,
            options,
            ..SectionHeaderBlock::default()
        };
        let out = Collector { out, collected: Vec::with_capacity(COLLECTED), bytes: 0 };
        let file = PcapNgWriter::with_section_header(out, section)?;
        Ok(Blocks { file, snaplen, described: 0, captured: 0, began: None })
    }

    /// Writes a frame, and before it the interfaces that are not in the file yet.
    pub(super) fn packet(&mut self, packet: &Packet, shared: &Shared) -> Result<(), PcapError> {
        self.describe(packet.interface as usize + 1, shared)?;
        self.began.get_or_insert(packet.at);
        // `epb_flags`: the two lowest bits.
        let flags = match packet.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if let Some(comment) = &packet.comment {
            options.push(EnhancedPacketOption::Comment(Cow::Borrowed(shortened(comment))));
        }
        self.file.write_pcapng_block(EnhancedPacketBlock {
            interface_id: packet.interface,
            timestamp: packet.at,
            // No frame has 4 GiB.
            original_len: packet.length as u32,
            data: Cow::Borrowed(&packet.data),
            options,
        })?;
        self.captured += 1;
        if self.file.get_ref().collected.len() >= COLLECTED { self.flush() } else { Ok(()) }
    }

    /// Writes what was collected.
    pub(super) fn flush(&mut self) -> Result<(), PcapError> {
        self.file.get_mut().flush().map_err(PcapError::IoError)
    }

    /// Describes interfaces until `count` are in the file, if there are so many.
    fn describe(&mut self, count: usize, shared: &Shared) -> Result<(), PcapError> {
        while self.described < count {
            let Some(interface) = shared.interface(self.described) else { break };
            self.file.write_pcapng_block(described(&interface, self.snaplen))?;
            self.described += 1;
        }
        Ok(())
    }

    /// Writes statistics, and ends the file.
    pub(super) fn finish(mut self, shared: &Shared) -> Result<Summary, PcapError> {
        self.describe(usize::MAX, shared)?;
        let now = nanoseconds(shared.now());
        let began = self.began.map_or(now, nanoseconds);
        let mut dropped = 0;
        for number in 0..self.described {
            let Some(interface) = shared.interface(number) else { break };
            let lost = interface.dropped.load(Relaxed);
            dropped += lost;
            self.file.write_pcapng_block(InterfaceStatisticsBlock {
                interface_id: number as u32,
                timestamp: now,
                options: vec![
                    InterfaceStatisticsOption::IsbStartTime(began),
                    InterfaceStatisticsOption::IsbEndTime(now),
                    InterfaceStatisticsOption::IsbIfRecv(interface.seen.load(Relaxed)),
                    InterfaceStatisticsOption::IsbIfDrop(lost),
                ],
            })?;
        }
        self.flush()?;
        let bytes = self.file.get_ref().bytes;
        Ok(Summary { interfaces: self.described, captured: self.captured, dropped, bytes })
    }
}

fn described(interface: &Interface, snaplen: u32) -> InterfaceDescriptionBlock<'_> {
    let mut options = vec![
        InterfaceDescriptionOption::IfName(Cow::Borrowed(&interface.name)),
        InterfaceDescriptionOption::IfDescription(Cow::Borrowed(&interface.description)),
        InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        InterfaceDescriptionOption::IfFcsLen(NO_CHECK_SEQUENCE),
    ];
    if let Some(mac) = &interface.mac {
        options.push(InterfaceDescriptionOption::IfMacAddr(Cow::Borrowed(mac.as_slice())));
    }
    if let Some(address) = interface.address {
        let bytes = [address.octets(), NETMASK].concat();
        options.push(InterfaceDescriptionOption::IfIpv4Addr(Cow::Owned(bytes)));
    }
    InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options }
}

fn nanoseconds(since_1970: Duration) -> u64 {
    // Until the year 2554.
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// As much of a text as fits an option.
fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_OPTION)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
