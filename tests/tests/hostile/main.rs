//! What hostile peers did to the drivers before us, each act after its advisory, and what they
//! could do to ours alone. `docs/testing` has the tables; `tests/mutations` the defences that each
//! test hangs on.

mod envelopes;
mod events;
mod grants;
mod neighbours;
mod store;
