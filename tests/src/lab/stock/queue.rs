//! A queue of such a guest.

use std::collections::VecDeque;

use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::netif::{ExtraInfo, RxFlags, RxRequest, RxResponse, TxRequest, TxResponse};
use xenvelope_grant::ring::Front;
use xenvelope_grant::seam::ReceiveArea as _;
use xenvelope_hypervisor_sim::machine::{GrantedBuffer, PageArea, Port, SharedPages};

/// A queue.
pub struct StockQueue {
    /// The transmit ring.
    pub tx: Front<SharedPages, TxRequest, TxResponse>,
    /// The receive ring.
    pub rx: Front<SharedPages, RxRequest, RxResponse>,
    pub(super) area: PageArea,
    /// Its ports: one, or one for each ring.
    pub ports: Vec<Port>,
    /// What is to be answered, in order: an id, or nothing for an extra info; and the grant.
    pub(super) sent: VecDeque<(Option<u16>, Option<GrantedBuffer>)>,
    /// Frames that were answered with errors.
    pub refused: usize,
    /// A slot of the frame that is being answered was.
    pub(super) refusing: bool,
}

impl StockQueue {
    fn page(&mut self, response: &RxResponse, at: u32) -> usize {
        assert_eq!(u32::from(response.id), at % 256, "a response takes its request's place");
        (at % 256) as usize
    }

    /// One response: flags, and bytes if it is no error.
    pub(super) fn slot(&mut self) -> (RxFlags, Option<Vec<u8>>) {
        let at = self.rx.next_index().wrapping_sub(self.rx.outstanding());
        let response = self.rx.pop();
        let page = self.page(&response, at);
        assert!(self.area.close(page).is_ok(), "the backend is out of the page");
        let flags = RxFlags::from_bits_retain(response.flags);
        let length = usize::try_from(response.status).ok();
        let bytes = length.and_then(|length| {
            let at = page * PAGE_SIZE + usize::from(response.offset);
            self.area.stack_bytes(at..at + length).map(<[u8]>::to_vec)
        });
        (flags, bytes)
    }

    pub(super) fn extra(&mut self) -> ExtraInfo {
        let at = self.rx.next_index().wrapping_sub(self.rx.outstanding());
        let info = ExtraInfo::from_rx(&self.rx.pop());
        assert!(self.area.close((at % 256) as usize).is_ok());
        info
    }
}
