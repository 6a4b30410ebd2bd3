//! The limits: a loop that copies, and a ring with a copy and nothing else.

#[allow(unsafe_code)]
mod memory;

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contender::Load;
use super::frame::{Reader, Writer};
use super::two::{Sides, both_sides};
use super::window::{Meter, Part, Window, now};
use memory::{Buffers, Receiver, Sender, pair};

/// Buffers that frames are copied from.
const SOURCES: usize = 256;
/// Buffers that they are copied to: what a receiver that keeps its buffers warm uses.
const TARGETS: usize = 64;
/// Frames that a receiver takes at once.
pub const TAKEN_AT_ONCE: u64 = 32;

/// Copies a second of frames of that length, on the calling thread's core.
pub fn copies_per_second(load: Load, time: Duration) -> Result<f64> {
    let stride = load.stride();
    let (mut from, mut to) = (Buffers::new(SOURCES * stride)?, Buffers::new(TARGETS * stride)?);
    let (from, to) = (from.bytes(), to.bytes());
    let mut copied = 0usize;
    let mut copy = |count: usize| {
        for _ in 0..count {
            let (source, target) = (copied % SOURCES * stride, copied % TARGETS * stride);
            to[target..][..load.length].copy_from_slice(&from[source..][..load.length]);
            black_box(&to[target]);
            copied += 1;
        }
        copied
    };
    let warm = copy(SOURCES);
    let start = Instant::now();
    let mut all = warm;
    while start.elapsed() < time {
        all = copy(64);
    }
    Ok((all - warm) as f64 / start.elapsed().as_secs_f64())
}

/// A ring with a copy: what both sides did.
pub fn run(load: Load, sides: Sides, length: Duration) -> Result<[Part; 2]> {
    let (mut sender, mut receiver) = pair(load.stride(), TARGETS as u64)?;
    let window = Window::soon(length);
    both_sides(
        sides,
        || send(&mut sender, load, window.for_sender()),
        || receive(&mut receiver, load, window),
        || (),
    )
}

fn send(ring: &mut Sender, load: Load, window: Window) -> Part {
    let (mut meter, mut writer) = (Meter::new(window), Writer::new(load.full));
    let (burst, mut sent) = (load.burst as u64, 0);
    loop {
        // The clock is not looked at in each turn: it would cost more than a frame.
        for _ in 0..turns(load) {
            if !ring.has_room(burst) {
                spin_loop();
                continue;
            }
            for n in 0..burst {
                writer.write(ring.frame(n, load.length));
            }
            ring.publish(burst);
            sent += burst;
        }
        if let Some(part) = meter.tick(now(), sent) {
            return part;
        }
    }
}

fn receive(ring: &mut Receiver, load: Load, window: Window) -> Part {
    let (mut meter, mut reader) = (Meter::new(window), Reader::new(load.length));
    loop {
        for _ in 0..turns(load) {
            let count = ring.pending(TAKEN_AT_ONCE);
            if count == 0 {
                spin_loop();
                continue;
            }
            for n in 0..count {
                reader.read(ring.copy(n));
            }
            ring.release(count);
        }
        if let Some(part) = meter.tick(now(), reader.frames) {
            return Part { wrong: reader.wrong, ..part };
        }
    }
}

/// Turns between two looks at the clock: some 100 microseconds at most.
fn turns(load: Load) -> usize {
    if load.length > 9000 { 1 } else { 16 }
}
