//! Round trips of one small message at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::transfer::{Ask, Header};
use crate::{Verdict, udp};

const MESSAGE: usize = 32;

/// The server's end of a TCP measurement.
pub fn echo(stream: &mut TcpStream) -> Result<()> {
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    count: usize,
    lost: u32,
    p50_us: u64,
    p99_us: u64,
    mean_us: u64,
}

/// The client.
pub fn measure(to: SocketAddr, count: u32, over_udp: bool) -> Result<Verdict> {
    let mut times = Vec::new();
    let mut lost = 0;
    if over_udp {
        let socket = UdpSocket::bind(udp::any(to))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut message = [0; 64];
        for number in 0..u64::from(count) {
            let request = udp::message(udp::Kind::Echo, number, MESSAGE);
            let began = Instant::now();
            socket.send(&request)?;
            match socket.recv(&mut message) {
                Ok(length) if message[..length] == request[..] => times.push(began.elapsed()),
                _ => lost += 1,
            }
            if lost > 20 {
                bail!("{lost} messages lost of {}", number + 1);
            }
        }
    } else {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))
            .with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Header { ask: Ask::Echo, unchecked: false, seed: 0, count: 0 }.write(&mut stream)?;
        let mut message = [7; MESSAGE];
        for _ in 0..count {
            let began = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
            times.push(began.elapsed());
        }
    }
    times.sort();
    let at = |part: usize| {
        times
            .get((times.len() * part / 100).min(times.len().saturating_sub(1)))
            .map_or(0, |t| t.as_micros() as u64)
    };
    let mean = times.iter().sum::<Duration>().checked_div(times.len() as u32).unwrap_or_default();
    let report = Report {
        ok: lost == 0,
        count: times.len(),
        lost,
        p50_us: at(50),
        p99_us: at(99),
        mean_us: mean.as_micros() as u64,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(if times.is_empty() { Verdict::Bad } else { Verdict::Good })
}
