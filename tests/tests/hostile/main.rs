//! Hostile peers: for each advisory that hit the drivers before us, a peer does that very act
//! against the real code on the simulated host. `docs/testing/` says which test is for which
//! advisory, and `tests/mutations/` takes out what defends, one check at a time.

mod backend_to_frontend;
mod frontend_to_backend;
