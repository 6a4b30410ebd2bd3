//! A thread that owns something and does what it is told from outside, between turns of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::thread_clock::ThreadClock;

type Task<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The handle of such a thread. Dropping it stops and joins the thread.
pub struct Worker<T> {
    tasks: Sender<Task<T>>,
    wake: Arc<dyn Fn() + Send + Sync>,
    stop: Arc<AtomicBool>,
    clock: Arc<OnceLock<ThreadClock>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's side: what it is to do.
pub struct Orders<T> {
    tasks: Receiver<Task<T>>,
    stop: Arc<AtomicBool>,
}

impl<T> Orders<T> {
    /// Does what is waiting. Whether there was anything.
    pub fn carry_out(&self, on: &mut T) -> bool {
        let mut any = false;
        while let Ok(task) = self.tasks.try_recv() {
            task(on);
            any = true;
        }
        any
    }

    /// Whether the thread is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl<T: 'static> Worker<T> {
    /// Starts a thread that runs `body`. `wake` gets it out of its sleep.
    pub fn spawn(
        name: &str,
        wake: impl Fn() + Send + Sync + 'static,
        body: impl FnOnce(Orders<T>) + Send + 'static,
    ) -> std::io::Result<Worker<T>> {
        let (tasks, receiver) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let orders = Orders { tasks: receiver, stop: Arc::clone(&stop) };
        let clock = Arc::new(OnceLock::new());
        let own = Arc::clone(&clock);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            own.get_or_init(ThreadClock::of_this_thread);
            body(orders)
        })?;
        Ok(Worker { tasks, wake: Arc::new(wake), stop, clock, thread: Some(thread) })
    }

    /// Processor time that the thread has used; none if it has not begun, or has ended.
    pub fn cpu(&self) -> Duration {
        self.clock.get().and_then(|clock| clock.read()).unwrap_or_default()
    }

    /// Has the thread do something, and waits for what it says. `None` if the thread has ended.
    pub fn call<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, result) = bounded(1);
        let task = Box::new(move |on: &mut T| {
            let _ = answer.send(task(on));
        });
        self.tasks.send(task).ok()?;
        (self.wake)();
        result.recv().ok()
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        (self.wake)();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed its message; the others go on.
            let _ = thread.join();
        }
    }
}
