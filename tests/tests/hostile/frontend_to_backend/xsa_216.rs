//! XSA-216: responses were written with padding that nobody had initialised, so a guest read the
//! back-end's stack.

use xenvelope_grant::Words as _;
use xenvelope_grant::netif::{EXTRA_TYPE_GSO, ExtraInfo, GSO_TYPE_TCPV4, TxFlags};
use xenvelope_tests::lab::{Bystanders, RawGuest, StockGuest, StockPlan, mac, tcp_frame};

/// What the guest leaves in every byte of its rings' slots.
const PAINT: u8 = 0xA5;

#[test]
fn xsa_216_a_transmit_answer_is_four_bytes_and_no_more() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let bytes = tcp_frame(mac(0), mac(9), 3000);
    let gref = guest.page(&bytes);
    guest.stock.queues[0].tx.words().copy_in(64, &[PAINT; 4096 - 64]);
    let flags = TxFlags::EXTRA_INFO.bits();
    let size = bytes.len() as u16;
    let first = xenvelope_grant::netif::TxRequest { gref: gref.0, offset: 0, flags, id: 5, size };
    let (kind, gso_type) = (EXTRA_TYPE_GSO, GSO_TYPE_TCPV4);
    let extra = ExtraInfo { kind, gso_size: 1448, gso_type, ..ExtraInfo::default() };
    guest.push(first);
    guest.push_extra(extra);
    guest.publish();
    let mut before = [0; 24];
    guest.stock.queues[0].tx.words().copy_out(64, &mut before);
    lab.steps(3);
    assert_eq!(guest.answers().len(), 2);
    let mut after = [0; 4096 - 64];
    guest.stock.queues[0].tx.words().copy_out(64, &mut after);
    assert_eq!(after[..4], [5, 0, 0, 0], "id and status");
    assert_eq!(after[12..16], [0, 0, 1, 0], "no id, and that it is no answer");
    assert_eq!((&after[4..12], &after[16..24]), (&before[4..12], &before[16..24]));
    assert!(after[24..].iter().all(|byte| *byte == PAINT));
    others.unharmed(&mut lab);
}

#[test]
fn xsa_216_the_padding_of_an_extra_info_is_zero() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut from = StockGuest::connect(&mut lab, mac(8), &StockPlan::default());
    let guest = RawGuest::connect(&mut lab, mac(9));
    let rx = guest.stock.queues[0].rx.words();
    let at = |index: usize| 64 + 8 * index;
    let bytes = tcp_frame(mac(9), mac(8), 6000);
    from.send(0, &bytes, TxFlags::CSUM_BLANK, Some((1448, GSO_TYPE_TCPV4)));
    lab.steps(3);
    let slot = |index| {
        let mut slot = [0; 8];
        rx.copy_out(at(index), &mut slot);
        slot
    };
    assert_eq!(slot(1), [1, 0, 0xA8, 0x05, 1, 0, 0, 0], "kind, flags, 1448, TCPv4, zeros");
    // A piece fills its slot: id, offset, flags, length.
    assert_eq!(slot(2), [2, 0, 0, 0, 0, 0, 0x70, 0x07], "the last 1904 bytes");
    let mut third = [0; 8];
    rx.copy_out(at(3), &mut third);
    assert_eq!(third[..4], [3, 0, 0, 0], "a request still");
    others.unharmed(&mut lab);
}
