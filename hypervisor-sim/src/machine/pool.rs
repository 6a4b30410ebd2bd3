//! The guest's page allocator: size classes, last in first out.

use xenvelope_grant::PAGE_SIZE;

use crate::memory::PageRun;

/// Pages of the size classes: a small frame, a jumbo frame, and the 17 pages that 64 KiB touch,
/// rounded up to netif's `NR_SLOTS_MIN`.
const CLASSES: [usize; 5] = [1, 2, 4, 8, 18];

/// Free pages of one domain.
pub(crate) struct Pool {
    /// Never handed out yet: everything below its start has been touched, or may have been.
    fresh: PageRun,
    /// Free runs of each class. The last one given back is the first one taken: it is warm.
    free: [Vec<PageRun>; CLASSES.len()],
    /// Free runs of other sizes, which are few: rings, tables and receive areas.
    odd: Vec<PageRun>,
    /// Fresh pages that are kept for these: frames that wait have no end, and free runs are not put
    /// together again.
    reserve: usize,
}

/// One in so many pages is kept for runs of odd sizes,
const RESERVE: usize = 8;
/// if that is enough for a receive area: a page for each slot of netif's ring.
const AREA: usize = 256;

impl Pool {
    pub(crate) fn new(memory: PageRun) -> Pool {
        let reserve = Some(memory.pages() / RESERVE).filter(|pages| *pages >= AREA).unwrap_or(0);
        Pool { fresh: memory, free: Default::default(), odd: Vec::new(), reserve }
    }

    /// Frames below this one have been handed out at some time.
    pub(crate) fn touched(&self) -> usize {
        self.fresh.first()
    }

    /// At least `pages` pages. Their bytes are what the last owner left.
    pub(crate) fn take(&mut self, pages: usize) -> Option<PageRun> {
        let pages = pages.max(1);
        let Some(class) = CLASSES.iter().position(|size| *size >= pages) else {
            return self.take_odd(pages);
        };
        if let Some(run) = self.free[class].pop() {
            return Some(run);
        }
        // When there is nothing fresh any more, rather a run that is too large than none.
        let fresh = if self.fresh.pages() >= self.reserve + CLASSES[class] {
            self.fresh.split_front(CLASSES[class])
        } else {
            None
        };
        fresh.or_else(|| self.free[class + 1..].iter_mut().find_map(Vec::pop))
    }

    fn take_odd(&mut self, pages: usize) -> Option<PageRun> {
        let fits = self.odd.iter().rposition(|run| run.pages() >= pages);
        match fits {
            Some(index) => Some(self.odd.swap_remove(index)),
            None => self.fresh.split_front(pages),
        }
    }

    /// Gives pages back.
    pub(crate) fn give_back(&mut self, run: PageRun) {
        match CLASSES.iter().position(|size| *size == run.pages()) {
            Some(class) => self.free[class].push(run),
            None => self.odd.push(run),
        }
    }
}

/// Pages that `bytes` bytes need.
pub(crate) fn pages_for(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_SIZE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_that_came_back_last_is_handed_out_first() {
        let mut pool = Pool::new(PageRun::map(64).expect("memory"));
        let (one, two) = (pool.take(1).expect("one"), pool.take(1).expect("two"));
        let (first, second) = (one.first(), two.first());
        pool.give_back(one);
        pool.give_back(two);
        assert_eq!(pool.take(1).expect("again").first(), second);
        assert_eq!(pool.take(1).expect("again").first(), first);
    }

    #[test]
    fn exhausted_memory_gives_nothing_and_a_larger_run_serves_in_need() {
        let mut pool = Pool::new(PageRun::map(5).expect("memory"));
        let four = pool.take(3).expect("four pages");
        assert_eq!(four.pages(), 4);
        let one = pool.take(1).expect("the fifth");
        assert!(pool.take(1).is_none());
        pool.give_back(four);
        assert_eq!(pool.take(1).expect("larger").pages(), 4);
        drop(one);
    }

    #[test]
    fn frames_that_wait_leave_room_for_a_receive_area() {
        let mut pool = Pool::new(PageRun::map(2200).expect("memory"));
        let frames: Vec<PageRun> = std::iter::from_fn(|| pool.take(18)).collect();
        assert!(frames.len() > 100);
        assert_eq!(pool.take(256).expect("the area").pages(), 256);
    }

    #[test]
    fn odd_sizes_are_found_again() {
        let mut pool = Pool::new(PageRun::map(64).expect("memory"));
        let table = pool.take(33).expect("33 pages");
        assert_eq!(table.pages(), 33);
        let first = table.first();
        pool.give_back(table);
        assert_eq!(pool.take(30).expect("the same").first(), first);
    }
}
