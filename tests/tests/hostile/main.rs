//! Hostile peers: each advisory that hit the drivers before us, and what could be done to ours
//! alone. A peer does that very act against the real code on the simulated host. `docs/testing`
//! says which test is for which act, and `tests/mutations` takes out what defends, one check at a
//! time.

mod backend_to_frontend;
mod envelopes;
mod events;
mod frontend_to_backend;
mod grants;
mod neighbours;
mod store;
