//! What a peer wrote, read once.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use xenvelope_grant::{PAGE_SIZE, Words as _};

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
                // The bytes as they lie there.
                let value = source.load_u64(at + word, Ordering::Relaxed).to_le();
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::super::mapping::DevicePages;
    use super::*;

    fn shared(pages: usize) -> SharedPagesMap {
        let file = File::from(memfd_create("shared", MFdFlags::empty()).unwrap());
        file.set_len((pages * PAGE_SIZE) as u64).unwrap();
        DevicePages::map(&file, 0, pages, true).unwrap()
    }

    #[test]
    fn each_byte_is_read_once_until_it_is_forgotten() {
        let source = shared(2);
        let mut mirror = Mirror::new(2).unwrap();
        source.copy_in(PAGE_SIZE - 8, b"beforeit");
        source.copy_in(PAGE_SIZE, b"after it");
        let around = PAGE_SIZE - 3..PAGE_SIZE + 3;
        assert_eq!(mirror.see(&source, around.clone()), b"eitaft");
        source.copy_in(PAGE_SIZE - 8, b"CHANGED!");
        source.copy_in(PAGE_SIZE, b"CHANGED!");
        assert_eq!(mirror.see(&source, around.clone()), b"eitaft");
        // What was read along with it, and what lies between two that were looked at.
        assert_eq!(mirror.see(&source, PAGE_SIZE..PAGE_SIZE + 8), b"after it");
        source.copy_in(PAGE_SIZE + 16, b"one more");
        assert_eq!(mirror.see(&source, PAGE_SIZE + 24..PAGE_SIZE + 32), [0; 8]);
        source.copy_in(PAGE_SIZE + 16, b"too late");
        assert_eq!(mirror.see(&source, PAGE_SIZE + 16..PAGE_SIZE + 24), b"one more");
        mirror.forget(1);
        assert_eq!(mirror.see(&source, around), b"eitCHA");
        assert_eq!(mirror.see(&source, 2 * PAGE_SIZE..2 * PAGE_SIZE), b"");
    }

    #[test]
    fn what_is_shifted_is_what_was_seen() {
        let source = shared(2);
        let mut mirror = Mirror::new(2).unwrap();
        source.copy_in(0, b"0123456789abcdef");
        source.copy_in(PAGE_SIZE, b"........");
        assert_eq!(mirror.see(&source, 0..4), b"0123");
        source.copy_in(0, b"XXXXXXXX");
        mirror.shift(&source, 0, 1, 11);
        assert_eq!(mirror.see(&source, PAGE_SIZE..PAGE_SIZE + 11), b"0123456789a");
    }
}
