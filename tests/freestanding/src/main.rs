//! The frontend in a program without std: what a guest kernel links.
//!
//! The hypervisor is a stub with a store that says what a driver domain would, and with nobody
//! who answers. So the frontend connects and sends a frame into the void. The exit code is 0 if
//! it did.
#![no_std]
#![no_main]
#![deny(missing_docs)]
#![deny(unsafe_code)]

extern crate alloc;

#[allow(unsafe_code)]
mod bare;
mod stub;

use core::hint::black_box;

use stub::{Stub, StubNic};
use xenvelope_frontend::transmit::FRAME_AT;
use xenvelope_frontend::{Config, Frontend, FrontendError, Link};
use xenvelope_grant::seam::{Buffer, Host, Offload, StoreError};

type Guest = Frontend<Stub, StubNic>;

/// What the program does, and its exit code.
fn run() -> i32 {
    // The optimiser may not know what the store will say, or it would leave most out.
    let refused = Guest::new(Stub::new(black_box(false)), Config::default(), None);
    if !matches!(refused, Err(FrontendError::Store(StoreError::NoEntry))) {
        return 1;
    }
    let config = black_box(Config::default());
    let Ok(mut guest) = Guest::new(Stub::new(black_box(true)), config, Some(StubNic)) else {
        return 2;
    };
    for _ in 0..4 {
        turn(&mut guest);
    }
    if guest.link() != Link::Up {
        return 3;
    }
    let frame = FRAME_AT..FRAME_AT + 60;
    let Some(mut buffer) = guest.buffer(frame.len()) else {
        return 4;
    };
    buffer.put(FRAME_AT, &[0xFF; 6]);
    buffer.put(FRAME_AT + 6, &guest.mac().0);
    guest.send(buffer, frame, Offload::default());
    for _ in 0..4 {
        turn(&mut guest);
    }
    // It waits in the driver domain's ring for ever.
    if guest.counters().dropped() == 0 && guest.queued() == 0 { 0 } else { 5 }
}

/// One turn of the loop that drives a frontend.
fn turn(guest: &mut Guest) {
    let now = guest.host().now();
    guest.poll(now);
    while guest.receive(|frame, _| black_box(frame.len())).is_some() {}
    guest.flush(now);
    guest.wait(now);
}
