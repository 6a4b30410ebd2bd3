//! UDP: a flood that the receiver counts, and echo.
//!
//! A datagram begins with 24 bytes: magic, kind, which flood, its number. Packets are sent and
//! taken many at a call: a system call of a PV guest is dear, and is not what is measured.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use serde::Serialize;

use crate::Verdict;

const MAGIC: u32 = 0x3155_4c58;
const BATCH: usize = 32;
const LARGEST: usize = 9000;

/// What a datagram is for.
#[derive(Clone, Copy)]
pub enum Kind {
    Data = 1,
    Echo = 2,
    /// How many of this flood have come?
    Count = 3,
    /// The answer: its number is the count.
    Counted = 4,
}

/// A datagram of `size` bytes at least.
pub fn message(kind: Kind, flood: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size.max(24)];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4] = kind as u8;
    bytes[8..16].copy_from_slice(&flood.to_le_bytes());
    bytes
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// The wildcard address of `to`'s family.
pub fn any(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Counts and answers for ever.
pub fn serve(port: u16) -> Result<()> {
    let socket = UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port)))?;
    let mut space = vec![[0u8; LARGEST]; BATCH];
    let (mut flood, mut count) = (0, 0u64);
    loop {
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            space.iter_mut().map(|one| [IoSliceMut::new(one)]).collect();
        let received: Vec<(usize, Option<SockaddrStorage>)> = match recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        ) {
            Ok(messages) => messages.map(|one| (one.bytes, one.address)).collect(),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => bail!("receive: {error}"),
        };
        for (index, (length, from)) in received.into_iter().enumerate() {
            let bytes = &space[index][..length];
            if length < 24 || bytes[..4] != MAGIC.to_le_bytes() {
                continue;
            }
            let which = number(bytes, 8);
            let answer = match bytes[4] {
                1 => {
                    if which != flood {
                        (flood, count) = (which, 0);
                    }
                    count += 1;
                    continue;
                }
                2 => bytes.to_vec(),
                3 => {
                    let mut answer = message(Kind::Counted, which, 24);
                    let counted = if which == flood { count } else { 0 };
                    answer[16..24].copy_from_slice(&counted.to_le_bytes());
                    answer
                }
                _ => continue,
            };
            if let Some(from) = from {
                let _ =
                    nix::sys::socket::sendto(socket.as_raw_fd(), &answer, &from, MsgFlags::empty());
            }
        }
    }
}

#[derive(Serialize)]
struct Report {
    size: usize,
    seconds: f64,
    sent: u64,
    received: u64,
    sent_per_s: u64,
    received_per_s: u64,
}

/// Sends for `time`, then asks how many came.
pub fn flood(to: SocketAddr, size: usize, time: Duration) -> Result<Verdict> {
    if !(24..=LARGEST).contains(&size) {
        bail!("the size is between 24 and {LARGEST}");
    }
    let socket = UdpSocket::bind(any(to))?;
    socket.connect(to)?;
    let which = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let packet = message(Kind::Data, which, size);
    let slices: Vec<[IoSlice<'_>; 1]> = (0..BATCH).map(|_| [IoSlice::new(&packet)]).collect();
    let addresses: Vec<Option<SockaddrStorage>> = vec![None; BATCH];
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time {
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &addresses, [], MsgFlags::empty())
        {
            Ok(messages) => sent += messages.count() as u64,
            // A queue in the stack is full.
            Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => {}
            Err(error) => bail!("send: {error}"),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let received = counted(&socket, which)?;
    let report = Report {
        size,
        seconds,
        sent,
        received,
        sent_per_s: (sent as f64 / seconds) as u64,
        received_per_s: (received as f64 / seconds) as u64,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(if received > 0 { Verdict::Good } else { Verdict::Bad })
}

/// Asks until the answer does not change any more: packets may still be underway.
fn counted(socket: &UdpSocket, which: u64) -> Result<u64> {
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut last = None;
    let mut answer = [0; 64];
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(300));
        socket.send(&message(Kind::Count, which, 24))?;
        let Ok(length) = socket.recv(&mut answer) else { continue };
        if length < 24 || answer[4] != Kind::Counted as u8 || number(&answer, 8) != which {
            continue;
        }
        let now = number(&answer, 16);
        if last == Some(now) {
            return Ok(now);
        }
        last = Some(now);
    }
    last.ok_or_else(|| anyhow::anyhow!("the receiver did not answer"))
}
