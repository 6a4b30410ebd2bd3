//! A driver domain that writes what it likes into the pages that it shares with a guest.

use xenvelope_frontend::Config;
use xenvelope_grant::netif::{RxResponse, TxResponse};
use xenvelope_hypervisor_sim::machine::GrantVersion;

use super::input::Input;
use crate::lab::{FakeBackend, frame, mac};

/// Any words in any ring and in the forwarding table, responses and envelopes of any content, in
/// any order. What the guest's stack gets is addressed to it.
pub fn frontend_rings(data: &[u8]) {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let mut input = Input::new(data);
    while let Some(act) = input.act(11) {
        match act {
            0 => input.scribble(fake.tx.words()),
            1 => input.scribble(fake.rx.words()),
            2 => input.scribble(fake.send.words()),
            3 => input.scribble(fake.receive.words()),
            4 => input.scribble(fake.table.borrow().words()),
            5 => fake.push_envelope(input.piece()),
            6 => {
                if fake.rx.pending().is_ok_and(|waiting| waiting > 0) {
                    let id = fake.rx.pop().id;
                    let response = RxResponse {
                        // Often that of the request.
                        id: id ^ (input.short() & 0x0101),
                        offset: input.short(),
                        flags: input.short(),
                        status: input.short() as i16,
                    };
                    let _ = fake.rx.push(&response);
                }
            }
            7 => {
                let _ = fake.rx.publish();
            }
            8 => {
                if fake.tx.pending().is_ok_and(|waiting| waiting > 0) {
                    let id = fake.tx.pop().id ^ (input.short() & 0x0101);
                    let _ = fake.tx.push(&TxResponse { id, status: input.short() as i16 });
                }
                let _ = fake.tx.publish();
            }
            9 => {
                let payload = vec![1; 46 + usize::from(input.byte()) * 8];
                fake.guest.send(&frame(mac(usize::from(input.byte() % 4)), mac(0), &payload));
            }
            _ => fake.step(),
        }
    }
    for _ in 0..4 {
        fake.step();
    }
    // Whatever waits for a time-out.
    fake.pass_ms(100);
    for frame in fake.guest.take_received() {
        let to_us = frame.get(..6) == Some(&mac(0).0[..]);
        let to_many = frame.first().is_some_and(|first| first & 1 == 1);
        assert!(to_us || to_many, "the stack gets {:02x?}", frame.get(..14));
    }
}
