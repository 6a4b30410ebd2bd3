//! TCP: bytes one way or the other, summed at both ends.
//!
//! A connection begins with 24 bytes: magic, what is asked for, a seed, a count (little-endian).
//! Then the payload; then the receiving end's, or in reverse the sending end's, sum and count.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::stream::{Stream, Sum, hex};
use crate::{Verdict, rtt, udp};

const MAGIC: u32 = 0x3150_4c58;
const CHUNK: usize = 64 * 1024;
/// A server's thread whose peer is gone for good ends after this.
const SERVER_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Receive = 1,
    Transmit = 2,
    Echo = 3,
}

/// The first bytes of a connection.
pub struct Header {
    pub ask: Ask,
    pub unchecked: bool,
    pub seed: u64,
    pub count: u64,
}

impl Header {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = self.ask as u8;
        bytes[5] = u8::from(self.unchecked);
        bytes[8..16].copy_from_slice(&self.seed.to_le_bytes());
        bytes[16..].copy_from_slice(&self.count.to_le_bytes());
        to.write_all(&bytes)
    }

    fn read(from: &mut impl Read) -> Result<Self> {
        let mut bytes = [0; 24];
        from.read_exact(&mut bytes)?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..4] != MAGIC.to_le_bytes() {
            bail!("not a connection of ours");
        }
        let ask = match bytes[4] {
            1 => Ask::Receive,
            2 => Ask::Transmit,
            3 => Ask::Echo,
            other => bail!("asks for {other}"),
        };
        Ok(Self { ask, unchecked: bytes[5] != 0, seed: word(8), count: word(16) })
    }
}

/// Serves TCP and UDP for ever.
pub fn serve(port: u16) -> Result<Verdict> {
    // On Linux the IPv6 wildcard takes IPv4 as well.
    let listener =
        TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    thread::spawn(move || udp::serve(port));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        // A connection whose peer was destroyed lingers; it must not keep the next one waiting.
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("xenvelope-lab serve: {error:#}");
            }
        });
    }
    Ok(Verdict::Good)
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SERVER_PATIENCE))?;
    stream.set_write_timeout(Some(SERVER_PATIENCE))?;
    let header = Header::read(&mut stream)?;
    let mut pace = Pace::new(SERVER_PATIENCE);
    match header.ask {
        Ask::Receive => {
            let (sum, count) = receive(&mut stream, header.count, header.unchecked, &mut pace)?;
            finish(&mut stream, &sum, count)
        }
        Ask::Transmit => {
            let sum = transmit(&mut stream, &header, &mut pace)?;
            finish(&mut stream, &sum, header.count)
        }
        Ask::Echo => rtt::echo(&mut stream),
    }
}

fn finish(stream: &mut TcpStream, sum: &[u8; 32], count: u64) -> Result<()> {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(sum);
    bytes[32..].copy_from_slice(&count.to_le_bytes());
    Ok(stream.write_all(&bytes)?)
}

/// The longest time without progress, and the limit to it.
struct Pace {
    last: Instant,
    longest: Duration,
    limit: Duration,
}

impl Pace {
    fn new(limit: Duration) -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO, limit }
    }

    /// Takes what a read or a write returned; 0 bytes if it only timed out.
    fn step(&mut self, result: io::Result<usize>) -> Result<usize> {
        match result {
            Ok(0) => bail!("the connection was closed"),
            Ok(count) => {
                self.longest = self.longest.max(self.last.elapsed());
                self.last = Instant::now();
                Ok(count)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                if self.last.elapsed() > self.limit {
                    bail!("no progress for {} s", self.limit.as_secs());
                }
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn transmit(stream: &mut TcpStream, header: &Header, pace: &mut Pace) -> Result<[u8; 32]> {
    let mut payload = Stream::new(header.seed);
    let mut sum = Sum::new(header.unchecked);
    let mut chunk = vec![0; CHUNK];
    let mut left = header.count;
    while left > 0 {
        let length = left.min(CHUNK as u64) as usize;
        // Making the bytes costs more than sending them; nobody looks at unchecked ones.
        if left == header.count || !header.unchecked {
            payload.fill(&mut chunk[..length]);
        }
        sum.add(&chunk[..length]);
        let mut done = 0;
        while done < length {
            done += pace.step(stream.write(&chunk[done..length]))?;
        }
        left -= length as u64;
    }
    Ok(sum.finish())
}

fn receive(
    stream: &mut TcpStream,
    count: u64,
    unchecked: bool,
    pace: &mut Pace,
) -> Result<([u8; 32], u64)> {
    let mut sum = Sum::new(unchecked);
    let mut chunk = vec![0; CHUNK];
    let mut received = 0;
    while received < count {
        let length = (count - received).min(CHUNK as u64) as usize;
        let now = pace
            .step(stream.read(&mut chunk[..length]))
            .with_context(|| format!("after {received} bytes"))?;
        sum.add(&chunk[..now]);
        received += now as u64;
    }
    Ok((sum.finish(), received))
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    bytes: u64,
    seconds: f64,
    mbit_s: f64,
    longest_stall_ms: u64,
    sha256: String,
    /// Whether what this end summed up on the way is what it should be.
    own_sum_right: bool,
}

/// The client of `serve`.
pub fn send(
    to: SocketAddr,
    bytes: u64,
    reverse: bool,
    stall: Duration,
    unchecked: bool,
) -> Result<Verdict> {
    let mut stream =
        TcpStream::connect_timeout(&to, stall).with_context(|| format!("connect to {to}"))?;
    stream.set_nodelay(true)?;
    // Short, so that a stall is noticed when its limit has passed.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let ask = if reverse { Ask::Transmit } else { Ask::Receive };
    let header = Header { ask, unchecked, seed, count: bytes };
    header.write(&mut stream)?;
    let began = Instant::now();
    let mut pace = Pace::new(stall);
    let mine = if reverse {
        receive(&mut stream, bytes, unchecked, &mut pace)?.0
    } else {
        transmit(&mut stream, &header, &mut pace)?
    };
    let mut answer = [0; 40];
    let mut have = 0;
    while have < answer.len() {
        have += pace
            .step(stream.read(&mut answer[have..]))
            .context("waiting for the other end's sum")?;
    }
    let seconds = began.elapsed().as_secs_f64();
    // In reverse the other end's sum could still be of other bytes than were asked for. And a sum
    // that was computed here while a PCI device was taken from this guest came out wrong although
    // every byte arrived: what counts is what the bytes sum up to, so it is computed again.
    let mut expected = mine;
    if !unchecked && (reverse || answer[..32] != mine) {
        expected = sum_of(seed, bytes);
    }
    let got: &[u8] = if reverse { &mine } else { &answer[..32] };
    let ok = got == expected && answer[32..] == bytes.to_le_bytes();
    let report = Report {
        ok,
        bytes,
        seconds,
        mbit_s: bytes as f64 * 8e-6 / seconds,
        longest_stall_ms: pace.longest.as_millis() as u64,
        sha256: hex(got),
        own_sum_right: mine == expected,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(if ok { Verdict::Good } else { Verdict::Bad })
}

fn sum_of(seed: u64, bytes: u64) -> [u8; 32] {
    let mut payload = Stream::new(seed);
    let mut sum = Sum::new(false);
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(CHUNK as u64) as usize;
        payload.fill(&mut chunk[..length]);
        sum.add(&chunk[..length]);
        left -= length as u64;
    }
    sum.finish()
}
