//! What runs inside the lab's domains: traffic whose payload is checked, commands for guests over
//! their console, and a look at a guest's grant table. Each result is one JSON object on a line.
#![deny(unsafe_code)]

mod console;
mod forge;
mod grants;
mod privcmd;
mod rtt;
mod stream;
mod table;
mod transfer;
mod udp;
mod waiting;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Programs for the lab's scenarios.
#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Answer `send` and `rtt`, over IPv4 and IPv6, until killed.
    Serve {
        /// TCP port; UDP datagrams to the same port are counted and answered as well.
        #[arg(long, default_value_t = 7000)]
        port: u16,
    },
    /// Move pseudo-random bytes over TCP and compare both ends' SHA-256.
    Send {
        /// Where `serve` listens.
        to: SocketAddr,
        /// How many.
        #[arg(long)]
        bytes: u64,
        /// From the server to here.
        #[arg(long)]
        reverse: bool,
        /// Longest time in seconds without progress before giving up.
        #[arg(long, default_value_t = 30)]
        stall: u64,
        /// Send the same bytes again and again, and compute no SHA-256: where only speed is asked
        /// for.
        #[arg(long)]
        unchecked: bool,
    },
    /// Send UDP datagrams as fast as the stack takes them.
    UdpFlood {
        /// Where `serve` listens.
        to: SocketAddr,
        /// Bytes of UDP payload.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// How long.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Measure round trips.
    Rtt {
        /// Where `serve` listens.
        to: SocketAddr,
        /// How many.
        #[arg(long, default_value_t = 500)]
        count: u32,
        /// UDP in place of TCP.
        #[arg(long)]
        udp: bool,
    },
    /// In a guest with a VF of its own: envelopes in another guest's name, to one that knows it.
    ForgeEnvelopes(forge::Forger),
    /// In dom0: run a command in a guest by its console; prints its output, exits with its status.
    InGuest(console::Options),
    /// In dom0: which domains the entries of a guest's grant table name.
    GrantEntries(grants::Options),
    /// In dom0: print a growing file until some text is in it (exit 0) or time is up (exit 1).
    AwaitText {
        /// The file; it need not exist yet.
        file: PathBuf,
        /// The text.
        text: String,
        /// Seconds.
        #[arg(long, default_value_t = 30)]
        limit: u64,
    },
    /// Wait for a file.
    AwaitFile(waiting::Options),
    /// Print the table of what lab/bench measured. Exit status 1 if a measurement is missing.
    Table {
        /// One JSON object a line.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
    Status(u8),
}

fn main() -> std::process::ExitCode {
    let result = match Command::parse() {
        Command::Serve { port } => transfer::serve(port),
        Command::Send { to, bytes, reverse, stall, unchecked } => {
            transfer::send(to, bytes, reverse, Duration::from_secs(stall), unchecked)
        }
        Command::UdpFlood { to, size, seconds } => {
            udp::flood(to, size, Duration::from_secs(seconds))
        }
        Command::Rtt { to, count, udp } => rtt::measure(to, count, udp),
        Command::ForgeEnvelopes(forger) => forger.run(),
        Command::InGuest(options) => console::run(&options),
        Command::GrantEntries(options) => grants::print(&options),
        Command::AwaitText { file, text, limit } => {
            console::await_text(&file, &text, Duration::from_secs(limit))
        }
        Command::AwaitFile(options) => waiting::await_file(&options),
        Command::Table { file } => table::print(&file),
    };
    match result {
        Ok(Verdict::Good) => 0.into(),
        Ok(Verdict::Bad) => 1.into(),
        Ok(Verdict::Status(status)) => status.into(),
        Err(error) => {
            eprintln!("xenvelope-lab: {error:#}");
            125.into()
        }
    }
}
