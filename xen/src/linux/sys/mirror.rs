//! What a peer wrote, read once.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use xenvelope_grant::PAGE_SIZE;

use super::mapping::{Mapping, SharedPagesMap};

/// Private pages that show what shared pages held when they were looked at first: each byte is
/// read from the shared pages once (XSA-155).
pub(in crate::linux) struct Mirror {
    mapping: Mapping,
    /// For each page, which of its bytes have been read: whole words, from and to.
    seen: RefCell<Vec<(usize, usize)>>,
}

impl Mirror {
    pub fn new(pages: usize) -> io::Result<Mirror> {
        let mapping = Mapping::anonymous(pages)?;
        Ok(Mirror { mapping, seen: RefCell::new(vec![(0, 0); pages]) })
    }

    /// Nothing has been read of that page.
    pub fn forget(&mut self, page: usize) {
        self.seen.get_mut()[page] = (0, 0);
    }

    /// The bytes of `range`: as they were when they were looked at first, or as they are now in
    /// `source`.
    ///
    /// # Panics
    /// If the range leaves the pages.
    pub fn see(&self, source: &SharedPagesMap, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.mapping.len, "{range:?}");
        let mut seen = self.seen.borrow_mut();
        for page in range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE) {
            let at = page * PAGE_SIZE;
            let low = (range.start.max(at) - at) / 8 * 8;
            let high = (range.end.min(at + PAGE_SIZE) - at).next_multiple_of(8);
            let known = &mut seen[page];
            if known.0 == known.1 {
                *known = (low, low);
            }
            // What lies between the two is read too, so that what is known stays one piece.
            for word in (low..known.0).chain(known.1..high).step_by(8) {
                let value = source.u64(at + word).load(Ordering::Relaxed);
                // SAFETY: inside the mapping (`range` is, and pages are whole words), aligned.
                // Nobody has a reference to this word: it is outside of what is known, only what
                // is known is handed out, and `forget` needs `&mut self`.
                unsafe { self.mapping.base.as_ptr().add(at + word).cast::<u64>().write(value) };
            }
            *known = (known.0.min(low), known.1.max(high));
        }
        drop(seen);
        // SAFETY: inside the mapping, checked above; what is known is not written to as long as
        // `self` is borrowed.
        unsafe {
            std::slice::from_raw_parts(self.mapping.base.as_ptr().add(range.start), range.len())
        }
    }

    /// Copies the first `len` bytes of page `from` to the beginning of page `to`, which then
    /// shows these.
    ///
    /// # Panics
    /// If there are no such pages, or `len` is more than a page.
    pub fn shift(&mut self, source: &SharedPagesMap, from: usize, to: usize, len: usize) {
        assert!(from != to && len <= PAGE_SIZE, "{len} bytes from page {from} to {to}");
        let bytes = self.see(source, from * PAGE_SIZE..from * PAGE_SIZE + len).as_ptr();
        self.seen.get_mut()[to] = (0, len / 8 * 8);
        let tail = len / 8 * 8..len;
        // SAFETY: two pages of the mapping (`to` is one, by the index above), which do not
        // overlap; `&mut self` is exclusive.
        unsafe {
            let target = self.mapping.base.as_ptr().add(to * PAGE_SIZE);
            std::ptr::copy_nonoverlapping(bytes, target, len);
        }
        if !tail.is_empty() {
            self.seen.get_mut()[to].1 = len.next_multiple_of(8);
        }
    }
}
