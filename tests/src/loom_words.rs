//! Shared memory as loom sees it, whole or with one ordering weakened.
//!
//! [`LoomMemory`] keeps a loom atomic for each word of a protocol; [`LoomWords`] is one side's
//! view of it. The protocol cores run on views unchanged. A [`Weakness`] takes away exactly one
//! thing that a core relies on, for one side: [`caught`] then asserts that loom finds the
//! execution in which that goes wrong. So each ordering is shown to be both enough and needed.
//!
//! What loom cannot show: it has no load buffering (a load is never delayed past a later store),
//! and it knows no words of mixed size. Each offset is used with one size here, but where a wide
//! store clears two narrow words.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Once};

use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use xenvelope_grant::Words;

/// A word, in the size in which the protocol uses it.
enum Word {
    U16(AtomicU16),
    U32(AtomicU32),
    U64(AtomicU64),
}

/// Zeroed memory of words of given sizes. Made in the model, before its threads are.
#[derive(Default)]
pub struct LoomMemory {
    words: BTreeMap<usize, Word>,
    size: usize,
}

impl LoomMemory {
    /// Memory without any word.
    pub fn new() -> LoomMemory {
        LoomMemory::default()
    }

    /// Adds words of 16 bits.
    #[must_use]
    pub fn with_u16(self, at: Range<usize>) -> LoomMemory {
        self.with(at, 2, || Word::U16(AtomicU16::new(0)))
    }

    /// Adds words of 32 bits. Only these can be copied in and out.
    #[must_use]
    pub fn with_u32(self, at: Range<usize>) -> LoomMemory {
        self.with(at, 4, || Word::U32(AtomicU32::new(0)))
    }

    /// Adds words of 64 bits.
    #[must_use]
    pub fn with_u64(self, at: Range<usize>) -> LoomMemory {
        self.with(at, 8, || Word::U64(AtomicU64::new(0)))
    }

    fn with(mut self, at: Range<usize>, step: usize, word: impl Fn() -> Word) -> LoomMemory {
        self.size = self.size.max(at.end);
        self.words.extend(at.step_by(step).map(|at| (at, word())));
        self
    }

    /// Ends the making: views can be had of it now.
    pub fn share(self) -> Arc<LoomMemory> {
        Arc::new(self)
    }
}

/// What one side does without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weakness {
    /// Nothing: the protocol as it is.
    #[default]
    None,
    /// Release stores at this offset are relaxed.
    ReleaseRelaxed(usize),
    /// Acquire loads at this offset are relaxed.
    AcquireRelaxed(usize),
    /// Compare-exchanges are relaxed.
    ExchangeRelaxed,
    /// Full barriers do nothing.
    NoFullBarrier,
    /// Every store, load and barrier is relaxed.
    AllRelaxed,
    /// The lower 16 bits of a stored word of 64, from this offset on, say only whether they were
    /// zero: entries of the forwarding table have no versions.
    NoVersions(usize),
    /// Of the stores of 64 bits after [`LoomWords::arm`] only so many are done: the side dies.
    DiesAfter(u32),
    /// The word at this offset is looked at once: every later look gives what the first gave. So
    /// is a second look missing that the protocol takes.
    LooksOnce(usize),
}

/// One side's view of a [`LoomMemory`].
pub struct LoomWords {
    memory: Arc<LoomMemory>,
    weaknesses: [Weakness; 2],
    /// Stores of 64 bits since [`LoomWords::arm`].
    stores: Cell<Option<u32>>,
    /// What the first look gave, for [`Weakness::LooksOnce`].
    seen: Cell<Option<u64>>,
}

impl LoomWords {
    /// A view that lacks nothing.
    pub fn of(memory: &Arc<LoomMemory>) -> LoomWords {
        LoomWords::weakened(memory, Weakness::None)
    }

    /// A view of a side that does without something.
    pub fn weakened(memory: &Arc<LoomMemory>, weakness: Weakness) -> LoomWords {
        LoomWords {
            memory: Arc::clone(memory),
            weaknesses: [weakness, Weakness::None],
            stores: Cell::new(None),
            seen: Cell::new(None),
        }
    }

    /// The view of a side that does without something else too.
    #[must_use]
    pub fn and(mut self, weakness: Weakness) -> LoomWords {
        self.weaknesses[1] = weakness;
        self
    }

    fn lacks(&self, weakness: Weakness) -> bool {
        self.weaknesses.contains(&weakness)
    }

    fn look(&self, at: usize, load: impl FnOnce() -> u64) -> u64 {
        if !self.lacks(Weakness::LooksOnce(at)) {
            return load();
        }
        let seen = self.seen.get().unwrap_or_else(load);
        self.seen.set(Some(seen));
        seen
    }

    /// From now on stores are counted for [`Weakness::DiesAfter`].
    pub fn arm(&self) {
        self.stores.set(Some(0));
    }

    fn word(&self, at: usize) -> &Word {
        self.memory.words.get(&at).unwrap_or_else(|| panic!("no word at {at}"))
    }

