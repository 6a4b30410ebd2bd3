//! What an endpoint does: send a file over and over, receive and hash it, ping and echo.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use sha2::{Digest, Sha256};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use xenvelope_grant::seam::Instant;

use super::{Payload, socket};

/// How far a transfer is: written by the endpoints, read by who measures.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of payload that the receiver has taken.
    pub bytes: AtomicU64,
    /// Passes of the file whose hash was right.
    pub good: AtomicU64,
    /// Passes whose hash was wrong.
    pub bad: AtomicU64,
    /// When the first byte came, in nanoseconds of the host's clock; 0 if none has.
    pub first_at: AtomicU64,
    /// When the last byte came.
    pub last_at: AtomicU64,
    /// The sender is to stop at the end of the pass.
    pub stop: AtomicBool,
    /// The receiver has seen the end.
    pub finished: AtomicBool,
    /// The connection broke before its end.
    pub broken: AtomicBool,
}

/// Round trips, in nanoseconds.
#[derive(Debug)]
pub struct Pings {
    /// The times.
    pub times: Mutex<Histogram<u64>>,
    /// No more are to be sent.
    pub stop: AtomicBool,
    /// The last one has come.
    pub finished: AtomicBool,
}

/// The longest round trip that is told apart: ten seconds.
const LONGEST_NS: u64 = 10_000_000_000;

impl Default for Pings {
    fn default() -> Self {
        // The bounds are constants that the histogram takes.
        let times = Histogram::new_with_max(LONGEST_NS, 3)
            .unwrap_or_else(|_| Histogram::new(3).expect("3 digits are allowed"));
        Pings {
            times: Mutex::new(times),
            stop: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }
}

/// One thing that an endpoint does.
pub enum Job {
    /// Sends the payload again and again until it is told to stop.
    Source {
        /// To whom.
        to: (Ipv4Addr, u16),
        /// What.
        payload: Payload,
        /// How far in the present pass.
        at: usize,
        /// Bytes of socket buffer.
        buffer: usize,
        /// Shared with the receiver.
        progress: Arc<Progress>,
        /// The socket.
        handle: Option<SocketHandle>,
    },
    /// Receives the payload, and hashes each pass.
    Sink {
        /// Where it listens.
        port: u16,
        /// What is to come.
        payload: Payload,
        /// How far in the present pass.
        at: usize,
        /// Bytes of socket buffer.
        buffer: usize,
        /// The hash of the present pass.
        hash: Box<Sha256>,
        /// Shared with the sender.
        progress: Arc<Progress>,
        /// The socket.
        handle: Option<SocketHandle>,
    },
    /// Sends a small message and waits for it to come back, again and again.
    Pinger {
        /// To whom.
        to: (Ipv4Addr, u16),
        /// When the present one left.
        sent_at: Option<Instant>,
        /// Bytes of it that have come back.
        back: usize,
        /// The times.
        pings: Arc<Pings>,
        /// The socket.
        handle: Option<SocketHandle>,
    },
    /// Sends back what comes.
    Echo {
        /// Where it listens.
        port: u16,
        /// The socket.
        handle: Option<SocketHandle>,
    },
}

/// Bytes of one ping.
const PING: [u8; 64] = [0x58; 64];

impl Job {
    /// Sends `payload` to `to` until `progress` says stop.
    pub fn source(
        to: (Ipv4Addr, u16),
        payload: Payload,
        buffer: usize,
        progress: Arc<Progress>,
    ) -> Job {
        Job::Source { to, payload, at: 0, buffer, progress, handle: None }
    }

    /// Receives `payload` on `port`.
    pub fn sink(port: u16, payload: Payload, buffer: usize, progress: Arc<Progress>) -> Job {
        let hash = Box::new(Sha256::new());
        Job::Sink { port, payload, at: 0, buffer, hash, progress, handle: None }
    }

    /// Measures round trips to `to`.
    pub fn pinger(to: (Ipv4Addr, u16), pings: Arc<Pings>) -> Job {
        Job::Pinger { to, sent_at: None, back: 0, pings, handle: None }
    }

    /// Echoes on `port`, for one connection.
    pub fn echo(port: u16) -> Job {
        Job::Echo { port, handle: None }
    }

    pub(super) fn open(
        &mut self,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
        local: u16,
    ) {
        let (bytes, to, listen) = match self {
            Job::Source { to, buffer, .. } => (*buffer, Some(*to), 0),
            Job::Sink { port, buffer, .. } => (*buffer, None, *port),
            Job::Pinger { to, .. } => (4096, Some(*to), 0),
            Job::Echo { port, .. } => (4096, None, *port),
        };
        let mut new = socket(bytes);
        let opened = match to {
            Some((address, port)) => {
                new.connect(interface.context(), (address, port), local).is_ok()
            }
            None => new.listen(listen).is_ok(),
        };
        debug_assert!(opened, "ports and addresses are our own");
        let added = sockets.add(new);
        match self {
            Job::Source { handle, .. }
            | Job::Sink { handle, .. }
            | Job::Pinger { handle, .. }
            | Job::Echo { handle, .. } => *handle = Some(added),
        }
    }

