//! XSA-155 (CVE-2015-8550): back-ends read a request from shared memory twice, and the guest
//! rewrote it between the check and the use.

use std::cell::Cell;
use std::rc::Rc;

use xenvelope_backend::netback::assemble;
use xenvelope_grant::Gref;
use xenvelope_grant::netif::{TxFlags, TxRequest, TxResponse};
use xenvelope_grant::ring::{Back, Front};
use xenvelope_grant::seam::{Access, Host as _, Share as _, Shared as _};
use xenvelope_hypervisor_sim::machine::{Costs, Machine};
use xenvelope_tests::lab::{Bystanders, RawGuest, Shifting, TX_LAYOUT, frame, mac};

#[test]
fn xsa_155_a_slot_rewritten_as_soon_as_it_was_read() {
    let machine = Machine::new(Costs::ideal());
    let (dom0, guest) = (machine.create_domain("driver", 64), machine.create_domain("guest", 64));
    let page = guest.export(dom0.domid(), 1, Access::Write).expect("memory");
    let mapped = dom0.import(guest.domid(), page.refs(), Access::Write).expect("a page");
    let mut front = Front::<_, TxRequest, TxResponse>::new(page, TX_LAYOUT);
    let more = TxFlags::MORE_DATA.bits();
    let honest = [(8, 300, more), (9, 100, more), (10, 100, 0)];
    for (gref, size, flags) in honest {
        let slot = TxRequest { gref, offset: 0, flags, id: gref as u16, size };
        front.push(&slot).expect("room");
    }
    let _ = front.publish();
    // Beyond its page, by another reference, and with more to come.
    let evil = [1, 0, 0, 0, 0xA0, 0x0F, 4, 0, 99, 0, 0xFF, 0xFF];
    let words = Shifting::new(mapped, &evil);
    let mut back = Back::attach(words, TX_LAYOUT);
    let waiting = back.pending().expect("three");
    let taken = assemble(&mut back, waiting).expect("what was published is a frame");
    assert_eq!(back.words().rewritten(), 3, "the guest did rewrite each slot");
    assert_eq!(back.words().reads(), [1, 1, 1], "each was read once");
    let pieces: Vec<_> = taken.fragments.iter().map(|f| (f.gref, f.offset, f.len)).collect();
    assert_eq!(pieces, [(Gref(8), 0, 100), (Gref(9), 0, 100), (Gref(10), 0, 100)]);
    assert_eq!(taken.ids[..], [8, 9, 10]);
    assert!(!taken.refused);
}

#[test]
fn xsa_155_a_header_rewritten_after_it_was_inspected() {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let honest = frame(mac(0), mac(9), &[7; 1000]);
    let forged = frame(mac(0), mac(1), &[7; 1000]);
    let gref = guest.page(&honest);
    guest.chain(0, honest.len() as u16, &[(gref, 0, 0)]);
    let rewrite = guest.rewriter();
    let calls = Rc::new(Cell::new(0));
    let seen = Rc::clone(&calls);
    // The first call of the round has fetched the headers, the second copies the frame.
    let other = forged.clone();
    lab.backend_hooks.before_copy(move || {
        seen.set(seen.get() + 1);
        if seen.get() == 2 {
            rewrite(&other);
        }
    });
    guest.publish();
    lab.steps(3);
    assert!(calls.get() >= 2, "the page was rewritten between the calls");
    lab.backend_hooks.before_copy(|| ());
    let received = lab.guests[0].take_received();
    assert_eq!(received, [honest], "what was inspected is what arrives");
    assert_eq!(guest.answers().len(), 1);
    others.unharmed(&mut lab);
}