    fn half(&self, at: usize) -> &AtomicU32 {
        match self.word(at) {
            Word::U32(word) => word,
            _ => panic!("the word at {at} has not 32 bits"),
        }
    }

    fn short(&self, at: usize) -> &AtomicU16 {
        match self.word(at) {
            Word::U16(word) => word,
            _ => panic!("the word at {at} has not 16 bits"),
        }
    }

    fn loading(&self, at: usize, order: Ordering) -> Ordering {
        let relaxed = order == Acquire && self.lacks(Weakness::AcquireRelaxed(at));
        if relaxed || self.lacks(Weakness::AllRelaxed) { Relaxed } else { order }
    }

    fn storing(&self, at: usize, order: Ordering) -> Ordering {
        let relaxed = order == Release && self.lacks(Weakness::ReleaseRelaxed(at));
        if relaxed || self.lacks(Weakness::AllRelaxed) { Relaxed } else { order }
    }
}

impl Words for LoomWords {
    fn size(&self) -> usize {
        self.memory.size
    }

    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.look(at, || self.short(at).load(self.loading(at, order)).into()) as u16
    }

    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.short(at).store(value, self.storing(at, order));
    }

    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        let relaxed = self.lacks(Weakness::ExchangeRelaxed) || self.lacks(Weakness::AllRelaxed);
        // For loom a sequentially consistent access is no more than the latter.
        let (success, failure) = if relaxed { (Relaxed, Relaxed) } else { (AcqRel, Acquire) };
        self.short(at).compare_exchange(current, new, success, failure).map(drop)
    }

    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.half(at).load(self.loading(at, order))
    }

    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.half(at).store(value, self.storing(at, order));
    }

    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        match self.word(at) {
            Word::U64(word) => self.look(at, || word.load(self.loading(at, order))),
            _ => panic!("the word at {at} has not 64 bits"),
        }
    }

    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        let done = self.stores.get();
        self.stores.set(done.map(|done| done + 1));
        let mut value = value;
        for weakness in self.weaknesses {
            match weakness {
                Weakness::DiesAfter(last) if done.is_some_and(|done| done >= last) => return,
                Weakness::NoVersions(from) if at >= from => {
                    value = value & !0xFFFF | u64::from(value & 0xFFFF != 0);
                }
                _ => {}
            }
        }
        match self.word(at) {
            Word::U64(word) => word.store(value, self.storing(at, order)),
            // A header that is cleared before anybody else sees it.
            _ => {
                self.store_u32(at, value as u32, order);
                self.store_u32(at + 4, (value >> 32) as u32, order);
            }
        }
    }

    fn copy_out(&self, at: usize, out: &mut [u8]) {
        for (at, bytes) in (at..).step_by(4).zip(out.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&self.half(at).load(Relaxed).to_le_bytes());
        }
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        for (at, bytes) in (at..).step_by(4).zip(bytes.chunks_exact(4)) {
            let value = u32::from_le_bytes(bytes.try_into().expect("chunks of 4"));
            self.half(at).store(value, Relaxed);
        }
    }

    fn full_barrier(&self) {
        if !self.lacks(Weakness::NoFullBarrier) && !self.lacks(Weakness::AllRelaxed) {
            fence(SeqCst);
        }
    }

    fn read_barrier(&self) {
        if !self.lacks(Weakness::AllRelaxed) {
            fence(Acquire);
        }
    }
}

/// An event channel's port: an event stays pending until it is waited for.
#[derive(Default)]
pub struct Event {
    pending: Mutex<bool>,
    raised: Condvar,
}

impl Event {
    /// A port without an event.
    pub fn new() -> Event {
        Event::default()
    }

    /// Sends the event.
    pub fn notify(&self) {
        *self.pending.lock().expect("loom's locks are not poisoned") = true;
        self.raised.notify_one();
    }

    /// Sleeps until there is an event, and takes it. If there will never be one, loom ends the
    /// model with "deadlock".
    pub fn wait(&self) {
        let mut pending = self.pending.lock().expect("loom's locks are not poisoned");
        while !*pending {
            pending = self.raised.wait(pending).expect("loom's locks are not poisoned");
        }
        *pending = false;
    }
}

/// Runs a model in all executions with at most `preemptions` preemptions, or in all.
pub fn check(preemptions: impl Into<Option<usize>>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.into();
    builder.check(model);
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Asserts that loom finds an execution in which the model panics with a message that contains
/// `message`. What loom finds is not printed.
///
/// # Panics
/// If loom finds nothing, or something else.
pub fn caught(
    preemptions: impl Into<Option<usize>>,
    message: &str,
    model: impl Fn() + Send + Sync + 'static,
) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        // Other tests run beside this one, in threads of their own.
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| check(preemptions, model)));
    QUIET.set(false);
    let payload = result.expect_err("loom found nothing wrong with the weakened protocol");
    let found = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    assert!(found.contains(message), "loom found something else: {found}");
}
