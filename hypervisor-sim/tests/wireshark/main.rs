//! The dissector of docs/wireshark, and captures of the simulator, in tshark's hands.
//!
//! These tests need tshark, so `cargo test` leaves them out: `.ci/wireshark` runs them.

mod envelopes;
mod malformed;
mod simulator;
mod tshark;
