//! How much processor time a thread has used, read by another thread.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

/// The clock of the processor time of one thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadClock(ClockId);

/// `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED` of Linux' `include/linux/posix-timers.h`.
const PER_THREAD: i32 = 4 | 2;

impl ThreadClock {
    /// The clock of the thread that asks: the same as `CLOCK_THREAD_CPUTIME_ID`, but other threads
    /// of the process can read it too (`pthread_getcpuclockid` makes the number so).
    pub fn of_this_thread() -> ThreadClock {
        ThreadClock(ClockId::from_raw((!gettid().as_raw() << 3) | PER_THREAD))
    }

    /// Processor time of the thread so far; nothing if it has ended.
    pub fn read(self) -> Option<Duration> {
        clock_gettime(self.0).ok().map(Duration::from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    #[test]
    fn another_thread_sees_what_a_busy_thread_used_and_that_a_sleeping_one_uses_nothing() {
        let (tell, told) = channel();
        let (go, gone) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let clock = ThreadClock::of_this_thread();
            while clock.read() < Some(Duration::from_millis(20)) {
                std::hint::spin_loop();
            }
            let _ = tell.send(clock);
            let _ = gone.recv();
        });
        let clock = told.recv().expect("the thread says its clock");
        let before = clock.read().expect("the thread runs");
        assert!(before >= Duration::from_millis(20), "{before:?}");
        let start = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        let after = clock.read().expect("the thread runs");
        assert!(after - before < start.elapsed() / 2, "{:?}", after - before);
        let _ = go.send(());
        thread.join().expect("the thread ends");
        // Linux tells who joins a little before the thread is gone.
        let patience = Instant::now() + Duration::from_secs(10);
        while clock.read().is_some() {
            assert!(Instant::now() < patience, "{:?} of a thread that has ended", clock.read());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
