//! What the kernel of a guest keeps for itself: free pages, its grant table, free references, and
//! pages that a peer still holds on to.
//!
//! Nothing here is the hypervisor's: it reads the entries, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::Access;
use xenvelope_grant::table::GrantTable;
use xenvelope_grant::{DomId, GrantError, Gref, Words};

use super::counters::{Counters, count};
use super::grant_check::KEY;
use super::lock;
use super::pool::Pool;
use crate::memory::{Memory, PageRun, Window};

/// How many buried runs one look at the graveyard tries.
const TRIES: usize = 4;

/// The guest kernel's own state.
pub(crate) struct Guest {
    pub(crate) counters: Arc<Counters>,
    memory: Arc<Memory>,
    pool: Mutex<Pool>,
    table: GrantTable<Window>,
    /// The keys of entries that bear one, by reference; there are none in version 1.
    keys: Option<Window>,
    refs: Mutex<Vec<Gref>>,
    graveyard: Mutex<Vec<Grave>>,
    buried: AtomicUsize,
}

/// Pages whose owner is gone while a peer still used the grant. They may not be used for anything
/// else until the revoke has succeeded (XSA-396).
struct Grave {
    run: PageRun,
    refs: Vec<Gref>,
}

impl Guest {
    pub(crate) fn new(
        memory: PageRun,
        table: GrantTable<Window>,
        keys: Option<Window>,
        counters: Arc<Counters>,
    ) -> Guest {
        // The lowest references first: their entries share cache lines.
        let refs = (Gref::FIRST_FREE..table.len()).rev().map(Gref).collect();
        Guest {
            counters,
            memory: Arc::clone(memory.memory()),
            pool: Mutex::new(Pool::new(memory)),
            table,
            keys,
            refs: Mutex::new(refs),
            graveyard: Mutex::new(Vec::new()),
            buried: AtomicUsize::new(0),
        }
    }

    /// The grant table, to be written as the guest likes.
    pub(crate) fn table(&self) -> &GrantTable<Window> {
        &self.table
    }

    /// Whether the table has sub-page grants.
    pub(crate) fn has_sub_pages(&self) -> bool {
        matches!(self.table, GrantTable::V2 { .. })
    }

    /// Whether those pages are ours.
    pub(crate) fn owns(&self, run: &PageRun) -> bool {
        Arc::ptr_eq(run.memory(), &self.memory)
    }

    /// Frames below this one have been handed out at some time.
    pub(crate) fn touched(&self) -> usize {
        lock(&self.pool).touched()
    }

    /// At least `pages` pages.
    pub(crate) fn take(&self, pages: usize) -> Option<PageRun> {
        if self.buried.load(Relaxed) != 0 {
            self.exhume();
        }
        lock(&self.pool).take(pages)
    }

    /// At least `pages` pages, zeroed.
    pub(crate) fn take_zeroed(&self, pages: usize) -> Option<PageRun> {
        let mut run = self.take(pages)?;
        run.bytes_mut().fill(0);
        Some(run)
    }

    /// Gives pages back that nobody else can reach.
    pub(crate) fn give_back(&self, run: PageRun) {
        lock(&self.pool).give_back(run);
    }

    /// Takes as many free references as `out` has places, or none.
    pub(crate) fn take_refs(&self, out: &mut [Gref]) -> Result<(), GrantError> {
        let mut refs = lock(&self.refs);
        let rest = refs.len().checked_sub(out.len()).ok_or(GrantError::NoSpace)?;
        // From the top of the stack: what was freed last is in the cache.
        for (place, gref) in out.iter_mut().zip(refs.drain(rest..)) {
            *place = gref;
        }
        Ok(())
    }

    /// Gives references back whose entries are revoked.
    pub(crate) fn give_back_refs(&self, free: impl IntoIterator<Item = Gref>) {
        lock(&self.refs).extend(free);
    }

    /// Makes one entry valid.
    ///
    /// # Panics
    /// If the table's version cannot express the extent, which callers ask for beforehand.
    pub(crate) fn grant(&self, gref: Gref, to: DomId, extent: Extent, access: Access) {
        count(&self.counters.grants, 1);
        let granted = self.table.grant(gref, to, extent, access);
        granted.expect("a reference of our table, and an extent of its version");
    }

    /// Makes one entry valid for whoever has the key, for one copy; `false` if this version of the
    /// table has no such entries.
    pub(crate) fn grant_keyed(&self, gref: Gref, key: u64, extent: Extent) -> bool {
        let Some(keys) = &self.keys else { return false };
        count(&self.counters.grants, 1);
        // Before the flags that make the entry valid, as all of it.
        keys.store_u64(gref.0 as usize * KEY, key, Relaxed);
        self.table.grant_keyed(gref, extent).is_ok()
    }

    /// Takes one entry back; `false` while it is in use.
    pub(crate) fn revoke(&self, gref: Gref) -> bool {
        count(&self.counters.revokes, 1);
        self.table.revoke(gref).is_ok()
    }

    /// Ends entries, so that [`Guest::ended`] can say that nobody uses them any more.
    pub(crate) fn end(&self, refs: impl IntoIterator<Item = Gref>) {
        self.table.end(refs);
    }

    /// Takes one entry back that was ended; `false` while it is in use.
    pub(crate) fn ended(&self, gref: Gref) -> bool {
        count(&self.counters.revokes, 1);
        self.table.ended(gref).is_ok()
    }

    /// Keeps pages out of use for as long as one of those entries is in use.
    pub(crate) fn bury(&self, run: PageRun, refs: Vec<Gref>) {
        let mut graveyard = lock(&self.graveyard);
        graveyard.push(Grave { run, refs });
        self.buried.store(graveyard.len(), Relaxed);
    }

    /// Tries a few buried runs again, the longest buried first; those that are still held go to
    /// the end, so one peer's do not keep another's from being tried.
    pub(crate) fn exhume(&self) {
        let mut graveyard = lock(&self.graveyard);
        for _ in 0..TRIES.min(graveyard.len()) {
            let mut grave = graveyard.remove(0);
            let mut free = Vec::new();
            grave.refs.retain(|gref| {
                let revoked = self.revoke(*gref);
                if revoked {
                    free.push(*gref);
                }
                !revoked
            });
            self.give_back_refs(free);
            if grave.refs.is_empty() {
                self.give_back(grave.run);
            } else {
                graveyard.push(grave);
            }
        }
        self.buried.store(graveyard.len(), Relaxed);
    }
}
