//! The copy engine: another DMA engine of the host, that copies between granted pages instead of a
//! processor.
//!
//! A batch is handed over with one hypercall, in which the hypervisor makes its checks and pins the
//! grants, as for a copy of its own; what the engine is given are pages. The pins stay until it has
//! copied: a sender that wants its page back meanwhile finds it in use. What comes of each
//! operation is what would have come of it with [`Copier::copy`](xenvelope_grant::seam::Copier::copy).

mod slots;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use xenvelope_grant::seam::{CallFailed, Copier, CopyBatch, CopyTicket, Submitted};

use super::buffer::FrameBuffer;
use super::counters::add;
use super::domain::{Domain, DomainState};
use super::{lock, read_lock};

pub(crate) use slots::CopySlots;

/// How fast the engine is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EngineCosts {
    /// From handing a batch over until the engine has begun with it, in nanoseconds. Batches may
    /// overlap in it.
    pub latency_ns: u64,
    /// What it copies, in Gbit/s. 0: as fast as the simulator itself.
    pub gbit_per_s: f64,
}

impl EngineCosts {
    /// 30 GB/s, what one device of Intel's Data Streaming Accelerator reaches (Kuper et al., "A
    /// Quantitative Analysis and Guidelines of Data Streaming Accelerator in Modern Intel Xeon
    /// Scalable Processors", ASPLOS 2024); the latency is an assumption of ours: a descriptor's
    /// way over the bus and back, about that of the card.
    pub const fn published() -> EngineCosts {
        EngineCosts { latency_ns: 1000, gbit_per_s: 240.0 }
    }

    /// Everything for free.
    pub const fn ideal() -> EngineCosts {
        EngineCosts { latency_ns: 0, gbit_per_s: 0.0 }
    }

    fn transfer(&self, bytes: u64) -> Duration {
        if self.gbit_per_s > 0.0 {
            Duration::from_nanos((bytes as f64 * 8.0 / self.gbit_per_s) as u64)
        } else {
            Duration::ZERO
        }
    }
}

struct Job {
    domain: Arc<DomainState>,
    ticket: CopyTicket,
    bytes: u64,
    handed_over: Instant,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// The engine of a machine. It ends with it.
pub(crate) struct CopyEngine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for CopyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CopyEngine")
    }
}

impl CopyEngine {
    pub(super) fn start(costs: EngineCosts) -> std::io::Result<CopyEngine> {
        let shared = Arc::new(Shared::default());
        // More than that are there only if a hundred domains are served at once.
        lock(&shared.queue).jobs.reserve(1024);
        let of_thread = Arc::clone(&shared);
        let run = move || run(&of_thread, costs);
        let thread = thread::Builder::new().name("copy-engine".to_owned()).spawn(run)?;
        Ok(CopyEngine { shared, thread: Some(thread) })
    }

    /// Without a thread and without time: whoever drives the host has it copy
    /// ([`CopyEngine::carry_out_one`]).
    pub(super) fn by_hand() -> CopyEngine {
        CopyEngine { shared: Arc::default(), thread: None }
    }

    /// Copies the batch that was handed over first. Only for one that has no thread. Whether there
    /// was one.
    pub(super) fn carry_out_one(&self) -> bool {
        if self.thread.is_some() {
            return false;
        }
        let job = lock(&self.shared.queue).jobs.pop_front();
        let Some(job) = job else { return false };
        job.domain.copies.carry_out(job.ticket, &job.domain);
        job.domain.queue.call_attention();
        true
    }

    /// A domain hands a batch over.
    pub(super) fn submit(&self, by: &Domain, batch: &mut CopyBatch<FrameBuffer>) -> Submitted {
        let caller = &by.state;
        let Some(slot) = caller.copies.free() else {
            // It takes no more.
            return Submitted::Finished(by.copy(&mut batch.ops, &mut batch.buffers));
        };
        by.hypercall();
        add(&caller.counters.copy_calls, 1);
        add(&caller.counters.copy_ops, batch.ops.len() as u64);
        let bytes = {
            // Held while pins are taken: no domain ends in the middle of that (XSA-236). One that
            // ends later is kept by its pins, but nothing is let through to it any more.
            let table = read_lock(&by.machine.domains);
            if !caller.space.is_alive() || by.machine.fail_copy_calls.load(Relaxed) {
                caller.copies.give_back(slot);
                return Submitted::Finished(Err(CallFailed));
            }
            caller.copies.fill(slot, caller, &table, batch)
        };
        let job =
            Job { domain: Arc::clone(caller), ticket: slot, bytes, handed_over: Instant::now() };
        lock(&self.shared.queue).jobs.push_back(job);
        self.shared.wake.notify_one();
        Submitted::Underway(slot)
    }
}

impl Drop for CopyEngine {
    fn drop(&mut self) {
        lock(&self.shared.queue).stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends as asked; one that has panicked has ended too.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, costs: EngineCosts) {
    let latency = Duration::from_nanos(costs.latency_ns);
    let mut free_at = Instant::now();
    loop {
        let job = {
            let mut queue = lock(&shared.queue);
            loop {
                if queue.stop {
                    return;
                }
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let begins = (job.handed_over + latency).max(free_at);
        free_at = begins + costs.transfer(job.bytes);
        wait_until(free_at);
        job.domain.copies.carry_out(job.ticket, &job.domain);
        job.domain.queue.call_attention();
    }
}

/// The engine is no processor: what it waits for costs none where that can be had.
fn wait_until(until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > Duration::from_micros(200) {
            // Less than asked for: a sleep ends late.
            thread::sleep(left - Duration::from_micros(100));
        } else {
            thread::yield_now();
        }
    }
}
