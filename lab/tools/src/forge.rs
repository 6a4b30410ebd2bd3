//! A hostile guest: another guest's source address in envelopes, by a VF whose card lets it. It
//! tries to have frames delivered and grants freed that are not its own.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Buffer, Granter, Host, NicPort, Offload, Segment};
use xenvelope_switch::MacAddress;
use xenvelope_switch::envelope::{Addresses, DeliverHead, Done, EnvelopeBuilder, FrameHead};
use xenvelope_switch::ethernet::ether_type;
use xenvelope_xen::linux::{Limits, PacketConfig, PacketPort, Xen};

use crate::Verdict;

/// Bytes of the packet that travels inside forged envelopes.
const PACKET: usize = 40;
/// Where its datagrams go: nobody listens there, and the victim's stack counts what it gets.
const DISCARD: u16 = 9;

/// Who is attacked, and in whose name.
#[derive(clap::Args)]
pub struct Forger {
    /// The VF's network interface.
    #[arg(long)]
    interface: String,
    /// Whose name is used.
    #[arg(long)]
    from: MacAddress,
    /// Its IP address.
    #[arg(long)]
    from_ip: Ipv4Addr,
    /// Who is attacked.
    #[arg(long)]
    to: MacAddress,
    /// Its IP address.
    #[arg(long)]
    to_ip: Ipv4Addr,
    /// For how long.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// How many of each kind were sent.
#[derive(Default, Serialize)]
struct Forged {
    granted: u64,
    inline: u64,
    dones: u64,
    resets: u64,
}

impl Forger {
    /// Forges as fast as the card takes it, and prints how much.
    pub fn run(&self) -> Result<Verdict> {
        let host = Xen::open(Limits::default()).context("this is to run in a Xen guest")?;
        let interface = self.interface.clone();
        let config = PacketConfig { interface, promiscuous: false, quiet: true };
        let card = PacketPort::open(&host, &config)?;
        let mut forged = Forged::default();
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let mut turn = 0;
        while Instant::now() < end {
            for _ in 0..32 {
                let bytes = self.envelope(turn, host.random(), &mut forged);
                turn += 1;
                let mut buffer = host.take(None, bytes.len())?;
                buffer.put(0, &bytes);
                card.send(buffer, 0..bytes.len(), Offload::default())
                    .map_err(|unsent| unsent.cause)?;
            }
            card.kick();
            while card.completed().is_some() {}
            sleep(Duration::from_millis(5));
        }
        println!("{}", serde_json::to_string(&forged)?);
        Ok(Verdict::Good)
    }

    fn envelope(&self, turn: u32, random: u64, forged: &mut Forged) -> Vec<u8> {
        let addresses = Addresses { destination: self.to, source: self.from, tci: None };
        let head = DeliverHead {
            epoch: random as u32,
            sequence: turn,
            nonce: random,
            tagged: turn.is_multiple_of(2),
            want_done: true,
        };
        let frame =
            FrameHead { ether_type: ether_type::IPV4, total: 984, offload: Offload::default() };
        match turn % 6 {
            // Pages that somebody granted to the victim, by guessed references.
            0 | 1 => {
                forged.granted += 1;
                let gref = Gref(8 + random as u32 % 4096);
                let mut envelope = EnvelopeBuilder::deliver(addresses, head, None);
                let _ = envelope.push_granted(frame, &[Segment { gref, offset: 0, len: 1000 }]);
                envelope.finish().to_vec()
            }
            // A packet of our own, as if it were the other's.
            2 | 3 => {
                forged.inline += 1;
                let mut envelope = EnvelopeBuilder::deliver(addresses, head, None);
                let head = FrameHead { total: PACKET as u16, ..frame };
                let _ = envelope.push_inline(head, &self.datagram());
                envelope.finish().to_vec()
            }
            4 => {
                forged.dones += 1;
                let (epoch, nonce) = (random as u32, random);
                let done = Done { epoch, cumulative: turn, selective: u64::MAX, nonce };
                EnvelopeBuilder::done(addresses, turn, done).finish().to_vec()
            }
            _ => {
                forged.resets += 1;
                EnvelopeBuilder::reset(addresses, random as u32).finish().to_vec()
            }
        }
    }

    /// A UDP datagram without a checksum: the victim's stack counts it if it is delivered.
    fn datagram(&self) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        packet[0] = 0x45;
        packet[3] = PACKET as u8;
        packet[8] = 64;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&self.from_ip.octets());
        packet[16..20].copy_from_slice(&self.to_ip.octets());
        let sum: u32 = packet[..20]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|word| u32::from(u16::from_be_bytes(*word)))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        packet[20..22].copy_from_slice(&DISCARD.to_be_bytes());
        packet[22..24].copy_from_slice(&DISCARD.to_be_bytes());
        packet[24..26].copy_from_slice(&(PACKET as u16 - 20).to_be_bytes());
        packet
    }
}
