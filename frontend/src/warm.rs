//! Buffers that were in use a moment ago: they are in the cache, and to have them costs nothing.
//!
//! Small frames are most of what there is, and each takes a buffer of one page for a moment. The
//! hypervisor's allocator is asked only when there is none left here.

use arrayvec::ArrayVec;
use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::seam::Buffer;

/// How many are kept: as many as one done may finish, and a burst more.
const KEPT: usize = 128;

/// Buffers of one page, that nobody else can read: what is put into them next may be for anybody.
pub(crate) struct Warm<B>(ArrayVec<B, KEPT>);

impl<B> Default for Warm<B> {
    fn default() -> Self {
        Warm(ArrayVec::new())
    }
}

impl<B: Buffer> Warm<B> {
    /// One that holds `len` bytes, if there is one. What is in it is what was there last.
    pub(crate) fn take(&mut self, len: usize) -> Option<B> {
        if len <= PAGE_SIZE { self.0.pop() } else { None }
    }

    /// Keeps one, or gives it back to where it came from.
    pub(crate) fn keep(&mut self, buffer: B) {
        if buffer.capacity() == PAGE_SIZE && buffer.is_private() {
            let _ = self.0.try_push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// A buffer that says so when it goes back to where it came from.
    struct Page<'c> {
        pages: usize,
        private: bool,
        gone: &'c Cell<usize>,
    }

    impl Buffer for Page<'_> {
        fn capacity(&self) -> usize {
            self.pages * PAGE_SIZE
        }
        fn is_private(&self) -> bool {
            self.private
        }
        fn stack_bytes(&self) -> &[u8] {
            unreachable!("nobody looks into it")
        }
        fn stack_bytes_mut(&mut self) -> &mut [u8] {
            unreachable!("nobody writes into it")
        }
        fn get(&self, _: usize, _: &mut [u8]) {
            unreachable!("nobody looks into it")
        }
        fn put(&mut self, _: usize, _: &[u8]) {
            unreachable!("nobody writes into it")
        }
    }

    impl Drop for Page<'_> {
        fn drop(&mut self) {
            self.gone.set(self.gone.get() + 1);
        }
    }

    #[test]
    fn what_a_peer_can_still_read_is_kept_for_nobody_else() {
        let gone = Cell::new(0);
        let page = |pages, private| Page { pages, private, gone: &gone };
        let mut warm = Warm::default();
        warm.keep(page(1, false));
        assert_eq!(gone.get(), 1, "its granter has it back, which knows whose it is");
        assert!(warm.take(100).is_none());
        warm.keep(page(1, true));
        warm.keep(page(2, true));
        assert_eq!(gone.get(), 2, "of one page only");
        assert!(warm.take(PAGE_SIZE + 1).is_none());
        assert!(warm.take(PAGE_SIZE).is_some_and(|page| page.private));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let gone = Cell::new(0);
        let mut warm = Warm::default();
        for _ in 0..KEPT + 10 {
            warm.keep(Page { pages: 1, private: true, gone: &gone });
        }
        assert_eq!(gone.get(), 10);
    }
}
