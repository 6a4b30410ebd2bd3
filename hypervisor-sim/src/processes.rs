//! Domains of one machine in several processes.
//!
//! A machine is set up in one process, with domains whose memory is shared
//! ([`Backing::shared`](crate::machine::Backing)); then the process forks, and each process drives
//! some of the domains.
//!
//! What the processes share from then on: the pages of domains, with rings, tables and frames in
//! them; grant tables with their status words, so that a revoke sees a use by another process; the
//! bits of event channels, and the descriptor that ends a sleep.
//!
//! What each keeps for itself, as it was at the fork: the store; which domains there are, and
//! which ports are connected; free pages and free references of a domain, so that a domain is
//! driven by one process; counters; and the hypervisor's private record of who uses an entry. A
//! use and its end are recorded in the process that uses the entry, which for an entry that is
//! granted to one domain is the process that drives that domain. Two processes that use the *same*
//! entry (one that is passed on, or one with a key) would not know of each other.

use std::io;

use nix::unistd::{ForkResult, Pid, fork};

/// Runs `task` in a process that begins as a copy of this one, and that ends with it. What `task`
/// borrowed or took is not dropped there, since the other process still uses what is behind it.
///
/// # Errors
/// If this process has more than one thread, of which the copy would have only one and all their
/// locks; or if the system makes no process.
pub fn in_child(mut task: impl FnMut()) -> io::Result<Pid> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "a process with {threads} threads cannot be divided: fork before starting any"
        )));
    }
    // SAFETY: the process has one thread, which is here, so no lock is held by another and the
    // copy may do whatever this process may.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut task));
            std::process::exit(if outcome.is_ok() { 0 } else { 101 })
        }
    }
}
