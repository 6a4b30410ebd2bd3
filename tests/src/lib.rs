//! End-to-end, hostile-peer and loom tests of xenvelope.
//!
//! The tests are in `tests/tests`. Here is what several of them need.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod fuzz;
pub mod lab;
pub mod loom_domain;
pub mod loom_ring;
pub mod loom_words;
pub mod simulation;
