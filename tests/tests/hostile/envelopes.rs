//! What is ours alone: envelopes that lie.

mod contents;
mod domids;
mod dones;
mod storms;
