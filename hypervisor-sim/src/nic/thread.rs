//! A thread for the card: hardware works beside the processors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xenvelope_grant::seam::Instant;

use super::Nic;
use crate::thread_clock::ThreadClock;

/// Waits shorter than this are not worth a sleep, which takes that long by itself.
const SHORT: Duration = Duration::from_micros(50);
/// How long the card looks for more before it sleeps.
const IDLE: Duration = Duration::from_micros(20);

/// Runs a card in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct NicThread {
    nic: Arc<Nic>,
    stop: Arc<AtomicBool>,
    clock: Arc<OnceLock<ThreadClock>>,
    thread: Option<JoinHandle<()>>,
}

impl NicThread {
    /// Starts the thread. `clock` is the host's clock, in nanoseconds that pass as fast as the
    /// real ones.
    pub fn spawn(
        nic: Arc<Nic>,
        clock: impl Fn() -> Instant + Send + 'static,
    ) -> std::io::Result<NicThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::new(OnceLock::new());
        let thread = {
            let (nic, stop, own) = (Arc::clone(&nic), Arc::clone(&stop), Arc::clone(&own));
            thread::Builder::new().name("nic".into()).spawn(move || {
                own.get_or_init(ThreadClock::of_this_thread);
                while !stop.load(Ordering::Acquire) {
                    let next = nic.run(clock());
                    rest(&nic, next, &clock);
                }
            })?
        };
        Ok(NicThread { nic, stop, clock: own, thread: Some(thread) })
    }

    /// Processor time that the thread has used: what simulating the card costs, which no
    /// processor of a host would pay.
    pub fn cpu(&self) -> Duration {
        self.clock.get().and_then(|clock| clock.read()).unwrap_or_default()
    }
}

/// Waits until a doorbell, or until `next`.
fn rest(nic: &Nic, next: Option<Instant>, clock: &impl Fn() -> Instant) {
    if nic.is_wanted() {
        // Somebody wants to set something. The lock is not fair, so he needs the processor.
        thread::yield_now();
        return;
    }
    let start = clock();
    let until = match next {
        Some(next) if next <= start => return,
        Some(next) if next.since(start) < SHORT => next,
        _ => start + IDLE,
    };
    loop {
        if nic.rung() {
            return;
        }
        if clock() >= until {
            break;
        }
        thread::yield_now();
    }
    match next {
        Some(next) if next <= until => {}
        // Awake early enough to be on time.
        Some(next) => nic.sleep(Some(next.since(until).saturating_sub(SHORT))),
        None => nic.sleep(None),
    }
}

impl Drop for NicThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.nic.ring();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported by its hook; there is nobody else to tell.
            let _ = thread.join();
        }
    }
}
