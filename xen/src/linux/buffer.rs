//! A buffer: memory that nobody but us writes.

use std::fmt;
use std::rc::Rc;

use xenvelope_grant::seam;

use super::host::Inner;
use super::sys::OwnPages;
use super::unit::Unit;

/// Memory that holds one frame. Private, or pages that one peer may read (and that are used for
/// that peer only).
pub struct Buffer {
    /// Gone only while it is being taken apart.
    pub(super) place: Option<Place>,
    pub(super) host: Rc<Inner>,
}

/// Where the bytes are.
pub(super) enum Place {
    Private(OwnPages),
    Granted(Unit),
}

impl Buffer {
    pub(super) fn new(place: Place, host: &Rc<Inner>) -> Buffer {
        Buffer { place: Some(place), host: Rc::clone(host) }
    }

    pub(super) fn pages(&self) -> &OwnPages {
        match self.place.as_ref().expect("a buffer has its pages until it is taken apart") {
            Place::Private(pages) => pages,
            Place::Granted(unit) => unit.pages(),
        }
    }

    fn pages_mut(&mut self) -> &mut OwnPages {
        match self.place.as_mut().expect("a buffer has its pages until it is taken apart") {
            Place::Private(pages) => pages,
            Place::Granted(unit) => unit.pages_mut(),
        }
    }
}

impl seam::Buffer for Buffer {
    fn capacity(&self) -> usize {
        self.pages().len()
    }
    fn is_private(&self) -> bool {
        matches!(self.place, Some(Place::Private(_)))
    }
    fn stack_bytes(&self) -> &[u8] {
        self.pages().bytes()
    }
    fn stack_bytes_mut(&mut self) -> &mut [u8] {
        self.pages_mut().bytes_mut()
    }
    fn get(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.pages().bytes()[at..at + out.len()]);
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.pages_mut().bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.place.take() {
            Some(Place::Private(pages)) => self.host.pool.put(pages),
            Some(Place::Granted(unit)) => self.host.pool.put_granted(unit),
            None => {}
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("capacity", &self.pages().len()).finish_non_exhaustive()
    }
}
