//! Frames to the driver domain.

use alloc::vec::Vec;
use core::ops::Range;

use xenvelope_grant::netif::{
    EXTRA_TYPE_GSO, ExtraInfo, MAX_TX_SIZE, RSP_NULL, RSP_OKAY, TX_RING_SLOTS, TxFlags, TxRequest,
    TxResponse, gso_from_virtio,
};
use xenvelope_grant::ring::{Front, RingLayout};
use xenvelope_grant::seam::{Access, Granter, Offload, Refused, pages_touched};
use xenvelope_grant::{Peer, Words};

use super::NetifError;

/// The layout of the transmit ring.
pub const LAYOUT: RingLayout = RingLayout::one_page::<TxRequest, TxResponse>();

/// A frame that is out: its grant, and how many of its slots are unanswered.
struct Flight<O> {
    out: O,
    slots: u16,
    refused: bool,
}

/// The transmit ring.
pub struct Transmitter<G: Granter, W> {
    ring: Front<W, TxRequest, TxResponse>,
    to: Peer,
    free_ids: Vec<u16>,
    /// By id: the id under which the frame is filed.
    frame_of: Vec<u16>,
    flights: Vec<Option<Flight<G::Out>>>,
    in_flight: usize,
}

/// No id: the slot is not out.
const NO_ID: u16 = u16::MAX;

/// A frame was not sent; here is its buffer, unless granting took it apart.
pub struct NotSent<B> {
    /// The buffer, still whole.
    pub buffer: B,
    /// Whether the ring was full. Otherwise netif cannot say the frame's size or kind, or
    /// granting failed.
    pub full: bool,
}

/// What became of a frame.
pub enum Finished<G: Granter> {
    /// The driver domain is done with it; it took it.
    Taken(G::Out),
    /// The driver domain is done with it; it dropped or refused it.
    Refused(G::Out),
}

impl<G: Granter, W: Words> Transmitter<G, W> {
    /// A ring in new pages, towards the driver domain `to`.
    pub fn new(words: W, to: Peer) -> Transmitter<G, W> {
        Transmitter {
            ring: Front::new(words, LAYOUT),
            to,
            free_ids: (0..TX_RING_SLOTS as u16).rev().collect(),
            frame_of: (0..TX_RING_SLOTS).map(|_| NO_ID).collect(),
            flights: (0..TX_RING_SLOTS).map(|_| None).collect(),
            in_flight: 0,
        }
    }

    /// Frames that are out.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Grants a frame to the driver domain and puts it into the ring. `frame` is where in the
    /// buffer it lies.
    pub fn send(
        &mut self,
        granter: &G,
        buffer: G::Buf,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), NotSent<G::Buf>> {
        let total = frame.len();
        let pages = pages_touched(&frame);
        let gso = gso_from_virtio(offload.gso_type).filter(|_| offload.gso_size > 0);
        let extra = usize::from(gso.is_some());
        if total > MAX_TX_SIZE || gso.is_some() != (offload.gso_size > 0) {
            return Err(NotSent { buffer, full: false });
        }
        if (self.ring.free() as usize) < pages + extra || self.free_ids.len() < pages {
            return Err(NotSent { buffer, full: true });
        }
        let out = match granter.grant(buffer, self.to, frame, Access::Read) {
            Ok(out) => out,
            Err(Refused { buffer, .. }) => {
                return Err(NotSent { buffer, full: false });
            }
        };
        let segments = granter.segments(&out);
        let mut first_id = NO_ID;
        for (index, segment) in segments.iter().enumerate() {
            // There are as many free ids as segments, by the check above.
            let Some(id) = self.free_ids.pop() else { break };
            let mut flags = TxFlags::empty();
            flags.set(TxFlags::MORE_DATA, index + 1 < segments.len());
            if index == 0 {
                first_id = id;
                flags.set(TxFlags::CSUM_BLANK, offload.needs_checksum);
                flags
                    .set(TxFlags::DATA_VALIDATED, offload.needs_checksum || offload.checksum_valid);
                flags.set(TxFlags::EXTRA_INFO, extra > 0);
            }
            self.frame_of[id as usize] = first_id;
            // The first slot says the size of the whole frame, the others their own: netif.h.
            let size = if index == 0 { total as u16 } else { segment.len };
            let request = TxRequest {
                gref: segment.gref.0,
                offset: segment.offset,
                flags: flags.bits(),
                id,
                size,
            };
            let _ = self.ring.push(&request);
            if index == 0 && extra > 0 {
                let info = ExtraInfo {
                    kind: EXTRA_TYPE_GSO,
                    gso_size: offload.gso_size,
                    gso_type: gso.unwrap_or_default(),
                    ..ExtraInfo::default()
                };
                let _ = self.ring.push(&info.to_tx());
            }
        }
        let slots = segments.len() as u16;
        self.flights[first_id as usize] = Some(Flight { out, slots, refused: false });
        self.in_flight += 1;
        Ok(())
    }

    /// Publishes what was put in. Whether the driver domain wants an event.
    #[must_use = "the driver domain sleeps until it gets the event that it asked for"]
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// Takes answers, and hands over the grants of frames whose slots are all answered.
    pub fn reap(&mut self, mut finished: impl FnMut(Finished<G>)) -> Result<bool, NetifError> {
        let waiting = self.ring.pending()?;
        for _ in 0..waiting {
            let response = self.ring.pop();
            if response.status == RSP_NULL {
                continue;
            }
            let id = response.id;
            let first = self.frame_of.get(id as usize).copied().unwrap_or(NO_ID);
            let Some(flight) = self.flights.get_mut(first as usize).and_then(Option::as_mut) else {
                return Err(NetifError::UnknownId(id));
            };
            self.frame_of[id as usize] = NO_ID;
            // The frame is filed under its first id, which stays taken until the last answer:
            // Linux' netback answers slots one by one, in any order.
            if id != first {
                self.free_ids.push(id);
            }
            flight.refused |= response.status != RSP_OKAY;
            flight.slots -= 1;
            if flight.slots == 0
                && let Some(flight) = self.flights[first as usize].take()
            {
                self.in_flight -= 1;
                self.free_ids.push(first);
                finished(if flight.refused {
                    Finished::Refused(flight.out)
                } else {
                    Finished::Taken(flight.out)
                });
            }
        }
        Ok(waiting > 0)
    }

    /// Asks for an event when half of what is out has been answered, and looks once more.
    pub fn pending_or_ask(&mut self) -> Result<u32, NetifError> {
        let out = self.ring.outstanding();
        if out == 0 {
            return Ok(0);
        }
        Ok(self.ring.ask_after(out.div_ceil(2))?)
    }

    /// Everything that is out, when the connection has ended.
    pub fn abandon(&mut self) -> impl Iterator<Item = G::Out> + '_ {
        self.in_flight = 0;
        self.flights.iter_mut().filter_map(|flight| flight.take().map(|flight| flight.out))
    }

    /// The memory of the ring, to be given back.
    pub fn into_words(self) -> W {
        self.ring.into_words()
    }
}
