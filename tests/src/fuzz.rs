//! Harnesses that take any bytes: what a hostile peer, the store or a file could say.
//!
//! One for each kind of input. The same functions run as properties on stable
//! (`tests/tests/fuzz.rs`), which also replays the corpora, and under libFuzzer (`fuzz/` at the
//! root, `fuzz/run`). A harness panics when something is wrong, and never otherwise.

mod backend;
mod configuration;
mod envelope;
mod frontend;
mod input;
mod store;
mod table;

pub use backend::{backend_rings, netif_requests};
pub use configuration::{backend_configuration, guest_configuration};
pub use envelope::envelope;
pub use frontend::frontend_rings;
pub use store::{backend_store, frontend_store};
pub use table::table;

/// A harness by its name, which is also that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All harnesses.
pub const TARGETS: [Target; 9] = [
    ("envelope", envelope),
    ("table", table),
    ("backend_rings", backend_rings),
    ("frontend_rings", frontend_rings),
    ("netif_requests", netif_requests),
    ("backend_store", backend_store),
    ("frontend_store", frontend_store),
    ("backend_configuration", backend_configuration),
    ("guest_configuration", guest_configuration),
];
