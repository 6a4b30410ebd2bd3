//! Signals: flags to look at, and a file descriptor that is readable when one has come.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// The signals that a program of ours hears.
pub struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
    pipe: UnixStream,
}

impl Signals {
    /// From now on SIGTERM and SIGINT ask to stop, SIGHUP to read the configuration again,
    /// SIGUSR1 to say how things are.
    pub fn listen() -> std::io::Result<Signals> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let signals =
            Signals { stop: Arc::default(), reload: Arc::default(), report: Arc::default(), pipe };
        let of = [
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGHUP, &signals.reload),
            (SIGUSR1, &signals.report),
        ];
        for (signal, set) in of {
            // The flag first: who is woken must find it.
            flag::register(signal, Arc::clone(set))?;
            pipe::register(signal, write.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Whether the program is to end.
    pub fn stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether the configuration is to be read again. Asks once for each time.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::AcqRel)
    }

    /// Whether a report is wanted. Asks once for each time.
    pub fn take_report(&self) -> bool {
        self.report.swap(false, Ordering::AcqRel)
    }

    /// Empties the pipe. Whether anything was in it: then its watcher must be armed again.
    pub fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        let mut any = false;
        while (&self.pipe).read(&mut bytes).is_ok_and(|count| count > 0) {
            any = true;
        }
        any
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    #[test]
    fn a_signal_sets_its_flag_and_wakes() {
        let signals = Signals::listen().expect("signals can be listened to");
        assert!(!signals.drain());
        raise(SIGUSR1).expect("a signal can be raised");
        raise(SIGHUP).expect("a signal can be raised");
        assert!(signals.drain() && !signals.drain());
        assert!(signals.take_report() && !signals.take_report());
        assert!(signals.take_reload() && !signals.take_reload());
        assert!(!signals.stop());
        raise(SIGTERM).expect("a signal can be raised");
        assert!(signals.stop() && signals.drain());
    }
}
