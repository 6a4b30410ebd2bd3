//! Memory that is used again: private buffers, and for each peer the pages that it may read.

use std::cell::RefCell;

use hashbrown::HashMap;
use xenvelope_grant::Peer;
use xenvelope_grant::seam::{MAX_SEGMENTS, NoBuffer};

use super::sys::OwnPages;
use super::unit::Unit;

/// Pages of buffers: one for a frame of an ordinary MTU, three for a jumbo frame, and what a
/// frame of 64 KiB touches. A frame that the kernel cuts later may have any length up to that.
pub(super) const CLASSES: [usize; 3] = [1, 3, MAX_SEGMENTS];
/// Buffers of each class that are kept, private ones.
const KEPT: [usize; 3] = [2048, 512, 512];
/// Units of each class that are kept for one peer: what a few busy connections have in flight.
/// What is beyond is freed, which is held against the peer.
const KEPT_FOR_PEER: [usize; 3] = [1024, 128, 192];

/// The smallest class that has that many pages.
pub(super) fn class_of(pages: usize) -> Option<usize> {
    CLASSES.iter().position(|class| *class >= pages)
}

/// Free memory.
#[derive(Default)]
pub(super) struct Pool {
    private: RefCell<[Vec<OwnPages>; 3]>,
    granted: RefCell<HashMap<Peer, [Vec<Unit>; 3]>>,
}

impl Pool {
    /// A private buffer of at least `pages` pages. More than the largest class are mapped apart.
    pub fn take(&self, pages: usize) -> Result<OwnPages, NoBuffer> {
        let Some(class) = class_of(pages) else {
            return OwnPages::anonymous(pages).map_err(|_| NoBuffer);
        };
        let kept = self.private.borrow_mut()[class].pop();
        kept.map_or_else(|| OwnPages::anonymous(CLASSES[class]).map_err(|_| NoBuffer), Ok)
    }

    /// Gives a private buffer back.
    pub fn put(&self, pages: OwnPages) {
        let count = pages.len() / xenvelope_grant::PAGE_SIZE;
        let mut private = self.private.borrow_mut();
        if let Some(class) = class_of(count)
            && CLASSES[class] == count
            && private[class].len() < KEPT[class]
        {
            private[class].push(pages);
        }
    }

    /// A unit of at least `pages` pages that `peer` may read, if one is kept.
    pub fn take_granted(&self, peer: Peer, pages: usize) -> Option<Unit> {
        self.granted.borrow_mut().get_mut(&peer)?[class_of(pages)?].pop()
    }

    /// Gives back a unit whose peer said that it is done with it. That is its word only: a unit
    /// that is not kept is freed as if the peer had not said it. Else one that keeps all mapped
    /// and says done could have us allocate without end.
    pub fn put_granted(&self, unit: Unit) {
        let Some(class) = class_of(unit.refs.len()) else { return };
        let mut granted = self.granted.borrow_mut();
        let kept = &mut granted.entry(unit.peer).or_default()[class];
        if kept.len() < KEPT_FOR_PEER[class] {
            kept.push(unit);
        } else {
            unit.abandon();
        }
    }

    /// Frees what is kept for a peer.
    pub fn forget(&self, peer: Peer) {
        let units = self.granted.borrow_mut().remove(&peer);
        units.into_iter().flatten().flatten().for_each(Unit::abandon);
    }
}
