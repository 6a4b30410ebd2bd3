//! Frames from the driver domain.

use core::ops::Range;

use xenvelope_grant::netif::{
    EXTRA_MORE, EXTRA_TYPE_GSO, ExtraInfo, NR_SLOTS_MIN, RX_RING_SLOTS, RxFlags, RxRequest,
    RxResponse, gso_to_virtio,
};
use xenvelope_grant::ring::{Front, RingLayout};
use xenvelope_grant::seam::{Buffer, Granter, Offload, ReceiveArea};
use xenvelope_grant::{PAGE_SIZE, Words};

use super::NetifError;
use xenvelope_switch::MAX_FRAME;

/// The layout of the receive ring.
pub const LAYOUT: RingLayout = RingLayout::one_page::<RxRequest, RxResponse>();

/// Pages of the receive area: as many as slots, so that a slot's page follows from its index.
pub const PAGES: usize = RX_RING_SLOTS as usize;

/// A frame that the driver domain has written.
pub struct NetifReceived<B> {
    /// Where it is.
    pub place: Place<B>,
    /// What the driver domain says of it.
    pub offload: Offload,
    /// The ring index up to which its pages reach: [`Receiver::release`] takes it.
    pub end: u32,
}

/// What has come by the ring: a frame, or why it is none.
pub type Came<B> = Result<NetifReceived<B>, NoFrame>;

/// Buffers came back without a frame that can be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoFrame {
    /// The driver domain says that it failed to write it: it knows of the loss.
    Failed,
    /// What it says it has written is no frame, or we cannot read it: nobody else knows.
    Unusable,
}

/// Where a received frame is.
pub enum Place<B> {
    /// In the area, in one piece.
    Area(Range<usize>),
    /// In a buffer, since it was not in one piece. It has been copied.
    Buffer(B, usize),
}

/// The receive ring and the pages behind it.
pub struct Receiver<G: Granter, W> {
    ring: Front<W, RxRequest, RxResponse>,
    area: G::Area,
    /// The ring index of the next response: what a slot's page is counted by.
    next: u32,
    /// The ring index up to which pages may be let again.
    released: u32,
    /// Frames in the area that have been handed out and not been read.
    unread: u32,
    /// Bytes copied to put frames into one piece.
    linearised: u64,
}

/// What a response says of page `page`, if that can be.
fn checked(page: usize, response: &RxResponse) -> Result<Fragment, NetifError> {
    if response.id as usize != page {
        return Err(NetifError::UnknownId(response.id));
    }
    let (offset, length) = (response.offset, response.status);
    let bytes = usize::try_from(length).unwrap_or(0);
    if offset as usize + bytes > PAGE_SIZE {
        return Err(NetifError::OutsidePage { offset, length });
    }
    Ok((page, offset as usize, bytes))
}

/// One fragment: its page and its bytes there.
type Fragment = (usize, usize, usize);

impl<G: Granter, W: Words> Receiver<G, W> {
    /// A ring in new pages over an area of [`PAGES`] pages.
    pub fn new(words: W, area: G::Area) -> Receiver<G, W> {
        let ring = Front::new(words, LAYOUT);
        Receiver { ring, area, next: 0, released: 0, unread: 0, linearised: 0 }
    }

    /// Lets all pages that are free to the driver domain. Whether it wants an event: with
    /// `feature-rx-notify` it waits for buffers.
    #[must_use = "the driver domain may wait for buffers"]
    pub fn post(&mut self) -> bool {
        // Batches: a page at a time would make the driver domain look for each.
        let lent = self.ring.next_index().wrapping_sub(self.released);
        if RX_RING_SLOTS - lent < RX_RING_SLOTS / 8 && lent > RX_RING_SLOTS / 2 {
            return false;
        }
        while self.ring.next_index().wrapping_sub(self.released) < RX_RING_SLOTS
            && self.ring.free() > 0
        {
            let page = self.ring.next_index() % RX_RING_SLOTS;
            // Closed long ago, unless the driver domain was inside then.
            if self.area.close(page as usize).is_err() {
                break;
            }
            let Ok(gref) = self.area.open(page as usize) else {
                break;
            };
            let _ = self.ring.push(&RxRequest { id: page as u16, pad: 0, gref: gref.0 });
        }
        self.ring.publish()
    }

    /// The oldest frame that was handed out, which ends at ring index `end`, has been read: its
    /// pages may be let again, and those of all before it.
    pub fn release(&mut self, end: u32) {
        self.unread = self.unread.saturating_sub(1);
        self.released = if self.unread == 0 { self.next } else { end };
    }

    /// A frame that was handed out will not be read. Its pages may be let again when all before
    /// it have been read: pages are let in ring order.
    pub fn discard(&mut self) {
        self.unread = self.unread.saturating_sub(1);
        self.skip();
    }

    /// What was taken from the ring and not handed out needs no pages.
    fn skip(&mut self) {
        if self.unread == 0 {
            self.released = self.next;
        }
    }

    /// The ring index up to which frames have come.
    pub fn published(&self) -> Result<u32, NetifError> {
        Ok(self.next.wrapping_add(self.ring.pending()?))
    }

