//! A whole host in virtual time, from one number: manager, backend, guests of both kinds, card,
//! store. Everything goes wrong that can, and what must hold is looked at all the time.
//!
//! The code is the one that runs on Xen, on the simulator's machine and card; a run has no thread,
//! no clock and no chance of its own, so a seed replays exactly. In the manner of FoundationDB's
//! simulation and TigerBeetle's VOPR.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | what a seed says |
//! | [`world`], `schedule`, `talk` | the host's parts, who does what next, who sends what |
//! | [`guests`], [`host`], [`port`] | drivers, and what they have of the machine and the card |
//! | [`faults`], `accidents` | what goes wrong |
//! | [`traffic`], [`deliveries`] | frames that can be judged alone, and what has arrived |
//! | [`oracles`], `checks`, `host_checks`, [`ledger`] | what must hold |
//! | [`trace`], [`run`], [`report`] | what happened, how it is made small, what is said of it |

mod accidents;
mod checks;
pub mod deliveries;
pub mod faults;
pub mod guests;
pub mod host;
mod host_checks;
pub mod ledger;
pub mod oracles;
pub mod plan;
pub mod port;
pub mod report;
pub mod run;
mod schedule;
pub mod shared;
mod talk;
pub mod trace;
pub mod traffic;
pub mod world;

pub use oracles::{Oracle, Violation};
pub use run::{Outcome, Run};
pub use shared::Sabotage;
