//! What both programs, the agent in a guest and the driver domain's process, need of the Linux
//! machine that they run on, and that has nothing to do with Xen.
//!
//! | module | what |
//! |---|---|
//! | [`start`] | how a program starts, and its exit status |
//! | [`settings`] | the configuration file, and what is wrong with it, by line |
//! | [`interface`] | names of network interfaces |
//! | [`log`] | the log |
//! | [`signals`] | signals, as flags and as a file descriptor that wakes a sleeper |
//! | [`instance`] | one process at a time |
//! | [`status`] | a file that says how things are |
//! | [`manager`] | the service manager is told |
//! | [`devices`] | device files that are not there, and the module that brings them |
//! | `black_box` | a program seen from outside, for tests (feature `black-box`) |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "black-box")]
pub mod black_box;
pub mod devices;
pub mod instance;
pub mod interface;
pub mod log;
pub mod manager;
pub mod settings;
pub mod signals;
pub mod start;
pub mod status;