    /// The ring index of the next frame.
    pub fn next_index(&self) -> u32 {
        self.next
    }

    /// Bytes copied to put frames into one piece, since the last time.
    pub fn take_linearised(&mut self) -> u64 {
        core::mem::take(&mut self.linearised)
    }

    /// The next frame, if one has come, or why what has come is none. One in the area is to be given
    /// back by [`Receiver::release`] or [`Receiver::discard`].
    pub fn receive(&mut self, granter: &G) -> Result<Option<Came<G::Buf>>, NetifError> {
        let waiting = self.ring.pending()?;
        if waiting == 0 {
            return Ok(None);
        }
        let mut fragments = [(0, 0, 0); NR_SLOTS_MIN + 1];
        let mut count = 0;
        let mut offload = Offload::default();
        // Nobody can read it; the driver domain says itself that it is not there.
        let (mut unusable, mut failed) = (false, false);
        let (mut more, mut extras, mut taken) = (true, false, 0);
        while more || extras {
            if taken == waiting {
                // A frame is published whole; what is cut short is no frame.
                unusable = true;
                break;
            }
            taken += 1;
            let (page, response) = self.take();
            // A page that the driver domain is still inside of cannot be read.
            unusable |= self.area.close(page).is_err();
            if extras {
                // Extra infos follow the first fragment.
                let extra = ExtraInfo::from_rx(&response);
                if let (EXTRA_TYPE_GSO, Some(kind)) = (extra.kind, gso_to_virtio(extra.gso_type)) {
                    offload.gso_type = kind;
                    offload.gso_size = extra.gso_size;
                }
                extras = extra.flags & EXTRA_MORE != 0;
                continue;
            }
            let fragment = checked(page, &response)?;
            failed |= response.status < 0;
            let flags = RxFlags::from_bits_retain(response.flags);
            if count == 0 {
                offload.needs_checksum = flags.contains(RxFlags::CSUM_BLANK);
                offload.checksum_valid = flags.contains(RxFlags::DATA_VALIDATED);
                extras = flags.contains(RxFlags::EXTRA_INFO);
            }
            more = flags.contains(RxFlags::MORE_DATA);
            *fragments.get_mut(count).ok_or(NetifError::TooManyFragments)? = fragment;
            count += 1;
        }
        let end = self.next;
        let place =
            if failed || unusable { None } else { self.place(granter, &mut fragments[..count]) };
        if let Some(Place::Area(_)) = place {
            self.unread += 1;
        } else {
            self.skip();
        }
        let lost = if failed { NoFrame::Failed } else { NoFrame::Unusable };
        Ok(Some(place.map(|place| NetifReceived { place, offload, end }).ok_or(lost)))
    }

    /// The next response, and the page that belongs to its slot.
    fn take(&mut self) -> (usize, RxResponse) {
        let page = (self.next % RX_RING_SLOTS) as usize;
        self.next = self.next.wrapping_add(1);
        (page, self.ring.pop())
    }

    /// A frame's fragments in one piece: as they lie if they follow each other, else copied.
    ///
    /// The slot of an extra info comes after the first fragment's, and its page stays empty. A
    /// first fragment that fills its page is moved there: then it lies before the others, and
    /// one page has been copied instead of all.
    fn place(&mut self, granter: &G, fragments: &mut [Fragment]) -> Option<Place<G::Buf>> {
        if let [(first, 0, PAGE_SIZE), (second, 0, _), ..] = *fragments {
            let hole = (first + 1) % PAGES;
            if second == hole + 1 && self.area.shift(first, hole, PAGE_SIZE) {
                fragments[0] = (hole, 0, PAGE_SIZE);
                self.linearised += PAGE_SIZE as u64;
            }
        }
        let at = |(page, offset, _): Fragment| page * PAGE_SIZE + offset;
        let total = fragments.iter().map(|(.., length)| length).sum::<usize>();
        if total > MAX_FRAME {
            return None;
        }
        let start = at(fragments[0]);
        let mut end = start;
        let contiguous = fragments.iter().all(|fragment| {
            let follows = at(*fragment) == end;
            end += fragment.2;
            follows
        });
        if contiguous {
            return Some(Place::Area(start..start + total));
        }
        let mut buffer = granter.take(None, total).ok()?;
        let mut filled = 0;
        for fragment in fragments.iter() {
            let into = buffer.stack_bytes_mut().get_mut(filled..filled + fragment.2)?;
            if !self.area.get(at(*fragment), into) {
                return None;
            }
            filled += fragment.2;
        }
        self.linearised += total as u64;
        Some(Place::Buffer(buffer, total))
    }

    /// The bytes of a frame in the area.
    pub fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.area.stack_bytes(range)
    }

    /// Asks for an event at the next frame, and looks once more.
    pub fn pending_or_ask(&mut self) -> Result<u32, NetifError> {
        Ok(self.ring.pending_or_ask()?)
    }

    /// The memory of the ring, to be given back.
    pub fn into_words(self) -> W {
        self.ring.into_words()
    }
}