    /// One turn: whether anything moved, and whether the job is finished.
    pub(super) fn step(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> (bool, bool) {
        let (Job::Source { handle, .. }
        | Job::Sink { handle, .. }
        | Job::Pinger { handle, .. }
        | Job::Echo { handle, .. }) = self;
        let Some(handle) = *handle else { return (false, true) };
        let (moved, finished) = {
            let socket = sockets.get_mut::<tcp::Socket<'static>>(handle);
            match self {
                Job::Source { .. } => self.send(socket),
                Job::Sink { .. } => self.take(socket, now),
                Job::Pinger { .. } => self.ping(socket, now),
                Job::Echo { .. } => echo(socket),
            }
        };
        if finished {
            sockets.remove(handle);
        }
        (moved, finished)
    }

    fn send(&mut self, socket: &mut tcp::Socket<'static>) -> (bool, bool) {
        let Job::Source { payload, at, progress, .. } = self else { return (false, true) };
        let mut moved = false;
        while socket.can_send() {
            if *at == 0 && progress.stop.load(Relaxed) {
                socket.close();
                return (true, false);
            }
            match socket.send_slice(&payload.bytes()[*at..]) {
                Ok(0) | Err(_) => break,
                Ok(sent) => {
                    moved = true;
                    *at = (*at + sent) % payload.bytes().len();
                }
            }
        }
        let over = matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait);
        if over && !progress.finished.load(Relaxed) {
            progress.broken.store(!progress.stop.load(Relaxed), Relaxed);
        }
        (moved, over)
    }

    fn take(&mut self, socket: &mut tcp::Socket<'static>, now: Instant) -> (bool, bool) {
        let Job::Sink { payload, at, hash, progress, .. } = self else { return (false, true) };
        let mut moved = false;
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let piece = bytes.len().min(payload.bytes().len() - *at);
                hash.update(&bytes[..piece]);
                (piece, piece)
            });
            let Ok(taken) = taken else { break };
            moved |= taken > 0;
            *at += taken;
            progress.bytes.fetch_add(taken as u64, Relaxed);
            if *at == payload.bytes().len() {
                *at = 0;
                let right = hash.finalize_reset_array() == *payload.sha256();
                if right { &progress.good } else { &progress.bad }.fetch_add(1, Relaxed);
            }
        }
        if moved {
            let _ = progress.first_at.compare_exchange(0, now.0.max(1), Relaxed, Relaxed);
            progress.last_at.store(now.0, Relaxed);
        }
        // Not receiving any more, and it did once: the sender has closed.
        let begun = progress.first_at.load(Relaxed) != 0;
        if begun && !socket.may_recv() && !socket.can_recv() && socket.is_open() {
            socket.close();
        }
        if begun && matches!(socket.state(), tcp::State::LastAck) {
            progress.broken.store(*at != 0, Relaxed);
            progress.finished.store(true, Relaxed);
        }
        let over = begun && !socket.is_open();
        if over {
            progress.finished.store(true, Relaxed);
        }
        (moved, over)
    }

    fn ping(&mut self, socket: &mut tcp::Socket<'static>, now: Instant) -> (bool, bool) {
        let Job::Pinger { sent_at, back, pings, .. } = self else { return (false, true) };
        let mut moved = false;
        if let Some(sent) = *sent_at {
            while socket.can_recv() && *back < PING.len() {
                let left = PING.len() - *back;
                let taken = socket.recv(|bytes| {
                    let taken = bytes.len().min(left);
                    (taken, taken)
                });
                *back += taken.unwrap_or(0);
                moved = true;
            }
            if *back == PING.len() {
                let time = now.since(sent).as_nanos() as u64;
                pings.times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(time);
                *sent_at = None;
            }
        }
        if sent_at.is_none() && pings.stop.load(Relaxed) {
            socket.close();
            pings.finished.store(true, Relaxed);
            return (true, !socket.is_open() || socket.state() == tcp::State::TimeWait);
        }
        if sent_at.is_none() && socket.can_send() && socket.send_slice(&PING).is_ok() {
            *sent_at = Some(now);
            *back = 0;
            moved = true;
        }
        (moved, !socket.is_open() && sent_at.is_some())
    }
}

fn echo(socket: &mut tcp::Socket<'static>) -> (bool, bool) {
    let mut moved = false;
    let mut bytes = [0; 1024];
    while socket.can_recv() && socket.can_send() {
        match socket.recv_slice(&mut bytes) {
            Ok(taken) if taken > 0 => moved |= socket.send_slice(&bytes[..taken]).is_ok(),
            _ => break,
        }
    }
    if socket.state() == tcp::State::CloseWait {
        socket.close();
        moved = true;
    }
    (moved, !socket.is_open())
}

/// The hash of what came so far, and a fresh start.
trait FinalizeReset {
    fn finalize_reset_array(&mut self) -> [u8; 32];
}

impl FinalizeReset for Sha256 {
    fn finalize_reset_array(&mut self) -> [u8; 32] {
        self.finalize_reset().into()
    }
}
